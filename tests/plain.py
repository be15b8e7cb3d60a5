"""The fast codecs with the Python twins of the compiled functions, as without a compiler."""

from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.deflate.negotiation import Agreement
from wsgate.ws.frames import messages
from wsgate.ws.frames.deflate_codec import CompressingCodec, DeflateCodec
from wsgate.ws.frames.fast_codec import FastCodec
from wsgate.ws.limits import MessageLimits


class _Plain:
    __slots__ = ()

    _read_messages = staticmethod(messages.read_messages)
    _read_compressed = staticmethod(messages.read_compressed)
    _unmask = staticmethod(messages.unmask)
    is_pong = staticmethod(messages.is_pong)


class PlainCodec(_Plain, FastCodec):
    __slots__ = ()

    read_message = staticmethod(messages.read_message)
    message = staticmethod(messages.data_frame)


class PlainCompressingCodec(_Plain, CompressingCodec):
    __slots__ = ()

    read_message = staticmethod(messages.read_message)
    _plain_message = staticmethod(messages.data_frame)


class PlainDeflateCodec(_Plain, DeflateCodec):
    __slots__ = ()

    _read_plain = staticmethod(messages.read_message)
    _plain_message = staticmethod(messages.data_frame)


def plain_codec(
    limits: MessageLimits, agreement: Agreement | None, compressors: Compressors
) -> FastCodec:
    if agreement is None:
        return PlainCodec(limits, None, compressors)
    if agreement.client_no_context_takeover:
        return PlainDeflateCodec(limits, agreement, compressors)
    return PlainCompressingCodec(limits, agreement, compressors)
