"""Chooses the codec of a connection."""

import functools
from collections.abc import Callable

from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.deflate.negotiation import Agreement
from wsgate.ws.deflate.wsproto_extension import MessageExtension
from wsgate.ws.frames.codec import FrameCodec
from wsgate.ws.frames.deflate_codec import CompressingCodec, DeflateCodec
from wsgate.ws.frames.fast_codec import FastCodec
from wsgate.ws.frames.wsproto_codec import WsprotoCodec
from wsgate.ws.limits import MessageLimits


def fast_codec(
    limits: MessageLimits, agreement: Agreement | None, compressors: Compressors
) -> FastCodec:
    """Return the fast codec for an agreement on permessage-deflate, None without it."""
    if agreement is None:
        return FastCodec(limits, None, compressors)
    if agreement.client_no_context_takeover:
        return DeflateCodec(limits, agreement, compressors)
    return CompressingCodec(limits, agreement, compressors)


def wsproto_codec(
    limits: MessageLimits, agreement: Agreement | None, compressors: Compressors
) -> WsprotoCodec:
    """Return the codec that reads and writes every frame with wsproto."""
    return WsprotoCodec(MessageExtension(limits, agreement, compressors))


def codec_maker(
    limits: MessageLimits, compressors: Compressors, *, is_fast: bool
) -> Callable[[Agreement | None], FrameCodec]:
    """Return the function that makes the codec of each new connection.

    Its argument is the agreement on permessage-deflate, None without it. is_fast: the setting
    ws_fast_path.
    """
    choose = fast_codec if is_fast else wsproto_codec
    return functools.partial(choose, limits, compressors=compressors)
