"""The fast lane without the compiled part, as it runs where no compiler was found."""

from wsgate.protocol import frames
from wsgate.protocol.codec_fast import DeflatingCodec, FastCodec, InflatingCodec
from wsgate.protocol.deflate import Compressors, MessageLimits
from wsgate.protocol.negotiation import Agreement


class PlainCodec(FastCodec):
    __slots__ = ()

    read_message = staticmethod(frames.read_message)
    _read_messages = staticmethod(frames.read_messages)
    _unmask = staticmethod(frames.unmask)
    message = staticmethod(frames.data_frame)


class PlainDeflatingCodec(DeflatingCodec):
    __slots__ = ()

    read_message = staticmethod(frames.read_message)
    _read_messages = staticmethod(frames.read_messages)
    _unmask = staticmethod(frames.unmask)
    _data_frame = staticmethod(frames.data_frame)


class PlainInflatingCodec(InflatingCodec):
    __slots__ = ()

    _read_message = staticmethod(frames.read_message)
    _read_compressed = staticmethod(frames.read_compressed)
    _read_messages = staticmethod(frames.read_messages)
    _unmask = staticmethod(frames.unmask)
    _data_frame = staticmethod(frames.data_frame)


def plain_codec(
    limits: MessageLimits, agreement: Agreement | None, compressors: Compressors
) -> FastCodec:
    if agreement is None:
        return PlainCodec(limits, None, compressors)
    fresh = agreement.client_no_context_takeover
    return (PlainInflatingCodec if fresh else PlainDeflatingCodec)(limits, agreement, compressors)
