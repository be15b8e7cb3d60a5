"""The codecs under test, and what the tests of all codecs share."""

import itertools
from collections.abc import Iterable
from typing import Protocol as Interface

from hypothesis import strategies as st

from tests.frames import (
    PONG,
    TEXT,
    frame,
    ways,
)
from tests.plain import plain_codec
from wsgate.ws.codecs import fast_codec, wsproto_codec
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.deflate.negotiation import Agreement, DeflateSettings
from wsgate.ws.frames.codec import Fail, FrameCodec, Item, PeerClose, Ping, Pong
from wsgate.ws.limits import MessageLimits

PROTOCOL_ERROR = Fail(1002, "protocol error")
INVALID_PAYLOAD = Fail(1007, "invalid payload")
TOO_BIG = Fail(1009, "message too big")
DEFAULT = MessageLimits()
SMALL = MessageLimits(size=100, fragments=4)
MIB = 1_048_576


class MakeCodec(Interface):
    """Makes the codec under test for one connection."""

    def __call__(
        self, agreement: Agreement | None = None, limits: MessageLimits = DEFAULT
    ) -> FrameCodec: ...


def make_wsproto(agreement: Agreement | None = None, limits: MessageLimits = DEFAULT) -> FrameCodec:
    return wsproto_codec(limits, agreement, Compressors(6))


def make_fast(agreement: Agreement | None = None, limits: MessageLimits = DEFAULT) -> FrameCodec:
    return fast_codec(limits, agreement, Compressors(6))


def make_plain(agreement: Agreement | None = None, limits: MessageLimits = DEFAULT) -> FrameCodec:
    return plain_codec(limits, agreement, Compressors(6))


CODECS: dict[str, MakeCodec] = {
    "wsproto": make_wsproto,
    "fast": make_fast,
    "plain": make_plain,
}
EAGER = DeflateSettings(threshold=0)
FRESH = Agreement(EAGER, server_no_context_takeover=True, client_no_context_takeover=True)
TAKEOVER = Agreement(DeflateSettings(threshold=0, context_takeover=True))
AGREEMENTS = {"no deflate": None, "fresh": FRESH, "takeover": TAKEOVER}
VALID_CODES = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]


def read(codec: FrameCodec, pieces: Iterable[bytes], limit: int = 1_000) -> list[Item]:
    """Take the pieces one by one, and all pending items after each."""
    items: list[Item] = []
    for piece in pieces:
        taken = codec.take(limit, piece)
        assert len(taken) <= limit
        items += [*taken, *all_of(codec, limit)]
    for item in items:
        assert type(item) in (str, bytes, Ping, Pong, PeerClose, Fail)
        assert not isinstance(item, (Ping, Pong)) or type(item.payload) is bytes
    return items


def all_of(codec: FrameCodec, limit: int = 1_000) -> list[Item]:
    items: list[Item] = []
    while codec.pending:
        taken = codec.take(limit)
        assert len(taken) <= limit
        items += taken
    return items


def items_fed(codec: FrameCodec, pieces: Iterable[bytes]) -> list[Item]:
    """Feed all pieces before the first take."""
    for piece in pieces:
        codec.feed(piece)
    return all_of(codec)


def items_of(
    make: MakeCodec,
    data: bytes,
    agreement: Agreement | None = None,
    limits: MessageLimits = DEFAULT,
    *,
    is_whole: bool = True,
) -> list[Item]:
    """Return the items in `data`, which must be the same in whatever pieces it arrives.

    is_whole: it ends with a whole frame, so that another one may follow.
    """
    items = read(make(agreement, limits), [data])
    for pieces in ways(data):
        assert read(make(agreement, limits), pieces) == items
    assert items_fed(make(agreement, limits), [data[:3], data[3:]]) == items
    assert read(make(agreement, limits), [data], limit=1) == items
    ended = bool(items) and isinstance(items[-1], (Fail, PeerClose))
    if ended or is_whole:
        trailing = frame(TEXT, "after") if ended else frame(PONG, b"after")[:-1]
        assert read(make(agreement, limits), [data + trailing]) == items
        assert read(make(agreement, limits), [data, trailing, trailing[-1:] * ended]) == items
    return items


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return `data` in pieces that end at these places, modulo its length."""
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(ends)]


PLACES = st.lists(st.integers(0, 1 << 20), max_size=8)
PAYLOADS = st.one_of(
    st.text(max_size=200),
    st.binary(max_size=200),
    st.builds(lambda text, times: text * times, st.text(max_size=20), st.integers(0, 300)),
)
