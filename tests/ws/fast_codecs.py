"""The fast codec in both builds, with compiled functions and with their plain twins."""

import zlib
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import strategies as st

from tests.plain import plain_codec
from wsgate.ws.codecs import fast_codec
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.deflate.negotiation import Agreement, DeflateSettings
from wsgate.ws.deflate.wsproto_extension import MessageExtension
from wsgate.ws.frames import (
    fast_codec as fast_codec_module,
)
from wsgate.ws.frames.codec import Fail, FrameCodec, Item, PeerClose
from wsgate.ws.frames.fast_codec import FastCodec
from wsgate.ws.frames.wsproto_codec import WsprotoCodec
from wsgate.ws.limits import MessageLimits

PROTOCOL_ERROR = Fail(1002, "protocol error")
INVALID_PAYLOAD = Fail(1007, "invalid payload")
TOO_BIG = Fail(1009, "message too big")
MIB = 1_048_576
DEFAULT = MessageLimits()
EAGER = DeflateSettings(threshold=8)
AGREEMENTS: dict[str, Agreement | None] = {
    "no deflate": None,
    "fresh": Agreement(EAGER, server_no_context_takeover=True, client_no_context_takeover=True),
    "takeover": Agreement(EAGER),
    "the client's takeover": Agreement(EAGER, server_no_context_takeover=True),
    "the server's takeover": Agreement(EAGER, client_no_context_takeover=True),
    "small windows": Agreement(
        EAGER,
        server_no_context_takeover=True,
        client_no_context_takeover=True,
        server_max_window_bits=9,
        client_max_window_bits=9,
    ),
}
FRESH, TAKEOVER = AGREEMENTS["fresh"], AGREEMENTS["takeover"]
MAKERS = {"compiled": fast_codec, "plain": plain_codec}


def fast(
    build: str, agreement: Agreement | None = None, limits: MessageLimits = DEFAULT
) -> FastCodec:
    return MAKERS[build](limits, agreement, Compressors(6))


def wsproto(agreement: Agreement | None = None, limits: MessageLimits = DEFAULT) -> FrameCodec:
    return WsprotoCodec(MessageExtension(limits, agreement, Compressors(6)))


def take_all(codec: FrameCodec, limit: int = 1_000) -> list[Item]:
    """Take all pending items."""
    items: list[Item] = []
    while codec.pending:
        taken = codec.take(limit)
        assert len(taken) <= limit
        items += taken
    return items


def read(codec: FrameCodec, pieces: Iterable[bytes], limit: int = 1_000) -> list[Item]:
    """Take the pieces one by one, and all pending items after each."""
    items: list[Item] = []
    for piece in pieces:
        items += [*codec.take(limit, piece), *take_all(codec, limit)]
    return items


def is_end(items: Sequence[Item]) -> bool:
    return bool(items) and isinstance(items[-1], Fail | PeerClose)


def holds_nothing(codec: FastCodec) -> bool:
    """Return whether the codec holds nothing, as before its first byte."""
    held = (codec._partial, codec._splitter, codec._input, codec._position, codec._is_busy)
    return held == (None, None, b"", 0, False) and not codec.pending


PAYLOADS: st.SearchStrategy[str | bytes] = st.one_of(
    st.text(max_size=60),
    st.binary(max_size=60),
    st.sampled_from(["", b"", "x" * 125, b"y" * 126, "ü" * 100, b"z" * 127, "\U0001f600" * 40]),
    st.builds(lambda text, times: text * times, st.text(max_size=4), st.integers(0, 1_500)),
    st.sampled_from([b"0123456789" * 6_554, "é" * 33_000]),
)


def finished(data: bytes, after: bytes) -> bytes:
    """Return a payload whose first block is its last (BFINAL), and the data after it."""
    compressor = zlib.compressobj(wbits=-9)
    return compressor.compress(data) + compressor.flush(zlib.Z_FINISH) + after


class WsprotoUse:
    """Counts the octets passed to wsproto, and the wsproto codecs made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.octets = self.codecs = 0
        use = self

        class Counting(WsprotoCodec):
            __slots__ = ()

            def __init__(self, deflate: MessageExtension) -> None:
                super().__init__(deflate)
                use.codecs += 1

            def take(self, limit: int, data: bytes = b"") -> list[Item]:
                use.octets += len(data)
                return super().take(limit, data)

        monkeypatch.setattr(fast_codec_module, "WsprotoCodec", Counting)
