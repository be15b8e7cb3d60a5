"""Which codec a connection gets."""

import pytest

from wsgate.ws.codecs import codec_maker, fast_codec, wsproto_codec
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.deflate.negotiation import Agreement, DeflateSettings
from wsgate.ws.frames.deflate_codec import CompressingCodec, DeflateCodec
from wsgate.ws.frames.fast_codec import FastCodec
from wsgate.ws.frames.wsproto_codec import WsprotoCodec
from wsgate.ws.limits import MessageLimits

SETTINGS = DeflateSettings()
LIMITS = MessageLimits()


@pytest.mark.parametrize(
    ("agreement", "kind"),
    [
        (None, FastCodec),
        (Agreement(SETTINGS), CompressingCodec),
        (Agreement(SETTINGS, server_no_context_takeover=True), CompressingCodec),
        (Agreement(SETTINGS, client_no_context_takeover=True), DeflateCodec),
        (Agreement(SETTINGS, True, True), DeflateCodec),
    ],
)
def test_the_codec_depends_on_the_agreement(
    agreement: Agreement | None, kind: type[FastCodec]
) -> None:
    compressors = Compressors(6)
    assert type(fast_codec(LIMITS, agreement, compressors)) is kind
    assert type(codec_maker(LIMITS, compressors, is_fast=True)(agreement)) is kind
    assert type(wsproto_codec(LIMITS, agreement, compressors)) is WsprotoCodec
    assert type(codec_maker(LIMITS, compressors, is_fast=False)(agreement)) is WsprotoCodec
