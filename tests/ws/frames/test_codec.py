"""One contract for every codec: what bytes are read as, and which bytes are written."""

import itertools
import random
import tracemalloc
from collections.abc import Iterable
from typing import Protocol as Interface

import pytest
from hypothesis import given, settings, strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.protocol import Protocol as WebsocketsProtocol, Side, State

from tests.frames import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    RSV1,
    RSV2,
    RSV3,
    TEXT,
    Deflater,
    Inflater,
    ServerFrame,
    close,
    deflated,
    fragments,
    frame,
    parsed,
    ways,
)
from tests.plain import plain_codec
from wsgate.ws.codecs import fast_codec
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.deflate.negotiation import Agreement, DeflateSettings
from wsgate.ws.deflate.wsproto_extension import MessageExtension
from wsgate.ws.frames.codec import Fail, FrameCodec, Item, PeerClose, Ping, Pong
from wsgate.ws.frames.wsproto_codec import WsprotoCodec
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


def wsproto_codec(
    agreement: Agreement | None = None, limits: MessageLimits = DEFAULT
) -> FrameCodec:
    return WsprotoCodec(MessageExtension(limits, agreement, Compressors(6)))


def with_fast_lane(
    agreement: Agreement | None = None, limits: MessageLimits = DEFAULT
) -> FrameCodec:
    return fast_codec(limits, agreement, Compressors(6))


def uncompiled(agreement: Agreement | None = None, limits: MessageLimits = DEFAULT) -> FrameCodec:
    return plain_codec(limits, agreement, Compressors(6))


CODECS: dict[str, MakeCodec] = {
    "wsproto": wsproto_codec,
    "fast": with_fast_lane,
    "plain": uncompiled,
}
EAGER = DeflateSettings(threshold=0)
FRESH = Agreement(EAGER, server_no_context_takeover=True, client_no_context_takeover=True)
TAKEOVER = Agreement(DeflateSettings(threshold=0, context_takeover=True))
AGREEMENTS = {"no deflate": None, "fresh": FRESH, "takeover": TAKEOVER}


@pytest.fixture(scope="module", params=CODECS)
def make(request: pytest.FixtureRequest) -> MakeCodec:
    return CODECS[request.param]


@pytest.fixture(scope="module", params=AGREEMENTS)
def agreement(request: pytest.FixtureRequest) -> Agreement | None:
    return AGREEMENTS[request.param]


@pytest.fixture(scope="module", params=["fresh", "takeover"])
def deflate(request: pytest.FixtureRequest) -> Agreement:
    return FRESH if request.param == "fresh" else TAKEOVER


def read(codec: FrameCodec, pieces: Iterable[bytes], limit: int = 1_000) -> list[Item]:
    """Take the pieces one by one, and all there is behind each."""
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


def fed(codec: FrameCodec, pieces: Iterable[bytes]) -> list[Item]:
    """Feed all the pieces before the first is looked at."""
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
    """Return what `data` is read as, the same in every way that it may come in.

    is_whole: it ends with a frame, so that another one may follow.
    """
    items = read(make(agreement, limits), [data])
    for pieces in ways(data):
        assert read(make(agreement, limits), pieces) == items
    assert fed(make(agreement, limits), [data[:3], data[3:]]) == items
    assert read(make(agreement, limits), [data], limit=1) == items
    ended = bool(items) and isinstance(items[-1], (Fail, PeerClose))
    if ended or is_whole:
        trailing = frame(TEXT, "behind") if ended else frame(PONG, b"behind")[:-1]
        assert read(make(agreement, limits), [data + trailing]) == items
        assert read(make(agreement, limits), [data, trailing, trailing[-1:] * ended]) == items
    return items


# -- frames that are as they should be ---------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_data_of_every_length_form(
    make: MakeCodec, agreement: Agreement | None, length: int
) -> None:
    payload = bytes(at % 251 for at in range(length))
    text = "x" * length
    assert items_of(make, frame(BINARY, payload), agreement) == [payload]
    assert items_of(make, frame(TEXT, text), agreement) == [text]


@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04"])
def test_any_masking_key(make: MakeCodec, mask: bytes) -> None:
    assert items_of(make, frame(TEXT, "Hello, world", mask=mask)) == ["Hello, world"]


def test_the_examples_of_the_rfc(make: MakeCodec) -> None:
    # RFC 6455 section 5.7.
    hello = bytes.fromhex("818537fa213d7f9f4d5158")
    ping = bytes.fromhex("898537fa213d7f9f4d5158")
    assert hello == frame(TEXT, "Hello")
    assert items_of(make, hello + ping) == ["Hello", Ping(b"Hello")]


@pytest.mark.parametrize("length", [0, 1, 124, 125])
def test_pings_and_pongs(make: MakeCodec, agreement: Agreement | None, length: int) -> None:
    payload = bytes(range(length))
    data = frame(PING, payload) + frame(PONG, payload)
    assert items_of(make, data, agreement) == [Ping(payload), Pong(payload)]


VALID_CODES = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]


@pytest.mark.parametrize("code", VALID_CODES)
def test_the_peer_closes(make: MakeCodec, agreement: Agreement | None, code: int) -> None:
    assert items_of(make, close(code), agreement) == [PeerClose(code, "")]
    assert items_of(make, close(code, "grüß"), agreement) == [PeerClose(code, "grüß")]


def test_the_peer_closes_without_a_code(make: MakeCodec) -> None:
    assert items_of(make, close()) == [PeerClose(1005, "")]


def test_the_longest_reason(make: MakeCodec) -> None:
    assert items_of(make, close(1000, "r" * 123)) == [PeerClose(1000, "r" * 123)]


def test_nothing_is_read_behind_the_peers_close(make: MakeCodec) -> None:
    data = frame(TEXT, "before") + close(1000) + frame(TEXT, "behind") + b"\xff" * 50
    assert items_of(make, data) == ["before", PeerClose(1000, "")]


def test_fragments_are_one_message(make: MakeCodec, agreement: Agreement | None) -> None:
    data = b"".join(fragments(TEXT, [b"one ", b"", b"two ", b"three"]))
    data += b"".join(fragments(BINARY, [b"", b"\xff", b""]))
    data += b"".join(fragments(BINARY, [b"", b""])) + frame(TEXT)
    assert items_of(make, data, agreement) == ["one two three", b"\xff", b"", ""]


def test_control_frames_between_fragments(make: MakeCodec, agreement: Agreement | None) -> None:
    one, two, three = fragments(TEXT, [b"a", b"b", b"c"])
    data = one + frame(PING, b"1") + two + frame(PONG, b"2") + frame(PING) + three
    assert items_of(make, data, agreement) == [Ping(b"1"), Pong(b"2"), Ping(b""), "abc"]


def test_a_close_between_fragments(make: MakeCodec) -> None:
    one, two = fragments(TEXT, [b"a", b"b"])
    assert items_of(make, one + close(1001) + two) == [PeerClose(1001, "")]


def test_a_control_frame_between_compressed_fragments(make: MakeCodec, deflate: Agreement) -> None:
    for opcode, payload in ((TEXT, b"Hello, hello"), (BINARY, b"\xff\x00" * 20)):
        pieces = Deflater().pieces(payload[:5], payload[5:])
        one, two = fragments(opcode, pieces, rsv=RSV1)
        data = one + frame(PING, b"x") + frame(PONG) + two
        message = payload.decode() if opcode == TEXT else payload
        assert items_of(make, data, deflate) == [Ping(b"x"), Pong(b""), message]


def test_compressed_and_plain_messages_mix(make: MakeCodec, deflate: Agreement) -> None:
    data = frame(TEXT, deflated(b"one"), rsv=RSV1) + frame(TEXT, "two")
    data += frame(BINARY, deflated(b"three"), rsv=RSV1)
    assert items_of(make, data, deflate) == ["one", "two", b"three"]


# -- taking ------------------------------------------------------------------------------------


def test_take_stops_at_its_limit(make: MakeCodec) -> None:
    codec = make()
    codec.feed(b"".join(frame(TEXT, str(at)) for at in range(10)))
    taken = [codec.take(4) for _ in range(4)]
    assert taken == [["0", "1", "2", "3"], ["4", "5", "6", "7"], ["8", "9"], []]


def test_take_of_all_there_is_says_nothing_of_more(make: MakeCodec) -> None:
    codec = make()
    codec.feed(frame(TEXT, "a") + frame(TEXT, "b"))
    assert codec.take(2) == ["a", "b"]
    assert not codec.take(2)
    codec.feed(frame(TEXT, "c"))
    assert codec.take(2) == ["c"]


def test_nothing_fed_nothing_taken(make: MakeCodec) -> None:
    codec = make()
    assert not codec.take(1)
    codec.feed(b"")
    assert not codec.take(1)
    assert not codec.take(1, b"")


# -- 1002 --------------------------------------------------------------------------------------

BAD_CODES = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]
FAULTS = {
    "unmasked text": frame(TEXT, "x", mask=None),
    "unmasked empty": frame(BINARY, mask=None),
    "unmasked ping": frame(PING, mask=None),
    "unmasked continuation": frame(TEXT, "x", fin=False) + frame(CONT, "x", mask=None),
    "unmasked, long": frame(BINARY, b"x" * 300, mask=None),
    "RSV2": frame(TEXT, "x", rsv=RSV2),
    "RSV3": frame(BINARY, b"x", rsv=RSV3),
    "RSV1 and RSV2": frame(TEXT, deflated(b"x"), rsv=RSV1 | RSV2),
    "RSV1 on a Ping": frame(PING, b"x", rsv=RSV1),
    "RSV3 on a Pong": frame(PONG, b"x", rsv=RSV3),
    "RSV1 on a Close": frame(CLOSE, rsv=RSV1),
    "RSV1 on a continuation": frame(TEXT, "x", fin=False) + frame(CONT, "x", rsv=RSV1),
    "RSV2 on a continuation": frame(TEXT, "x", fin=False) + frame(CONT, "x", rsv=RSV2),
    **{f"opcode {at:#x}": frame(at, b"x") for at in (*range(3, 8), *range(0xB, 0x10))},
    "a long Ping": frame(PING, b"x" * 126),
    "a long Pong": frame(PONG, b"x" * 70_000),
    "a long Close": close(1000, "x" * 124),
    "a Ping with an extended length": frame(PING, b"x", length_octets=2),
    "a fragmented Ping": frame(PING, b"x", fin=False),
    "a fragmented Pong": frame(PONG, b"x", fin=False),
    "a fragmented Close": frame(CLOSE, b"\x03\xe8", fin=False),
    "a stray continuation": frame(CONT, "x"),
    "a stray continuation, not final": frame(CONT, fin=False),
    "text within a text": frame(TEXT, "x", fin=False) + frame(TEXT, "y"),
    "text within a binary": frame(BINARY, b"x", fin=False) + frame(TEXT, "y", fin=False),
    "binary within a text": frame(TEXT, "", fin=False) + frame(BINARY),
    "0 in two octets": frame(TEXT, length_octets=2),
    "125 in two octets": frame(TEXT, "x" * 125, length_octets=2),
    "1 in eight octets": frame(BINARY, b"x", length_octets=8),
    "65,535 in eight octets": frame(BINARY, b"x" * 65_535, length_octets=8),
    "bit 63": frame(BINARY, b"x" * 100, declared=1 << 63),
    "every bit of the length": frame(BINARY, b"x" * 100, declared=(1 << 64) - 1),
    "a Close of one byte": frame(CLOSE, b"\x03"),
    **{f"a Close with {code}": close(code, "why") for code in BAD_CODES},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_protocol_error(make: MakeCodec, agreement: Agreement | None, fault: str) -> None:
    data = FAULTS[fault]
    assert items_of(make, data, agreement) == [PROTOCOL_ERROR]
    before = frame(TEXT, "a") + frame(PING)
    assert items_of(make, before + data, agreement) == ["a", Ping(b""), PROTOCOL_ERROR]


def test_a_continuation_of_a_finished_message(make: MakeCodec) -> None:
    data = b"".join(fragments(TEXT, [b"a", b"b"])) + frame(CONT, "c")
    assert items_of(make, data) == ["ab", PROTOCOL_ERROR]


@pytest.mark.parametrize(
    "data",
    [frame(at, b"x")[:2] for at in (3, 0xB)]
    + [frame(PING, b"x" * 126)[:2], frame(PING, b"x", fin=False)[:2]]
    + [frame(TEXT, "x", rsv=RSV2)[:2], frame(CONT, "x")[:2], frame(TEXT, "x", mask=None)[:2]],
    ids=["opcode", "control opcode", "long", "fragmented", "reserved", "stray", "unmasked"],
)
def test_two_octets_may_be_enough(make: MakeCodec, data: bytes) -> None:
    assert items_of(make, data, is_whole=False) == [PROTOCOL_ERROR]


def test_rsv1_without_an_agreement(make: MakeCodec) -> None:
    data = frame(TEXT, deflated(b"Hello"), rsv=RSV1)
    assert items_of(make, data) == [PROTOCOL_ERROR]
    assert items_of(make, data, limits=MessageLimits(size=1)) == [PROTOCOL_ERROR]


def test_rsv1_on_a_continuation_of_a_compressed_message(
    make: MakeCodec, deflate: Agreement
) -> None:
    one, two = Deflater().pieces(b"a", b"b")
    data = frame(TEXT, one, fin=False, rsv=RSV1) + frame(CONT, two, rsv=RSV1)
    assert items_of(make, data, deflate) == [PROTOCOL_ERROR]


# -- 1007 --------------------------------------------------------------------------------------

# Each with the place of the first octet that no text can have there.
BAD_TEXT = [
    ("ff", 0),
    ("fe", 0),
    ("80", 0),
    ("616280", 2),
    ("c080", 0),  # overlong
    ("c1bf", 0),
    ("e08080", 1),
    ("e09fbf", 1),
    ("f0808080", 1),
    ("f08fbfbf", 1),
    ("eda080", 1),  # surrogates
    ("edafbf", 1),
    ("edbfbf", 1),
    ("eda081edb081", 1),
    ("61eda0", 2),
    ("ceedb0", 1),
    ("f4908080", 1),  # above U+10FFFF
    ("f5808080", 0),
    ("f888808080", 0),
    ("fc8480808080", 0),
    ("c328", 1),  # no continuation
    ("c3c3", 1),
    ("e228a1", 1),
    ("e28228", 2),
    ("f09028bc", 2),
    ("f0908c28", 3),
    ("cebae1bdb9cf83cebcceb5eda080656469746564", 12),  # Autobahn's
]
PREFIXES = [b"", "plain \U0001f600".encode(), b"\xed\x9f\xbf"]


@pytest.mark.parametrize(("bad", "at"), BAD_TEXT)
def test_text_that_is_no_utf8(
    make: MakeCodec, agreement: Agreement | None, bad: str, at: int
) -> None:
    for prefix in PREFIXES:
        text = prefix + bytes.fromhex(bad)
        good, first_bad = text[: len(prefix) + at], text[: len(prefix) + at + 1]
        assert items_of(make, frame(TEXT, text), agreement) == [INVALID_PAYLOAD]
        # At once, though the frame is not whole.
        unfinished = frame(TEXT, good, declared=1_000)
        assert items_of(make, unfinished, agreement, is_whole=False) == []
        unfinished = frame(TEXT, first_bad, declared=1_000)
        assert items_of(make, unfinished, agreement, is_whole=False) == [INVALID_PAYLOAD]


@pytest.mark.parametrize(("bad", "at"), BAD_TEXT)
def test_text_that_is_no_utf8_over_fragments(
    make: MakeCodec, agreement: Agreement | None, bad: str, at: int
) -> None:
    text = bytes.fromhex(bad)
    pieces = [text[i : i + 1] for i in range(at + 1)]
    good, last = [*pieces[:at], b""], [*pieces, b""]
    for between in (b"", frame(PING)):
        pings: list[Item] = [Ping(b"")] if between else []
        whole = between.join(fragments(TEXT, good)[:-1])
        assert items_of(make, whole, agreement) == pings * (at - 1)
        whole = between.join(fragments(TEXT, last))
        assert items_of(make, whole, agreement) == [*pings * at, INVALID_PAYLOAD]


@pytest.mark.parametrize(("bad", "at"), BAD_TEXT)
def test_compressed_text_that_is_no_utf8(
    make: MakeCodec, deflate: Agreement, bad: str, at: int
) -> None:
    text = bytes.fromhex(bad)
    assert items_of(make, frame(TEXT, deflated(text), rsv=RSV1), deflate) == [INVALID_PAYLOAD]
    pieces = Deflater().pieces(*(text[i : i + 1] for i in range(at + 1)), b"")
    frames = fragments(TEXT, pieces, rsv=RSV1)
    assert items_of(make, b"".join(frames[:at]), deflate) == []
    assert items_of(make, b"".join(frames[: at + 1]), deflate) == [INVALID_PAYLOAD]


@pytest.mark.parametrize("char", ["ü", "€", "\U0001f600", "\ud7ff"])
def test_text_that_stops_within_a_character(
    make: MakeCodec, agreement: Agreement | None, char: str
) -> None:
    for end in range(1, len(char.encode())):
        text = b"ab" + char.encode()[:end]
        assert items_of(make, frame(TEXT, text), agreement) == [INVALID_PAYLOAD]
        data = b"".join(fragments(TEXT, [text, b""]))
        assert items_of(make, data, agreement) == [INVALID_PAYLOAD]
        if agreement is not None:
            data = frame(TEXT, deflated(text), rsv=RSV1)
            assert items_of(make, data, agreement) == [INVALID_PAYLOAD]


@pytest.mark.parametrize(
    "text",
    [
        "κόσμε",
        "\0",
        "\x7f\x80",
        "\u07ff\u0800",
        "\ud7ff\ue000",
        "\ufeffBOM",
        "\ufffd\uffff",
        "\U00010000\U0010ffff",
        "\ud000\ud7a3\ud7ff",
        "a\U0001f600z",
    ],
    ids=ascii,
)
def test_text_may_be_cut_anywhere(make: MakeCodec, agreement: Agreement | None, text: str) -> None:
    data = text.encode()
    for cut in range(len(data) + 1):
        halves = [data[:cut], data[cut:]]
        assert items_of(make, b"".join(fragments(TEXT, halves)), agreement) == [text]
        if agreement is not None:
            frames = fragments(TEXT, Deflater().pieces(*halves), rsv=RSV1)
            assert items_of(make, b"".join(frames), agreement) == [text]
    octets = [data[at : at + 1] for at in range(len(data))]
    assert items_of(make, b"".join(fragments(TEXT, octets)), agreement) == [text]


def test_binary_is_no_text(make: MakeCodec, agreement: Agreement | None) -> None:
    data = frame(BINARY, b"\xed\xa0\x80") + b"".join(fragments(BINARY, [b"\xed", b"\xa0", b"\xc3"]))
    assert items_of(make, data, agreement) == [b"\xed\xa0\x80", b"\xed\xa0\xc3"]


@pytest.mark.parametrize("reason", [b"\xff", b"ab\xc3", b"\xed\xa0\x80", b"\xc0\x80"])
def test_a_bad_reason(make: MakeCodec, agreement: Agreement | None, reason: bytes) -> None:
    assert items_of(make, close(1000, reason), agreement) == [INVALID_PAYLOAD]


def test_bad_deflate_data(make: MakeCodec, deflate: Agreement) -> None:
    for payload in (b"\x07", b"\xff" * 20, b"\x06\x00", b"", b"Hello, this is not compressed"):
        data = frame(BINARY, payload, rsv=RSV1)
        assert items_of(make, data, deflate) == [INVALID_PAYLOAD]


@pytest.mark.parametrize("level", [0, 6])
def test_a_stream_that_stops_within_a_block(
    make: MakeCodec, deflate: Agreement, level: int
) -> None:
    text = b"The quick brown fox jumps over the lazy dog"
    payload = deflated(text, level=level)
    # Stored: one octet is an empty block, and the four that the receiver puts back are as good as
    # the last four of a block's data. Neither stops within a block.
    ends = {*range(len(payload))} - ({1, len(text) + 1} if level == 0 else set())
    for end in ends:
        data = frame(BINARY, payload[:end], rsv=RSV1)
        assert items_of(make, data, deflate) == [INVALID_PAYLOAD], end


# -- 1009 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_exactly_the_limit_passes(
    make: MakeCodec, agreement: Agreement | None, opcode: int
) -> None:
    payload = b"0123456789" * 10
    message = payload.decode() if opcode == TEXT else payload
    pieces = [payload[:33], b"", payload[33:]]
    frames = [frame(opcode, payload), b"".join(fragments(opcode, pieces))]
    if agreement is not None:
        frames += [frame(opcode, deflated(payload, level=level), rsv=RSV1) for level in (0, 9)]
        frames.append(b"".join(fragments(opcode, Deflater().pieces(*pieces), rsv=RSV1)))
        stored = Deflater(level=0).pieces(*pieces)
        assert sum(map(len, stored)) > SMALL.size
        frames.append(b"".join(fragments(opcode, stored, rsv=RSV1)))
    data = frame(PING, b"p" * 125).join(frames)
    expected = [item for _ in frames for item in (Ping(b"p" * 125), message)][1:]
    assert items_of(make, data, agreement, SMALL) == expected


@pytest.mark.parametrize("length", [101, 126, 65_535, 65_536, 1 << 32, (1 << 63) - 1])
def test_a_declared_length_over_the_limit(
    make: MakeCodec, agreement: Agreement | None, length: int
) -> None:
    head = frame(BINARY, declared=length)
    assert items_of(make, head, agreement, SMALL, is_whole=False) == [TOO_BIG]


def test_fragments_that_declare_more_than_the_limit(
    make: MakeCodec, agreement: Agreement | None
) -> None:
    first = frame(TEXT, "x" * 60, fin=False) + frame(PING)
    head = frame(CONT, declared=41)
    assert items_of(make, first, agreement, SMALL) == [Ping(b"")]
    assert items_of(make, first + head, agreement, SMALL, is_whole=False) == [Ping(b""), TOO_BIG]
    whole = first + frame(CONT, "x" * 40) + frame(TEXT, "y")
    assert items_of(make, whole, agreement, SMALL) == [Ping(b""), "x" * 100, "y"]


def test_the_limit_counts_octets(make: MakeCodec) -> None:
    assert items_of(make, frame(TEXT, "ü" * 50), limits=SMALL) == ["ü" * 50]
    assert items_of(make, frame(TEXT, "ü" * 51), limits=SMALL) == [TOO_BIG]


@pytest.mark.parametrize("level", [0, 9])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_that_inflates_over_the_limit(
    make: MakeCodec, deflate: Agreement, level: int, opcode: int
) -> None:
    data = frame(opcode, deflated(b"x" * 101, level=level), rsv=RSV1)
    assert items_of(make, data, deflate, SMALL) == [TOO_BIG]
    pieces = Deflater(level=level).pieces(b"x" * 50, b"x" * 50, b"x")
    data = b"".join(fragments(opcode, pieces, rsv=RSV1))
    assert items_of(make, data, deflate, SMALL) == [TOO_BIG]
    data = data.replace(frame(CONT, pieces[2]), frame(CONT, b"\x00", fin=True))
    assert isinstance(items_of(make, data, deflate, SMALL)[0], str if opcode == TEXT else bytes)


def test_the_octets_put_back_count_too(make: MakeCodec, deflate: Agreement) -> None:
    # A stored block of 104 octets that stops after 100: the four at the end of a flush complete it.
    payload = bytes.fromhex("006800") + bytes.fromhex("97ff") + b"x" * 100
    data = frame(BINARY, payload, rsv=RSV1)
    assert items_of(make, data, deflate, SMALL) == [TOO_BIG]
    roomy = MessageLimits(size=104)
    assert items_of(make, data, deflate, roomy) == [b"x" * 100 + bytes.fromhex("0000ffff")]


def test_as_many_fragments_as_may_be(make: MakeCodec, agreement: Agreement | None) -> None:
    data = b"".join(fragments(TEXT, [b"a", b"", b"b", b"c"]))
    assert items_of(make, data + data, agreement, SMALL) == ["abc", "abc"]


def test_too_many_fragments(make: MakeCodec, agreement: Agreement | None) -> None:
    frames = fragments(TEXT, [b"a", b"", b"b", b"c", b""])
    data = frame(PING).join(frames[:3]) + frames[3]
    assert items_of(make, data, agreement, SMALL) == [Ping(b""), Ping(b""), TOO_BIG]
    empty = b"".join(fragments(BINARY, [b""] * 1_000))
    assert items_of(make, empty, agreement, SMALL) == [TOO_BIG]


def peak_of(codec: FrameCodec, data: bytes, step: int) -> tuple[list[Item], int]:
    """Return what `data` is read as, and the most bytes that were held on the way."""
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    tracemalloc.start()
    try:
        items = read(codec, pieces)
        return items, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


SLACK = 150_000


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_bomb_is_bounded(make: MakeCodec, deflate: Agreement, opcode: int) -> None:
    data = frame(opcode, deflated(b"0" * 64 * MIB, level=9), rsv=RSV1)
    items, peak = peak_of(make(deflate, MessageLimits(size=MIB)), data, 256)
    assert items == [TOO_BIG]
    assert peak < 2 * MIB + SLACK


def test_a_bomb_of_many_fragments_is_bounded(make: MakeCodec, deflate: Agreement) -> None:
    pieces = Deflater(level=9).pieces(*[b"0" * 100_000] * 100)
    data = b"".join(fragments(BINARY, pieces, rsv=RSV1))
    items, peak = peak_of(make(deflate, MessageLimits(size=MIB)), data, 256)
    assert items == [TOO_BIG]
    assert peak < 2 * MIB + SLACK


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_of_the_limit_is_held_twice_at_most(
    make: MakeCodec, agreement: Agreement | None, opcode: int
) -> None:
    payload = b"0" * MIB
    data = frame(opcode, payload)
    if agreement is not None:
        data = frame(opcode, deflated(payload), rsv=RSV1)
    items, peak = peak_of(make(agreement, MessageLimits(size=MIB)), data, 256)
    assert items == [payload.decode() if opcode == TEXT else payload]
    assert peak < 2 * MIB + SLACK + len(data)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_in_tiny_pieces_costs_what_it_holds(make: MakeCodec, opcode: int) -> None:
    data = frame(opcode, b"0123456789" * 1_000)
    items, peak = peak_of(make(), data, 2)
    assert [len(item) for item in items if isinstance(item, (str, bytes))] == [10_000]
    assert peak < 4 * len(data) + 50_000


def test_messages_in_many_pieces_keep_apart(make: MakeCodec) -> None:
    data = frame(TEXT, "x" * 1_200) + frame(BINARY, b"y" * 1_200)
    assert items_of(make, data + frame(TEXT, "z")) == ["x" * 1_200, b"y" * 1_200, "z"]


# -- what goes out -----------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536])
def test_messages_of_every_length_form(make: MakeCodec, length: int) -> None:
    codec = make()
    text = "x" * length
    assert parsed(codec.message(text)) == [ServerFrame(TEXT, text.encode())]
    assert parsed(codec.message(text.encode())) == [ServerFrame(BINARY, text.encode())]


def test_a_message_is_bytes(make: MakeCodec, agreement: Agreement | None) -> None:
    codec = make(agreement)
    out = [codec.message("a"), codec.message(b"a"), codec.ping(b""), codec.pong(b"")]
    assert {type(frame) for frame in [*out, codec.close(1000, "")]} == {bytes}


def test_text_goes_out_as_utf8(make: MakeCodec) -> None:
    assert parsed(make().message("κ\U0001f600")) == [ServerFrame(TEXT, "κ\U0001f600".encode())]


def test_a_lone_surrogate_raises_and_harms_nothing(
    make: MakeCodec, agreement: Agreement | None
) -> None:
    codec = make(agreement)
    with pytest.raises(UnicodeEncodeError):
        codec.message("a\ud800b" * 1_000)
    assert [frame.opcode for frame in parsed(codec.message(b"a" * 100))] == [BINARY]


def test_compressed_messages(make: MakeCodec, deflate: Agreement) -> None:
    codec = make(deflate)
    inflater = Inflater(keep=not deflate.server_no_context_takeover)
    for message in ("Hello, hello, hello, hello", b"\0" * 100_000, "Hello, hello, hello, hello"):
        (sent,) = parsed(codec.message(message))
        data = message.encode() if isinstance(message, str) else message
        opcode = TEXT if isinstance(message, str) else BINARY
        assert sent == (opcode, sent.payload, True, RSV1)
        assert len(sent.payload) < len(data)
        assert inflater.whole(sent.payload) == data


@pytest.mark.parametrize("payload", [b"", b"\0" * 125])
def test_pings_and_pongs_go_out_as_they_are(
    make: MakeCodec, agreement: Agreement | None, payload: bytes
) -> None:
    codec = make(agreement)
    out = codec.ping(payload) + codec.pong(payload)
    assert parsed(out) == [ServerFrame(PING, payload), ServerFrame(PONG, payload)]


@pytest.mark.parametrize("code", VALID_CODES)
def test_closing(make: MakeCodec, agreement: Agreement | None, code: int) -> None:
    payload = code.to_bytes(2, "big")
    assert parsed(make(agreement).close(code, "")) == [ServerFrame(CLOSE, payload)]
    reason = "ü" * 61
    sent = make(agreement).close(code, reason)
    assert parsed(sent) == [ServerFrame(CLOSE, payload + reason.encode())]


def test_closing_without_a_code(make: MakeCodec) -> None:
    assert parsed(make().close(1005, "")) == [ServerFrame(CLOSE, b"")]


def test_the_peers_close_is_answered(make: MakeCodec) -> None:
    for sent, answer in ((close(), b""), (close(3000, "why"), b"\x0b\xb8")):
        codec = make()
        (closed,) = read(codec, [sent])
        assert isinstance(closed, PeerClose)
        assert parsed(codec.close(closed.code, "")) == [ServerFrame(CLOSE, answer)]


def test_messages_still_come_behind_our_close(make: MakeCodec) -> None:
    codec = make()
    codec.close(1000, "")
    assert read(codec, [frame(TEXT, "late"), frame(PING), close(1001)]) == [
        "late",
        Ping(b""),
        PeerClose(1001, ""),
    ]
    assert read(codec, [frame(TEXT, "later")]) == []


def test_a_fault_behind_our_close(make: MakeCodec) -> None:
    codec = make()
    codec.close(1000, "")
    assert read(codec, [frame(CONT, "x"), frame(TEXT)]) == [PROTOCOL_ERROR]


def test_messages_go_out_behind_a_fault(make: MakeCodec, agreement: Agreement | None) -> None:
    codec = make(agreement)
    assert read(codec, [frame(3)]) == [PROTOCOL_ERROR]
    (answer,) = parsed(codec.message(b"answer"))
    assert answer.opcode == BINARY
    assert parsed(codec.close(1002, "")) == [ServerFrame(CLOSE, b"\x03\xea")]


# -- windows -----------------------------------------------------------------------------------


def test_the_clients_window_goes_on(make: MakeCodec) -> None:
    words = random.Random(1).randbytes(500)
    deflater = Deflater(keep=True)
    payloads = [deflater.whole(words) for _ in range(3)]
    assert len(payloads[1]) < 50  # it refers to the first
    data = b"".join(frame(BINARY, payload, rsv=RSV1) for payload in payloads)
    assert items_of(make, data, TAKEOVER) == [words] * 3
    assert items_of(make, data, FRESH) == [words, INVALID_PAYLOAD]


def test_the_servers_window_goes_on(make: MakeCodec) -> None:
    words = random.Random(1).randbytes(500)
    codec, inflater = make(TAKEOVER), Inflater(keep=True)
    for at in range(3):
        (sent,) = parsed(codec.message(words))
        assert (len(sent.payload) < 50) is (at > 0)
        assert inflater.whole(sent.payload) == words


@pytest.mark.parametrize(("server", "client"), [(True, False), (False, True)])
def test_one_side_alone_keeps_its_window(make: MakeCodec, server: bool, client: bool) -> None:
    agreement = Agreement(
        EAGER, server_no_context_takeover=server, client_no_context_takeover=client
    )
    codec = make(agreement)
    words = b"the same words again, " * 10
    deflater, inflater = Deflater(keep=not client), Inflater(keep=not server)
    for _ in range(3):
        assert read(codec, [frame(BINARY, deflater.whole(words), rsv=RSV1)]) == [words]
        (sent,) = parsed(codec.message(words))
        assert inflater.whole(sent.payload) == words


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("bits", range(9, 16))
def test_windows_of_every_size(make: MakeCodec, bits: int, keep: bool) -> None:
    agreement = Agreement(EAGER, not keep, not keep, bits, bits)
    data = random.Random(bits).randbytes(700) * 60
    deflater, inflater = Deflater(keep=keep, bits=bits), Inflater(keep=keep, bits=bits)
    codec = make(agreement)
    for _ in range(2):
        assert read(codec, [frame(BINARY, deflater.whole(data), rsv=RSV1)]) == [data]
        (sent,) = parsed(codec.message(data))
        payload = inflater.whole(sent.payload) if sent.rsv else sent.payload
        assert payload == data


def test_a_client_told_eight_bits_may_use_nine(make: MakeCodec) -> None:
    agreement = Agreement(EAGER, client_no_context_takeover=True, client_max_window_bits=8)
    data = random.Random(8).randbytes(400) * 3
    payload = deflated(data, bits=9)
    assert items_of(make, frame(BINARY, payload, rsv=RSV1), agreement) == [data]


# -- on random input ---------------------------------------------------------------------------


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return `data` in pieces that end at these places, counted round."""
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(ends)]


PLACES = st.lists(st.integers(0, 1 << 20), max_size=8)
CONTROLS = st.lists(st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125)), max_size=2)
PAYLOADS = st.one_of(
    st.text(max_size=200),
    st.binary(max_size=200),
    st.builds(lambda text, times: text * times, st.text(max_size=20), st.integers(0, 300)),
)


@st.composite
def conversations(draw: st.DrawFn, agreement: Agreement | None) -> tuple[bytes, list[Item]]:
    """Draw what a client may send, and what it is to be read as."""
    keep = agreement is not None and not agreement.client_no_context_takeover
    deflater = Deflater(keep=keep)
    frames: list[bytes] = []
    items: list[Item] = []
    for payload in draw(st.lists(PAYLOADS, max_size=5)):
        opcode = TEXT if isinstance(payload, str) else BINARY
        pieces = cut(payload.encode() if isinstance(payload, str) else payload, draw(PLACES))
        rsv = RSV1 if agreement is not None and draw(st.booleans()) else 0
        for one in fragments(opcode, deflater.pieces(*pieces) if rsv else pieces, rsv=rsv):
            for control, content in draw(CONTROLS):
                frames.append(frame(control, content))
                items.append(Ping(content) if control == PING else Pong(content))
            frames.append(one)
        items.append(payload)
    if draw(st.booleans()):
        code, reason = draw(st.sampled_from(VALID_CODES)), draw(st.text(max_size=30))
        frames.append(close(code, reason))
        items.append(PeerClose(code, reason))
    return b"".join(frames), items


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_conversation_in_any_pieces(
    make: MakeCodec, agreement: Agreement | None, data: st.DataObject
) -> None:
    sent, items = data.draw(conversations(agreement))
    pieces, limit = cut(sent, data.draw(PLACES)), data.draw(st.integers(1, 4))
    assert read(make(agreement), pieces, limit) == items


HEADS = st.builds(
    frame,
    st.integers(0, 15),
    st.binary(max_size=8),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, RSV1, RSV2]),
    mask=st.sampled_from([b"\0\0\0\0", b"\1\2\3\4", None]),
    declared=st.sampled_from([None, None, 3, 90, 200]),
)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_bytes_in_any_pieces(
    make: MakeCodec, agreement: Agreement | None, data: st.DataObject
) -> None:
    sent = b"".join(data.draw(st.lists(st.one_of(st.binary(max_size=20), HEADS), max_size=12)))
    places = data.draw(st.lists(st.integers(0, len(sent)), max_size=8))
    whole = read(make(agreement, SMALL), [sent])
    codec = make(agreement, SMALL)
    items = read(codec, cut(sent, places))
    assert not any(isinstance(item, (Fail, PeerClose)) for item in items[:-1])
    if items and isinstance(items[-1], (Fail, PeerClose)):
        assert read(codec, [sent, frame(TEXT, "behind")]) == []
    # Where more than one thing is wrong, the pieces may decide which is seen first.
    assert items[:-1] == whole[:-1]
    assert [type(item) for item in items] == [type(item) for item in whole]


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_a_message_that_is_read_past_take_is_what_take_reads(
    make: MakeCodec, agreement: Agreement | None, data: st.DataObject
) -> None:
    one = st.one_of(
        HEADS,
        st.binary(max_size=200),
        st.builds(frame, st.sampled_from([TEXT, BINARY]), st.binary(max_size=150)),
        st.builds(frame, st.sampled_from([TEXT, BINARY]), st.text(max_size=150).map(str.encode)),
        st.builds(
            lambda opcode, text, cut: frame(opcode, deflated(text.encode())[cut:], rsv=RSV1),
            st.sampled_from([TEXT, BINARY]),
            st.text(max_size=150),
            st.sampled_from([0, 0, 1]),
        ),
    )
    sent = data.draw(one) + data.draw(st.sampled_from([b"", b"", b"\x81"]))
    codec = make(agreement, SMALL)
    if not codec.is_idle:
        return
    message = codec.read_message(sent, SMALL.size)
    if message is not None:
        assert read(make(agreement, SMALL), [sent]) == [message]
    assert codec.is_idle
    assert read(codec, [sent]) == read(make(agreement, SMALL), [sent])


def test_usual_messages_are_read_past_take(make: MakeCodec) -> None:
    codec = make(FRESH)
    if codec.is_idle:
        for sent in (frame(TEXT, "grüß"), frame(TEXT, deflated("grüß".encode()), rsv=RSV1)):
            assert codec.read_message(sent, 100) == "grüß"
            assert codec.read_message(sent + b"\x81", 100) is None
            assert codec.read_message(sent[:-1], 100) is None
            assert make().read_message(sent, 100) == ("grüß" if sent[0] == 0x81 else None)
        assert codec.read_message(b"", 100) is None
        assert codec.read_message(b"\xc1", 100) is None
        assert make(TAKEOVER).read_message(frame(TEXT, deflated(b"a"), rsv=RSV1), 100) is None
    else:
        assert codec.read_message(frame(TEXT, "a"), 100) is None


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_conversation_with_wrong_bits(
    make: MakeCodec, agreement: Agreement | None, data: st.DataObject
) -> None:
    sent, _ = data.draw(conversations(agreement))
    spoilt = bytearray(sent)
    for place in data.draw(st.lists(st.integers(0, 1 << 16), min_size=1, max_size=3)):
        if spoilt:
            spoilt[place % len(spoilt)] ^= 1 << data.draw(st.integers(0, 7))
    items = read(make(agreement), cut(bytes(spoilt), data.draw(PLACES)))
    whole = read(make(agreement), [bytes(spoilt)])
    assert items[:-1] == whole[:-1]
    assert not any(isinstance(item, (Fail, PeerClose)) for item in items[:-1])
    assert [type(item) for item in items] == [type(item) for item in whole]


class Model:
    """What RFC 6455 section 5 makes of single frames, one after the other, right or wrong."""

    def __init__(self, agreement: Agreement | None) -> None:
        self.agreement = agreement
        keep = agreement is not None and not agreement.client_no_context_takeover
        self.deflater = Deflater(keep=keep)
        self.items: list[Item] = []
        self.sent = b""
        self.within: int | None = None
        self.pieces: list[bytes] = []
        self.is_compressed = False

    def add(self, opcode: int, piece: bytes, fin: bool, rsv: int) -> bool:
        """Send a frame; say whether the next one will be read."""
        if opcode == GO_ON:
            opcode, rsv = (CONT, 0) if self.within is not None else (TEXT, rsv)
            rsv = rsv if self.agreement is not None else 0
        if fault := self.fault(opcode, fin, rsv):
            self.sent += frame(opcode, piece, fin=fin, rsv=rsv)
        elif opcode >= CLOSE:
            self.sent += frame(opcode, piece)
            self.items.append(Ping(piece) if opcode == PING else Pong(piece))
        else:
            fault = self.add_data(opcode, piece, fin, rsv)
        if fault:
            self.items.append(fault)
        return fault is None

    def fault(self, opcode: int, fin: bool, rsv: int) -> Fail | None:
        is_first = opcode != CONT
        unknown = opcode in (0x3, 0xB)
        if opcode >= CLOSE:
            wrong = not fin or rsv != 0
        else:
            wrong = is_first is (self.within is not None)
            may_be_compressed = is_first and self.agreement is not None
            wrong |= rsv not in ((0, RSV1) if may_be_compressed else (0,))
        return PROTOCOL_ERROR if unknown or wrong else None

    def add_data(self, opcode: int, piece: bytes, fin: bool, rsv: int) -> Fail | None:
        if opcode != CONT:
            self.within, self.pieces, self.is_compressed = opcode, [], bool(rsv)
        self.pieces.append(piece)
        payload = piece
        if self.is_compressed:
            payload = self.compressed(piece, fin)
        self.sent += frame(opcode, payload, fin=fin, rsv=rsv)
        data = b"".join(self.pieces)
        if self.within == TEXT and not is_text(data, fin):
            return INVALID_PAYLOAD
        if not fin:
            return None
        self.items.append(data.decode() if self.within == TEXT else data)
        self.within = None
        return None

    def compressed(self, piece: bytes, fin: bool) -> bytes:
        if len(self.pieces) == 1:
            self.deflater.begin()
        return self.deflater.add(piece, fin=fin)


def is_text(data: bytes, is_whole: bool) -> bool:
    """Say whether `data` is UTF-8, or may become it."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return not is_whole and error.reason == "unexpected end of data"
    return True


PIECES = st.sampled_from(
    [b"", b"a", b"b" * 20, "é".encode(), "é".encode(), b"\xc3", b"\xa9", b"\xed", b"\xa0"]
)
GO_ON = -1  # a frame that is right at its place
MOVES = st.one_of(
    st.tuples(st.just(GO_ON), PIECES, st.booleans(), st.sampled_from([0, RSV1])),
    st.tuples(st.sampled_from([GO_ON, TEXT, BINARY]), PIECES, st.booleans(), st.just(0)),
    st.tuples(st.sampled_from([PING, PONG]), PIECES, st.just(True), st.just(0)),
    st.tuples(
        st.sampled_from([CONT, TEXT, BINARY, PING, PONG, 0x3, 0xB]),
        PIECES,
        st.booleans(),
        st.sampled_from([0, RSV1, RSV2]),
    ),
)


@settings(deadline=None, max_examples=80)
@given(st.lists(MOVES, max_size=12), st.lists(st.integers(0, 200), max_size=5))
def test_any_frames_as_the_model_says(
    make: MakeCodec,
    agreement: Agreement | None,
    moves: list[tuple[int, bytes, bool, int]],
    places: list[int],
) -> None:
    model = Model(agreement)
    for move in moves:
        if not model.add(*move):
            break
    assert read(make(agreement), cut(model.sent, places)) == model.items


# -- against an implementation that is not ours ------------------------------------------------


class Client:
    """The `websockets` library's client, behind its handshake."""

    def __init__(self, agreement: Agreement | None) -> None:
        self._protocol = WebsocketsProtocol(Side.CLIENT, state=State.OPEN, max_size=None)
        if agreement is not None:
            self._protocol.extensions = [
                PerMessageDeflate(
                    agreement.server_no_context_takeover,
                    agreement.client_no_context_takeover,
                    agreement.server_max_window_bits,
                    agreement.client_max_window_bits,
                )
            ]

    def send(self, payload: str | bytes, places: list[int]) -> bytes:
        first, *rest = cut(payload.encode() if isinstance(payload, str) else payload, places)
        send = self._protocol.send_text if isinstance(payload, str) else self._protocol.send_binary
        send(first, fin=not rest)
        for at, piece in enumerate(rest, 1):
            self._protocol.send_ping(b"between")
            self._protocol.send_continuation(piece, fin=at == len(rest))
        return b"".join(self._protocol.data_to_send())

    def close(self, code: int, reason: str) -> bytes:
        self._protocol.send_close(code, reason)
        return b"".join(self._protocol.data_to_send())

    def received(self, pieces: list[bytes]) -> list[tuple[int, bytes]]:
        for piece in pieces:
            self._protocol.receive_data(piece)
        assert self._protocol.parser_exc is None
        events = self._protocol.events_received()
        return [(one.opcode, bytes(one.data)) for one in events if isinstance(one, Frame)]


@st.composite
def agreements(draw: st.DrawFn) -> Agreement | None:
    bits = st.integers(9, 15)
    threshold = DeflateSettings(threshold=draw(st.sampled_from([0, 30])))
    flags = draw(st.booleans()), draw(st.booleans())
    return draw(
        st.none() | st.builds(Agreement, st.just(threshold), *map(st.just, flags), bits, bits)
    )


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_what_websockets_sends_is_read(make: MakeCodec, data: st.DataObject) -> None:
    agreement = data.draw(agreements())
    client, codec = Client(agreement), make(agreement)
    for payload in data.draw(st.lists(PAYLOADS, max_size=5)):
        places = data.draw(PLACES)
        sent = client.send(payload, places)
        items = read(codec, cut(sent, data.draw(PLACES)))
        assert items == [Ping(b"between")] * len(places) + [payload]
    assert read(codec, [client.close(4000, "grüß")]) == [PeerClose(4000, "grüß")]


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_what_is_sent_websockets_reads(make: MakeCodec, data: st.DataObject) -> None:
    agreement = data.draw(agreements())
    client, codec = Client(agreement), make(agreement)
    for payload in data.draw(st.lists(PAYLOADS, max_size=5)):
        sent = codec.ping(b"1") + codec.message(payload) + codec.pong(b"2")
        octets = payload.encode() if isinstance(payload, str) else payload
        opcode = TEXT if isinstance(payload, str) else BINARY
        received = client.received(cut(sent, data.draw(PLACES)))
        assert received == [(PING, b"1"), (opcode, octets), (PONG, b"2")]
    (closed,) = client.received([codec.close(1001, "grüß")])
    assert closed == (CLOSE, b"\x03\xe9" + "grüß".encode())
