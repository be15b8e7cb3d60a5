"""The fast codec compared with plain wsproto: what it reads itself, and what it holds.

The tests of all codecs are in test_codec_*.py, which run over this one too.
"""

import importlib.util
import sys
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.frames import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    RSV1,
    RSV2,
    TEXT,
    Deflater,
    close,
    deflated,
    fragments,
    frame,
    ways,
)
from tests.ws.codecs import cut
from tests.ws.fast_codecs import (
    AGREEMENTS,
    DEFAULT,
    FRESH,
    INVALID_PAYLOAD,
    MIB,
    PAYLOADS,
    PROTOCOL_ERROR,
    TAKEOVER,
    TOO_BIG,
    WsprotoUse,
    fast,
    finished,
    holds_nothing,
    is_end,
    read,
    take_all,
    wsproto,
)
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.deflate.negotiation import Agreement, DeflateSettings
from wsgate.ws.frames import (
    fast_codec as fast_codec_module,
    messages as plain_frames,
)
from wsgate.ws.frames.codec import Fail, FrameCodec, Item, PeerClose, Ping, Pong
from wsgate.ws.frames.deflate_codec import CompressingCodec, DeflateCodec
from wsgate.ws.frames.fast_codec import FastCodec
from wsgate.ws.limits import MessageLimits

# -- compared with wsproto, on random input ----------------------------------------------------

BITS = st.integers(0, 1 << 16)
PLACES = st.lists(st.integers(0, 1 << 20), max_size=6)
BAD_TEXT = [*map(bytes.fromhex, ("ff", "c3", "eda080", "61eda0", "f4908080", "c080"))]
CODES = [1000, 1000, 1001, 1002, 1005, 1006, 1007, 1014, 1015, 1016, 0, 999, 2999, 3000, 4999, 5000]
REASONS = st.one_of(
    st.just(b""), st.text(max_size=20).map(str.encode), st.sampled_from(BAD_TEXT), st.binary()
)
CLOSES = st.one_of(
    st.just(close()),
    st.just(frame(CLOSE, b"\x03")),
    st.builds(close, st.sampled_from(CODES), REASONS),
)
CONTROLS = st.builds(
    frame,
    st.sampled_from([PING, PONG]),
    st.one_of(st.binary(max_size=20), st.sampled_from([b"p" * 125, b"p" * 126])),
    fin=st.sampled_from([True] * 8 + [False]),
)
ODD = st.builds(
    frame,
    st.integers(0, 15),
    st.one_of(st.binary(max_size=12), st.sampled_from([*BAD_TEXT, b"x" * 126, b"x" * 130])),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, RSV1, RSV2]),
    mask=st.sampled_from([b"\0\0\0\0", b"\1\2\3\4", b"\xff\xfe\xfd\xfc", None]),
    declared=st.sampled_from([None] * 6 + [3, 90, 200, 70_000, 1 << 31, 1 << 63, (1 << 64) - 1]),
    length_octets=st.sampled_from([None] * 6 + [2, 8]),
)
OPCODES = st.sampled_from([TEXT, BINARY])
BAD_MESSAGES = st.builds(
    lambda opcode, before, bad, after: frame(opcode, before.encode() + bad + after),
    OPCODES,
    st.text(max_size=20),
    st.sampled_from(BAD_TEXT),
    st.binary(max_size=20),
)


@st.composite
def messages(draw: st.DrawFn, deflater: Deflater, deflates: bool) -> list[bytes]:
    """Draw the frames of a good message; what is compressed may be cut short or be none."""
    payload = draw(PAYLOADS)
    opcode = TEXT if isinstance(payload, str) else BINARY
    data = payload.encode() if isinstance(payload, str) else payload
    how = draw(st.sampled_from(["plain", "plain", "good", "good", "short", "ended", "garbage"]))
    pieces = cut(data, draw(st.just([]) | PLACES))
    if how == "plain" or not deflates:
        return fragments(opcode, pieces)
    if how == "good":
        return fragments(opcode, deflater.pieces(*pieces), rsv=RSV1)
    if how == "garbage":
        return fragments(opcode, cut(draw(st.binary(max_size=40)), draw(PLACES)), rsv=RSV1)
    packed = deflater.whole(data) if how == "short" else finished(data, deflated(b"after"))
    end = draw(st.integers(0, len(packed))) if how == "short" else len(packed)
    return fragments(opcode, cut(packed[:end], draw(st.just([]) | PLACES)), rsv=RSV1)


@st.composite
def streams(draw: st.DrawFn, agreement: Agreement | None) -> bytes:
    """Draw what a client sends: frames good and bad, and bits that have tipped over."""
    keeps = agreement is not None and not agreement.client_no_context_takeover
    deflater = Deflater(keep=keeps, bits=9)
    sent: list[bytes] = []
    good = messages(deflater, agreement is not None)
    kinds = [good] * 4 + [CONTROLS.map(lambda one: [one])] * 2
    if draw(st.booleans()):
        kinds += [CLOSES, ODD, BAD_MESSAGES, st.binary(max_size=20)]  # type: ignore[list-item]
    for _ in range(draw(st.integers(0, 6))):
        drawn: Any = draw(draw(st.sampled_from(kinds)))
        frames = drawn if isinstance(drawn, list) else [drawn]
        for at, one in enumerate(frames):
            if at and draw(st.integers(0, 3)) == 0:
                sent.append(draw(CONTROLS | ODD if draw(st.integers(0, 5)) == 0 else CONTROLS))
            sent.append(one)
    stream = bytearray(b"".join(sent))
    for place in draw(st.just([]) | st.lists(BITS, max_size=2)):
        if stream:
            stream[place * 31 % len(stream)] ^= 1 << place % 8
    return bytes(stream)


LIMITS = st.sampled_from(
    [
        DEFAULT,
        MessageLimits(size=100, fragments=4),
        MessageLimits(size=126, fragments=1),
        MessageLimits(size=1, fragments=2),
        MessageLimits(size=2_000, fragments=9),
        MessageLimits(size=65_535),
        MessageLimits(size=1 << 62, fragments=1 << 80),
    ]
)


class Pair:
    """A codec and plain wsproto, which see and do the same."""

    def __init__(self, build: str, agreement: Agreement | None, limits: MessageLimits) -> None:
        self.codecs: tuple[FrameCodec, FrameCodec] = (
            fast(build, agreement, limits),
            wsproto(agreement, limits),
        )
        self.items: tuple[list[Item], list[Item]] = ([], [])
        self.has_closed = False

    def receive(self, how: str, limit: int, piece: bytes) -> None:
        """Pass the piece to both; let them parse it, a part of it, or nothing yet."""
        for number, codec in enumerate(self.codecs):
            if how == "feed":
                codec.feed(piece)
            else:
                self._take(number, limit, piece)

    def _take(self, number: int, limit: int, piece: bytes = b"") -> None:
        taken, items = self.codecs[number].take(limit, piece), self.items[number]
        assert len(taken) <= limit
        assert not taken or not is_end(items), "nothing is returned after the end"
        items += taken

    def drain(self, limit: int) -> None:
        """Let both parse everything: only then must they have the same items.

        wsproto parses a slice at a time, the fast codec whole messages.
        """
        for number, codec in enumerate(self.codecs):
            while codec.pending:
                self._take(number, limit)
        ours, theirs = self.items
        # The two pass bytes to wsproto in other pieces. If one message has two faults, these
        # decide which is found first. Then the test checks the code.
        assert [*map(type, ours)] == [*map(type, theirs)]
        assert [item for item in ours if not isinstance(item, Fail)] == [
            item for item in theirs if not isinstance(item, Fail)
        ]

    def send(self, what: str, payload: str | bytes, code: int) -> None:
        """Have both send the same, where a session may: the bytes are to be the same."""
        if self.has_closed or (is_end(self.items[0]) and what != "close"):
            return
        self.has_closed = what == "close"
        small = (payload.encode() if isinstance(payload, str) else payload)[:125]
        sent = []
        for codec in self.codecs:
            if what == "close":
                sent.append(codec.close(code, "" if code == 1005 else "grüß"))
            elif what == "message":
                sent.append(codec.message(payload))
            else:
                sent.append((codec.ping if what == "ping" else codec.pong)(small))
        assert sent[0] == sent[1]


@settings(deadline=None, max_examples=150)
@given(data=st.data())
@pytest.mark.parametrize("agreed", AGREEMENTS)
def test_the_fast_codec_reads_and_writes_as_wsproto_does(
    build: str, agreed: str, data: st.DataObject
) -> None:
    agreement, limits = AGREEMENTS[agreed], data.draw(LIMITS)
    stream = data.draw(streams(agreement))
    pair = Pair(build, agreement, limits)
    for piece in cut(stream, data.draw(PLACES)):
        how = data.draw(st.sampled_from(["feed", "take", "drain", "drain"]))
        limit = data.draw(st.sampled_from([1, 2, 3, 16, 1 << 80]))
        pair.receive(how, limit, piece)
        if how == "drain":
            pair.drain(limit)
            what = data.draw(st.sampled_from(["", "message", "message", "ping", "pong", "close"]))
            if what == "close":  # rarely, for then nothing else can be sent
                what = data.draw(st.sampled_from(["close", "", ""]))
            if what:
                pair.send(what, data.draw(PAYLOADS), data.draw(st.sampled_from([1000, 1005, 4999])))
    pair.drain(3)
    ours, theirs = pair.items
    assert [codec.pending for codec in pair.codecs] == [False, False]
    if ours != theirs:
        # A Fail with another code, which wsproto gives, too, for other pieces of the same data.
        ends = {tuple(read(wsproto(agreement, limits), way)[-1:]) for way in all_ways(stream)}
        assert len(ends) > 1
        assert (ours[-1],) in ends
    if is_end(ours):
        for codec in pair.codecs:
            assert not codec.take(9, frame(TEXT, "after"))
            assert not codec.pending


def all_ways(stream: bytes) -> Iterable[list[bytes]]:
    """Return many ways to give `stream`, each slice of wsproto's beginning at another place."""
    yield from ways(stream)
    for offset in range(1, 30):
        yield [stream[:offset], stream[offset:]]
    for step in (13, 100, 500):
        yield [stream[at : at + step] for at in range(0, len(stream), step)]


# -- whole messages, control frames ------------------------------------------------------------


def test_common_frames_need_no_wsproto(build: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_codec_module, "WsprotoCodec", None)
    data = frame(TEXT, "a") + frame(BINARY, b"b" * 300) + frame(PING, b"c") + frame(PONG)
    data += frame(TEXT, "d" * 70_000) + frame(TEXT, "")
    expected: list[Item] = ["a", b"b" * 300, Ping(b"c"), Pong(b""), "d" * 70_000, ""]
    for ending in (close(1000, "bye"), close(1001), close()):
        for way in ways(data + ending):
            codec = fast(build)
            *items, end = read(codec, way)
            assert items == expected
            assert isinstance(end, PeerClose)
            assert codec._wsproto is None


def test_compressed_messages_need_no_wsproto(build: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_codec_module, "WsprotoCodec", None)
    payloads: list[str | bytes] = ["", "hello " * 20, b"", b"\xff" * 1_000, "ü" * 30_000]
    for payload in payloads:
        opcode = TEXT if isinstance(payload, str) else BINARY
        data = payload.encode() if isinstance(payload, str) else payload
        for level in (0, 9):
            sent = frame(opcode, deflated(data, level=level), rsv=RSV1)
            codec = fast(build, FRESH)
            # The header in any pieces, too; the payload comes with its last octet.
            head = 4 if len(sent) - 6 < 126 else 6
            assert read(codec, [sent[:1], sent[1:2], sent[2:head], sent[head:]]) == [payload]
            assert read(codec, [frame(PING) + sent + sent]) == [Ping(b""), payload, payload]
            assert holds_nothing(codec)


def test_an_idle_codec_holds_nothing(build: str) -> None:
    codec = fast(build)
    assert holds_nothing(codec)
    data = frame(TEXT, "a") + frame(PING) + frame(BINARY, b"b" * 1_000)
    data += b"".join(fragments(TEXT, [b"c", b"d"])) + frame(TEXT, "e")
    for way in ways(data):
        assert read(codec, way)[-1] == "e"
        assert holds_nothing(codec)
        assert codec._wsproto is None


def test_read_message_may_be_used_only_while_the_codec_is_idle(build: str) -> None:
    message = frame(TEXT, "whole")
    for agreement in (None, FRESH, TAKEOVER):
        codec = fast(build, agreement)
        assert codec.is_idle
        assert codec.read_message(message, DEFAULT.size) == "whole"
        for held in (message[:1], frame(PING)[:2], message[:-1], frame(TEXT, fin=False)):
            codec = fast(build, agreement)
            read(codec, [held])
            assert not codec.is_idle
        assert read(codec, [frame(CONT, "x"), message]) == ["x", "whole"]
        assert codec.is_idle
        read(codec, [close()])
        assert not codec.is_idle


def test_read_message_reads_compressed_messages(build: str) -> None:
    codec, most = fast(build, FRESH), DEFAULT.size
    for opcode, payload in ((TEXT, "ü" * 200), (BINARY, b"\xff" * 200), (TEXT, "")):
        octets = payload.encode() if isinstance(payload, str) else payload
        data = frame(opcode, deflated(octets, level=0), rsv=RSV1)
        assert codec.read_message(data, most) == payload
        assert fast(build, TAKEOVER).read_message(data, most) is None
        assert fast(build).read_message(data, most) is None
        for other in (data[:1], data[:2], data[:6], data[:-1], data + b"x", data + frame(PING)):
            assert codec.read_message(other, most) is None
    for wrong in (
        frame(TEXT, deflated(b"\xff"), rsv=RSV1),
        frame(BINARY, b"\xff" * 9, rsv=RSV1),
        frame(BINARY, deflated(bytes(MIB + 1)), rsv=RSV1),
        frame(BINARY, deflated(b"x" * 65_536, level=0), rsv=RSV1),
        frame(BINARY, deflated(b"x"), rsv=RSV1, length_octets=2),
        frame(BINARY, deflated(b"x"), rsv=RSV1, mask=None),
    ):
        assert codec.read_message(wrong, most) is None
    assert codec.is_idle


def test_the_plain_twin_replaces_the_compiled_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    # Python refuses to import a module that is None in sys.modules.
    monkeypatch.setitem(sys.modules, "wsgate.ws.frames._messages", None)
    monkeypatch.delattr("wsgate.ws.frames._messages", raising=False)
    spec = importlib.util.find_spec("wsgate.ws.frames.fast_codec")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    codec = module.FastCodec(DEFAULT, None, Compressors(6))
    assert codec._read_messages is plain_frames.read_messages
    assert codec.message is plain_frames.data_frame
    assert read(codec, [frame(TEXT, "a") + frame(PING)]) == ["a", Ping(b"")]


def test_the_codec_class_depends_on_the_agreement(build: str) -> None:
    assert not isinstance(fast(build), CompressingCodec)
    assert isinstance(fast(build, TAKEOVER), CompressingCodec)
    assert not isinstance(fast(build, TAKEOVER), DeflateCodec)
    assert isinstance(fast(build, FRESH), DeflateCodec)


def test_take_does_not_copy_the_buffer(build: str) -> None:
    data = b"".join(frame(TEXT, str(number)) for number in range(1_000))
    codec = fast(build)
    assert codec.take(10, data)[0] == "0"
    for taken in range(1, 100):
        assert codec._input is data
        assert codec.buffered == len(data) - sum(len(str(n)) + 6 for n in range(taken * 10))
        assert codec.take(10)[0] == str(taken * 10)


def test_data_may_arrive_while_some_is_buffered(build: str) -> None:
    codec = fast(build)
    assert codec.take(1, frame(TEXT, "a") + frame(TEXT, "b") + frame(PING)) == ["a"]
    assert codec.take(1, frame(TEXT, "c")) == ["b"]
    codec.feed(frame(TEXT, "d"))
    assert take_all(codec) == [Ping(b""), "c", "d"]
    assert holds_nothing(codec)


@pytest.mark.parametrize("held", [1, 2, 5])
def test_the_beginning_of_a_frame_is_kept_without_the_data_before_it(build: str, held: int) -> None:
    data = frame(BINARY, b"x" * 200_000) + frame(PING, b"p")[:held]
    codec = fast(build)
    assert read(codec, [data]) == [b"x" * 200_000]
    assert codec._input == data[-held:]
    assert codec.buffered == held


def test_empty_data_changes_nothing(build: str) -> None:
    codec = fast(build)
    for data in (b"", frame(TEXT, "x" * 10)[:1], frame(TEXT, "x" * 10)[1:9]):
        codec.take(1, data)
        assert not take_all(codec)
        codec.feed(b"")
        assert not codec.pending
        assert not codec.take(1, b"")
        assert not codec.pending


def test_dropped_data_is_not_read(build: str) -> None:
    for agreement, data in [
        (None, frame(PING)[:3]),
        (None, frame(TEXT, "a") * 3),
        (None, frame(TEXT, "x", fin=False) + frame(PING) * 3),
        (FRESH, frame(TEXT, deflated(b"x"), rsv=RSV1)[:4]),
    ]:
        codec = fast(build, agreement)
        codec.take(1, data)
        codec.drop()
        assert (codec.pending, codec.buffered) == (False, 0)
        assert not codec.take(1)


BEYOND = 1 << 70


@pytest.mark.parametrize("limit", [sys.maxsize, sys.maxsize + 1, BEYOND])
@pytest.mark.parametrize("size", [sys.maxsize, sys.maxsize + 1, 1 << 63, (1 << 64) - 1, BEYOND])
def test_limits_may_be_any_number(build: str, limit: int, size: int) -> None:
    def codec() -> FastCodec:
        return fast(build, limits=MessageLimits(size=size))

    assert codec().take(limit, frame(TEXT, "a") + frame(BINARY, b"b")) == ["a", b"b"]
    large = frame(BINARY, b"x", declared=(1 << 63) - 1)
    assert read(codec(), [large], limit) == []
    # RFC 6455 section 5.2: "the most significant bit MUST be 0".
    for declared in (1 << 63, (1 << 64) - 1):
        assert read(codec(), [frame(BINARY, b"x", declared=declared)], limit) == [PROTOCOL_ERROR]


# -- messages in pieces ------------------------------------------------------------------------

SCRIPTS = "a\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff κόσμε \U0001f600" * 2


def test_text_may_arrive_in_two_pieces_cut_anywhere(build: str) -> None:
    data = frame(TEXT, SCRIPTS) + frame(TEXT, "b")
    for at in range(len(data) + 1):
        codec = fast(build)
        assert read(codec, [data[:at], data[at:]]) == [SCRIPTS, "b"]
        assert holds_nothing(codec)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 7, 61, 1_021])
def test_a_large_text_may_arrive_in_pieces_of_any_size(build: str, step: int) -> None:
    text = SCRIPTS * (2 if step == 1 else 100)
    data = frame(PING) + frame(TEXT, text) + frame(TEXT, text)
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    assert read(fast(build), pieces) == [Ping(b""), text, text]


@pytest.mark.parametrize("step", [1, 3, 4, 6, 1_021])
@pytest.mark.parametrize("length", [126, 65_535, 65_536])
def test_a_large_binary_may_arrive_in_pieces_of_any_size(
    build: str, step: int, length: int
) -> None:
    payload = bytes(at % 251 for at in range(length))
    data = frame(BINARY, payload, mask=b"\1\2\3\4") + frame(BINARY, b"next")
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    assert read(fast(build), pieces) == [payload, b"next"]


@pytest.mark.parametrize(
    ("octets", "bad"), [("ff", 0), ("c080", 0), ("c328", 1), ("eda080", 1), ("edbfbf", 1)]
)
@pytest.mark.parametrize("before", ["", "x" * 999, SCRIPTS * 40])
def test_an_invalid_octet_fails_before_the_frame_is_complete(
    build: str, octets: str, bad: int, before: str
) -> None:
    text = before.encode() + bytes.fromhex(octets)
    data = frame(TEXT, text + b"more", declared=1 << 20)
    at = data.index(frame(TEXT, text, declared=1 << 20)) + 14 + len(before.encode()) + bad
    for step in (1, 1_000):
        codec = fast(build)
        pieces = [data[i : min(at, i + step)] for i in range(0, at, step)]
        assert read(codec, pieces) == []
        assert codec._partial is not None
        assert read(codec, [data[at : at + 1], data[at + 1 :]]) == [INVALID_PAYLOAD]
        assert read(fast(build), [data]) == [INVALID_PAYLOAD]


@pytest.mark.parametrize("char", ["ü", "€", "\U0001f600"])
def test_text_that_ends_within_a_character_fails(build: str, char: str) -> None:
    data = frame(TEXT, b"x" * 200 + char.encode()[:-1])
    for way in ways(data):
        assert read(fast(build), way) == [INVALID_PAYLOAD]


def test_a_message_in_pieces_is_limited(build: str) -> None:
    limits = MessageLimits(size=200)
    for opcode in (TEXT, BINARY):
        for way in ways(frame(opcode, b"x" * 201)):
            assert read(fast(build, limits=limits), way) == [TOO_BIG]
        for way in ways(frame(opcode, b"x" * 200)):
            assert len(read(fast(build, limits=limits), way)) == 1


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_that_arrives_octet_by_octet_is_copied_once(build: str, opcode: int) -> None:
    # The cost of a piece must not grow with what is buffered already: so nothing but the pieces is
    # held, each joined once with its neighbours, and once with all.
    codec = fast(build)
    data = frame(opcode, b"0123456789" * 2_000)
    for at in range(8, len(data) - 1):
        codec.take(1, data[at - 8 : at] if at == 8 else data[at - 1 : at])
        assert not codec._input
        if codec._partial is not None:
            assert len(codec._partial._undecoded) < 4
            assert len(codec._partial._buffer._separate) <= 512
            assert len(codec._partial._buffer._joined) <= at // 512
    assert len(codec.take(1, data[-2:])) == 1


# -- reading with wsproto ----------------------------------------------------------------------


def test_only_the_fragmented_message_is_read_by_wsproto(
    build: str, wsproto_use: WsprotoUse
) -> None:
    one, two, three = fragments(TEXT, ["ä".encode()[:1], "ä".encode()[1:] * 1, b"x" * 70_000])
    message = one + frame(PING, b"p" * 125) + two + frame(PONG) + three
    data = frame(TEXT, "before") + message + frame(TEXT, "after") + frame(PING)
    expected = ["before", Ping(b"p" * 125), Pong(b""), "ä" + "x" * 70_000, "after", Ping(b"")]
    for number, way in enumerate(ways(data), 1):
        codec = fast(build)
        assert read(codec, way) == expected
        assert wsproto_use.octets == number * len(message)
        assert wsproto_use.codecs == number
        assert codec._wsproto is None
        assert holds_nothing(codec)


def test_wsproto_is_dropped_when_its_message_ends(build: str) -> None:
    codec = fast(build)
    one, two, three = fragments(BINARY, [b"a", b"", b"c"])
    for piece, is_there in [
        (frame(TEXT, "x"), False),
        (one, True),
        (frame(PING), True),
        (two[:1], True),
        (two[1:], True),
        (three[:-1], True),
        (three[-1:], False),
        (frame(TEXT, "y"), False),
    ]:
        read(codec, [piece])
        assert (codec._wsproto is not None) is is_there


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (close(4000, "why"), PeerClose(4000, "why")),
        (close(1014), PeerClose(1014, "")),
        (close(1006), PROTOCOL_ERROR),
        (frame(CLOSE, b"\x03"), PROTOCOL_ERROR),
        (close(1000, b"\xff"), INVALID_PAYLOAD),
    ],
    ids=lambda case: case[:12].hex() if isinstance(case, bytes) else "",
)
def test_a_close_is_checked_without_wsproto(
    build: str, wsproto_use: WsprotoUse, data: bytes, end: Item
) -> None:
    for way in ways(data):
        assert read(fast(build), way) == read(wsproto(), way) == [end]
    assert read(fast(build), [data + frame(TEXT, "after")]) == [end]
    assert wsproto_use.octets == 0


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, "x", mask=None),
        frame(TEXT, "x", rsv=RSV2),
        frame(TEXT, "x", rsv=RSV1),
        frame(CONT, "x"),
        frame(3),
        frame(PING, b"x", fin=False),
        frame(PING, b"x" * 126),
        frame(CLOSE, b"x" * 126),
        frame(TEXT, b"\xff"),
        frame(TEXT, "x" * 125, length_octets=2),
        frame(TEXT, "x", length_octets=8),
        frame(BINARY, b"x" * 10, declared=1 << 63),
        frame(BINARY, declared=DEFAULT.size + 1),
    ],
    ids=lambda data: data[:12].hex(),
)
def test_faults_are_found_by_wsproto(build: str, wsproto_use: WsprotoUse, data: bytes) -> None:
    for way in ways(data):
        codec = fast(build)
        (fault,) = read(codec, way)
        assert [fault] == read(wsproto(), way)
        assert (codec._wsproto, codec._splitter, codec._partial) == (None, None, None)
        assert codec.buffered == 0
    assert wsproto_use.codecs > 0


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (frame(TEXT, b"a" * 50 + b"\xff"), INVALID_PAYLOAD),
        (frame(TEXT, b"a" * 50 + b"\xff" * 900)[:600], INVALID_PAYLOAD),
        (frame(TEXT, "x", fin=False) + frame(TEXT), PROTOCOL_ERROR),
        (close(1000), PeerClose(1000, "")),
        (close(3000), PeerClose(3000, "")),
    ],
)
def test_nothing_is_held_after_the_end(build: str, data: bytes, end: Item) -> None:
    for after in (b"", frame(TEXT, "after") * 100):
        codec = fast(build)
        assert read(codec, [data + after]) == [end]
        codec.feed(frame(TEXT, "after"))
        assert not codec.pending
        assert not codec.take(1, frame(TEXT, "after"))
        held = (codec._partial, codec._wsproto, codec._splitter, codec._input, codec.pending)
        assert held == (None, None, None, b"", False)


def test_fragments_with_headers_of_any_form_are_split(build: str, wsproto_use: WsprotoUse) -> None:
    # All are parts of one message that wsproto reads; the message after it is not.
    for length in (0, 1, 125, 126, 127, 65_535, 65_536):
        pieces = [b"x" * length, b"y" * length, b""]
        message = b"".join(fragments(BINARY, pieces))
        before = wsproto_use.octets
        for number, way in enumerate(ways(message + frame(TEXT, "z")), 1):
            assert read(fast(build), way) == [b"".join(pieces), "z"]
            assert wsproto_use.octets - before == number * len(message)


def test_one_take_passes_one_slice_to_wsproto(build: str, wsproto_use: WsprotoUse) -> None:
    codec = fast(build)
    data = frame(BINARY, b"x" * 10_000, fin=False)
    assert not codec.take(1, data)
    assert wsproto_use.octets == 2_048
    assert codec._input is data
    for taken in range(2, 5):
        assert not codec.take(1)
        assert wsproto_use.octets == 2_048 * taken
        assert codec.pending
    assert not take_all(codec)
    assert wsproto_use.octets == len(data)


# -- writing -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(payloads=st.lists(PAYLOADS, max_size=8), threshold=st.sampled_from([0, 1, 8, 40, 1 << 80]))
@pytest.mark.parametrize("agreed", AGREEMENTS)
def test_messages_are_written_as_by_wsproto(
    build: str, agreed: str, payloads: list[str | bytes], threshold: int
) -> None:
    agreement = AGREEMENTS[agreed]
    if agreement is not None:
        agreement = Agreement(
            DeflateSettings(threshold=threshold),
            agreement.server_no_context_takeover,
            agreement.client_no_context_takeover,
            agreement.server_max_window_bits,
            agreement.client_max_window_bits,
        )
    ours, theirs = fast(build, agreement), wsproto(agreement)
    for payload in payloads:
        assert ours.message(payload) == theirs.message(payload)


@pytest.mark.parametrize("agreed", AGREEMENTS)
def test_control_frames_are_written_as_by_wsproto(build: str, agreed: str) -> None:
    agreement = AGREEMENTS[agreed]
    ours = fast(build, agreement)
    for payload in (b"", b"x", b"\0" * 125):
        assert ours.ping(payload) == wsproto(agreement).ping(payload)
        assert ours.pong(payload) == wsproto(agreement).pong(payload)
    for code, reason in ((1000, ""), (1005, ""), (1001, "grüß"), (4999, "r" * 123)):
        assert ours.close(code, reason) == wsproto(agreement).close(code, reason)


@pytest.mark.parametrize("agreed", AGREEMENTS)
@pytest.mark.parametrize("times", [1, 1_000])
def test_a_lone_surrogate_does_not_change_later_messages(
    build: str, agreed: str, times: int
) -> None:
    agreement = AGREEMENTS[agreed]
    ours, theirs = fast(build, agreement), wsproto(agreement)
    for codec in (ours, theirs):
        assert codec.message("before" * 10)
        with pytest.raises(UnicodeEncodeError):
            codec.message("a\ud800" * times)
    assert ours.message("after" * 10) == theirs.message("after" * 10)
