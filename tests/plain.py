"""The fast lane without the compiled part, as it runs where no compiler was found."""

from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.deflate.negotiation import Agreement
from wsgate.ws.deflate.wsproto_extension import MessageLimits
from wsgate.ws.frames import messages
from wsgate.ws.frames.deflate_codec import DeflatingCodec, InflatingCodec
from wsgate.ws.frames.fast_codec import FastCodec


class _Plain:
    __slots__ = ()

    _read_messages = staticmethod(messages.read_messages)
    _unmask = staticmethod(messages.unmask)


class PlainCodec(_Plain, FastCodec):
    __slots__ = ()

    read_message = staticmethod(messages.read_message)
    message = staticmethod(messages.data_frame)


class PlainDeflatingCodec(_Plain, DeflatingCodec):
    __slots__ = ()

    read_message = staticmethod(messages.read_message)
    _data_frame = staticmethod(messages.data_frame)


class PlainInflatingCodec(_Plain, InflatingCodec):
    __slots__ = ()

    _read_message = staticmethod(messages.read_message)
    _read_compressed = staticmethod(messages.read_compressed)
    _data_frame = staticmethod(messages.data_frame)


def plain_codec(
    limits: MessageLimits, agreement: Agreement | None, compressors: Compressors
) -> FastCodec:
    if agreement is None:
        return PlainCodec(limits, None, compressors)
    fresh = agreement.client_no_context_takeover
    return (PlainInflatingCodec if fresh else PlainDeflatingCodec)(limits, agreement, compressors)
