"""The fast lane without the compiled part, as it runs where no compiler was found."""

from wsgate.protocol import frames
from wsgate.protocol.codec_deflating import DeflatingCodec, InflatingCodec
from wsgate.protocol.codec_fast import FastCodec
from wsgate.protocol.compression import Compressors
from wsgate.protocol.deflate import MessageLimits
from wsgate.protocol.negotiation import Agreement


class _Plain:
    __slots__ = ()

    _read_messages = staticmethod(frames.read_messages)
    _unmask = staticmethod(frames.unmask)


class PlainCodec(_Plain, FastCodec):
    __slots__ = ()

    read_message = staticmethod(frames.read_message)
    message = staticmethod(frames.data_frame)


class PlainDeflatingCodec(_Plain, DeflatingCodec):
    __slots__ = ()

    read_message = staticmethod(frames.read_message)
    _data_frame = staticmethod(frames.data_frame)


class PlainInflatingCodec(_Plain, InflatingCodec):
    __slots__ = ()

    _read_message = staticmethod(frames.read_message)
    _read_compressed = staticmethod(frames.read_compressed)
    _data_frame = staticmethod(frames.data_frame)


def plain_codec(
    limits: MessageLimits, agreement: Agreement | None, compressors: Compressors
) -> FastCodec:
    if agreement is None:
        return PlainCodec(limits, None, compressors)
    fresh = agreement.client_no_context_takeover
    return (PlainInflatingCodec if fresh else PlainDeflatingCodec)(limits, agreement, compressors)
