"""The wsproto codec, compared with wsproto's own `Connection`."""

import itertools
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings, strategies as st
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping as PingEvent,
    Pong as PongEvent,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason, FrameDecoder

from tests.frames import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    RSV1,
    RSV2,
    TEXT,
    close,
    deflated,
    fragments,
    frame,
)
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.deflate.negotiation import Agreement, DeflateSettings
from wsgate.ws.deflate.wsproto_extension import MessageExtension
from wsgate.ws.frames import wsproto_codec
from wsgate.ws.frames.codec import Fail, Item, PeerClose, Ping, Pong
from wsgate.ws.frames.wsproto_codec import WsprotoCodec
from wsgate.ws.limits import MessageLimits

LIMITS = MessageLimits(size=300, fragments=5)
EAGER = DeflateSettings(threshold=8)
AGREEMENTS: dict[str, Agreement | None] = {
    "no deflate": None,
    "fresh": Agreement(EAGER, server_no_context_takeover=True, client_no_context_takeover=True),
    "takeover": Agreement(EAGER),
}
REASONS = {1002: "protocol error", 1007: "invalid payload", 1009: "message too big"}
PEER_CLOSED = (ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED)


class Reference:
    """wsproto's events, made items of: what `WsprotoCodec` was at first, without its laziness."""

    def __init__(self, deflate: MessageExtension) -> None:
        self._wsproto = Connection(ConnectionType.SERVER, [deflate])
        self._pieces: list[str | bytes] = []

    def take(self, data: bytes) -> list[Item]:
        if self._wsproto.state not in PEER_CLOSED:
            self._wsproto.receive_data(data)
        items = (self._item(event) for event in self._wsproto.events())
        return [item for item in items if item is not None]

    def _item(self, event: Event) -> Item | None:
        if isinstance(event, Message):
            self._pieces.append(event.data if isinstance(event.data, str) else bytes(event.data))
            return self._joined() if event.message_finished else None
        if isinstance(event, PingEvent):
            return Ping(bytes(event.payload))
        if isinstance(event, PongEvent):
            return Pong(bytes(event.payload))
        assert isinstance(event, CloseConnection)
        code = int(event.code)
        if self._wsproto.state in PEER_CLOSED:
            return PeerClose(code, event.reason or "")
        return Fail(code, REASONS[code])

    def _joined(self) -> str | bytes:
        pieces, self._pieces = self._pieces, []
        return "".join(pieces) if isinstance(pieces[0], str) else b"".join(pieces)  # type: ignore[arg-type]  # all are of the first one's kind

    def message(self, payload: str | bytes) -> bytes:
        if isinstance(payload, str):
            return bytes(self._wsproto.send(TextMessage(data=payload)))
        return bytes(self._wsproto.send(BytesMessage(data=payload)))

    def ping(self, payload: bytes) -> bytes:
        return bytes(self._wsproto.send(PingEvent(payload=payload)))

    def pong(self, payload: bytes) -> bytes:
        return bytes(self._wsproto.send(PongEvent(payload=payload)))

    def close(self, code: int, reason: str) -> bytes:
        known = CloseReason.NO_STATUS_RCVD if code == CloseReason.NO_STATUS_RCVD else code
        return bytes(self._wsproto.send(CloseConnection(code=known, reason=reason or None)))


@pytest.fixture(scope="module", params=AGREEMENTS)
def agreement(request: pytest.FixtureRequest) -> Agreement | None:
    return AGREEMENTS[request.param]


def deflate(agreement: Agreement | None, limits: MessageLimits = LIMITS) -> MessageExtension:
    return MessageExtension(limits, agreement, Compressors(6))


def items_of(codec: WsprotoCodec, pieces: Iterable[bytes], limit: int = 1_000) -> list[Item]:
    """Take the pieces one by one, and all pending items after each."""
    items: list[Item] = []
    for piece in pieces:
        items += codec.take(limit, piece)
        while codec.pending:
            taken = codec.take(limit)
            assert len(taken) <= limit
            items += taken
    return items


# -- reading -----------------------------------------------------------------------------------

BAD_TEXT = [*map(bytes.fromhex, ("ff", "c3", "eda080", "61eda0", "ed", "a0", "f4908080"))]
CONTENT = st.one_of(
    st.sampled_from([b"", b"a", "ü".encode(), b"\xc3", b"\xbc", b"x" * 126, *BAD_TEXT]),
    st.text(max_size=130).map(str.encode),
    # All but 1014 in a Close, which wsproto does not know.
    st.binary(max_size=130).filter(lambda data: not data.startswith(b"\x03\xf6")),
)
COMMON = st.one_of(
    st.builds(frame, st.sampled_from([TEXT, BINARY]), st.text(max_size=130)),
    st.builds(frame, st.sampled_from([PING, PONG]), st.binary(max_size=125)),
)
PARTS = st.builds(
    frame, st.sampled_from([TEXT, BINARY, CONT, CONT]), CONTENT, fin=st.sampled_from([False, True])
)
DEFLATED = st.builds(
    lambda opcode, content, cut, fin: frame(opcode, deflated(content)[cut:], fin=fin, rsv=RSV1),
    st.sampled_from([TEXT, BINARY]),
    st.one_of(CONTENT, st.just(bytes(400))),
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([True, True, False]),
)
CODES = st.sampled_from([0, 999, 1000, 1001, 1004, 1005, 1006, 1012, 1015, 1016, 2999, 3000, 5000])
CLOSES = st.one_of(
    st.builds(close, CODES, st.one_of(st.text(max_size=20), st.sampled_from(BAD_TEXT))),
    st.sampled_from([close(), frame(CLOSE, b"\x03")]),
)
ODD = st.builds(
    frame,
    st.integers(0, 15),
    CONTENT,
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, RSV1, RSV2]),
    mask=st.sampled_from([b"\0\0\0\0", b"\1\2\3\4", None]),
    declared=st.sampled_from([None, None, 3, 90, 301, 70_000, 1 << 63]),
)
ONE = st.one_of(COMMON, COMMON, PARTS, PARTS, DEFLATED, CLOSES, ODD, st.binary(max_size=6))
PLACES = st.lists(st.integers(0, 1 << 12), max_size=8)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return `data` in pieces that end at these places, counted round."""
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(ends)]


@settings(deadline=None, max_examples=400)
@given(st.lists(ONE, max_size=10).map(b"".join), PLACES, st.integers(1, 4))
def test_the_codec_reads_as_wsprotos_connection_does(
    agreement: Agreement | None, sent: bytes, places: list[int], limit: int
) -> None:
    reference, codec = Reference(deflate(agreement)), WsprotoCodec(deflate(agreement))
    lazy = WsprotoCodec(deflate(agreement))
    expected: list[Item] = []
    taken: list[Item] = []
    lazily: list[Item] = []
    for piece in cut(sent, places):
        expected += reference.take(piece)
        taken += items_of(codec, [piece])
        assert taken == expected
        lazily += items_of(lazy, [piece], limit)
        assert lazily == expected
    if expected and isinstance(expected[-1], Fail | PeerClose):
        assert items_of(codec, [frame(TEXT, "after")]) == []
        assert (codec.buffered, codec.pending, lazy.pending) == (0, False, False)


@settings(deadline=None, max_examples=100)
@given(st.lists(ONE, max_size=10).map(b"".join), st.integers(1, 30), st.integers(1, 4))
def test_the_codec_reads_slices_as_wsprotos_connection_does(
    agreement: Agreement | None, sent: bytes, size: int, limit: int
) -> None:
    reference = Reference(deflate(agreement))
    slices = [sent[at : at + size] for at in range(0, len(sent), size)]
    expected = [item for piece in slices for item in reference.take(piece)]
    assert items_of(WsprotoCodec(deflate(agreement), size), [sent], limit) == expected


def test_nothing_is_pending_after_the_last_whole_frame() -> None:
    codec = WsprotoCodec(deflate(None))
    for data in (frame(TEXT, "a"), frame(PING), frame(BINARY, b"")):
        assert len(codec.take(1, data)) == 1
        assert not codec.pending
    assert codec.take(1, frame(TEXT, "a") + frame(TEXT, "b")[:1]) == ["a"]
    assert codec.pending
    assert codec.take(1) == []
    assert codec.take(1, frame(TEXT, "b")[1:]) == ["b"]


# -- bypassing the extension -------------------------------------------------------------------


class Asked:
    """How often the extension was asked about a header, a piece and an end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hooks: list[str] = []
        for name in ("header", "payload_data", "complete"):
            monkeypatch.setattr(MessageExtension, f"frame_inbound_{name}", self._noted(name))

    def _noted(self, name: str) -> Callable[..., object]:
        original: Callable[..., object] = getattr(MessageExtension, f"frame_inbound_{name}")

        def hook(*args: object) -> object:
            self.hooks.append(name)
            return original(*args)

        return hook


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


def test_common_messages_bypass_the_extension(agreement: Agreement | None, asked: Asked) -> None:
    common: list[str | bytes] = ["a", b"b" * 125, "", b"", "ü" * 63, b"c" * 300]
    frames = [frame(TEXT if isinstance(item, str) else BINARY, item) for item in common]
    for pieces in (frames, [b"".join(frames)], [frames[0] + frames[1], b"".join(frames[2:])]):
        assert items_of(WsprotoCodec(deflate(agreement)), pieces) == common
    assert asked.hooks == []


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (frame(BINARY, b"x" * 301), Fail(1009, "message too big")),
        (frame(BINARY, b"x", rsv=RSV2), Fail(1002, "protocol error")),
        (frame(BINARY, b"x", declared=301), Fail(1009, "message too big")),
        (frame(TEXT, b"\xed\xa0", declared=20), Fail(1007, "invalid payload")),
        (frame(CONT, b"x"), Fail(1002, "protocol error")),
        (b"".join(fragments(TEXT, [b"a", b"b"])), "ab"),
        (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), Fail(1002, "protocol error")),
        (b"".join(fragments(TEXT, [b"x"] * 6)), Fail(1009, "message too big")),
        (frame(PING, b"a"), Ping(b"a")),
    ],
)
def test_the_extension_is_called_for_other_frames(
    agreement: Agreement | None, asked: Asked, data: bytes, expected: Item
) -> None:
    codec = WsprotoCodec(deflate(agreement))
    assert codec.take(9, data) == [expected]
    assert asked.hooks


def test_the_extension_is_called_for_an_incomplete_message(
    agreement: Agreement | None, asked: Asked
) -> None:
    data = frame(TEXT, "abc")
    for end in range(1, len(data)):
        assert items_of(WsprotoCodec(deflate(agreement)), [data[:end], data[end:]]) == ["abc"]
        # While its header is incomplete nothing has been counted, so it may still be common.
        assert ("complete" in asked.hooks) is (end >= 6)
        asked.hooks.clear()


@settings(deadline=None, max_examples=60)
@given(st.lists(ONE, max_size=10).map(b"".join), PLACES)
def test_the_result_is_the_same_if_the_extension_is_always_called(
    agreement: Agreement | None, sent: bytes, places: list[int]
) -> None:
    # As when wsproto comes to call its method by another name: the bounds hold all the same.
    pieces = cut(sent, places)
    expected = items_of(WsprotoCodec(deflate(agreement)), pieces)
    codec = WsprotoCodec(deflate(agreement))
    always = FrameDecoder.extension_processing
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wsproto_codec._Decoder, "extension_processing", always)
        assert items_of(codec, pieces) == expected


# -- writing -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.text(max_size=200), st.binary(max_size=200)), max_size=8))
def test_the_codec_writes_as_wsprotos_connection_does(
    agreement: Agreement | None, payloads: list[str | bytes]
) -> None:
    reference, codec = Reference(deflate(agreement)), WsprotoCodec(deflate(agreement))
    for payload in [*payloads, "x" * 125, b"x" * 126, bytes(65_536)]:
        assert codec.message(payload) == reference.message(payload)
        if isinstance(payload, bytes):
            assert codec.ping(payload[:125]) == reference.ping(payload[:125])
            assert codec.pong(payload[:125]) == reference.pong(payload[:125])


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1011, 3000, 4999])
@pytest.mark.parametrize("reason", ["", "grüß", "r" * 123])
def test_the_codec_closes_as_wsprotos_connection_does(
    agreement: Agreement | None, code: int, reason: str
) -> None:
    if code == 1005 and reason:
        return
    reference, codec = Reference(deflate(agreement)), WsprotoCodec(deflate(agreement))
    assert codec.close(code, reason) == reference.close(code, reason)
