"""Every codec: faults that fail the connection with 1002 or 1007."""

import pytest

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
    close,
    deflated,
    fragments,
    frame,
)
from tests.ws.codecs import INVALID_PAYLOAD, PROTOCOL_ERROR, MakeCodec, items_of
from wsgate.ws.deflate.negotiation import Agreement
from wsgate.ws.frames.codec import Item, Ping
from wsgate.ws.limits import MessageLimits

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
def test_a_malformed_frame_fails_with_1002(
    make: MakeCodec, agreement: Agreement | None, fault: str
) -> None:
    data = FAULTS[fault]
    assert items_of(make, data, agreement) == [PROTOCOL_ERROR]
    before = frame(TEXT, "a") + frame(PING)
    assert items_of(make, before + data, agreement) == ["a", Ping(b""), PROTOCOL_ERROR]


def test_a_continuation_after_the_final_fragment_fails(make: MakeCodec) -> None:
    data = b"".join(fragments(TEXT, [b"a", b"b"])) + frame(CONT, "c")
    assert items_of(make, data) == ["ab", PROTOCOL_ERROR]


@pytest.mark.parametrize(
    "data",
    [frame(at, b"x")[:2] for at in (3, 0xB)]
    + [frame(PING, b"x" * 126)[:2], frame(PING, b"x", fin=False)[:2]]
    + [frame(TEXT, "x", rsv=RSV2)[:2], frame(CONT, "x")[:2], frame(TEXT, "x", mask=None)[:2]],
    ids=["opcode", "control opcode", "long", "fragmented", "reserved", "stray", "unmasked"],
)
def test_a_fault_in_the_first_two_octets_is_found_at_once(make: MakeCodec, data: bytes) -> None:
    assert items_of(make, data, is_whole=False) == [PROTOCOL_ERROR]


def test_rsv1_without_an_agreement_fails(make: MakeCodec) -> None:
    data = frame(TEXT, deflated(b"Hello"), rsv=RSV1)
    assert items_of(make, data) == [PROTOCOL_ERROR]
    assert items_of(make, data, limits=MessageLimits(size=1)) == [PROTOCOL_ERROR]


def test_rsv1_on_a_continuation_fails(make: MakeCodec, deflate: Agreement) -> None:
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
def test_invalid_text_is_found_as_it_arrives(
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
def test_fragmented_text_is_checked_as_it_arrives(
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
def test_compressed_text_is_checked_as_it_arrives(
    make: MakeCodec, deflate: Agreement, bad: str, at: int
) -> None:
    text = bytes.fromhex(bad)
    assert items_of(make, frame(TEXT, deflated(text), rsv=RSV1), deflate) == [INVALID_PAYLOAD]
    pieces = Deflater().pieces(*(text[i : i + 1] for i in range(at + 1)), b"")
    frames = fragments(TEXT, pieces, rsv=RSV1)
    assert items_of(make, b"".join(frames[:at]), deflate) == []
    assert items_of(make, b"".join(frames[: at + 1]), deflate) == [INVALID_PAYLOAD]


@pytest.mark.parametrize("char", ["ü", "€", "\U0001f600", "\ud7ff"])
def test_text_that_ends_within_a_character_fails(
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
def test_text_may_be_fragmented_within_a_character(
    make: MakeCodec, agreement: Agreement | None, text: str
) -> None:
    data = text.encode()
    for cut in range(len(data) + 1):
        halves = [data[:cut], data[cut:]]
        assert items_of(make, b"".join(fragments(TEXT, halves)), agreement) == [text]
        if agreement is not None:
            frames = fragments(TEXT, Deflater().pieces(*halves), rsv=RSV1)
            assert items_of(make, b"".join(frames), agreement) == [text]
    octets = [data[at : at + 1] for at in range(len(data))]
    assert items_of(make, b"".join(fragments(TEXT, octets)), agreement) == [text]


def test_binary_messages_are_not_checked_for_utf8(
    make: MakeCodec, agreement: Agreement | None
) -> None:
    data = frame(BINARY, b"\xed\xa0\x80") + b"".join(fragments(BINARY, [b"\xed", b"\xa0", b"\xc3"]))
    assert items_of(make, data, agreement) == [b"\xed\xa0\x80", b"\xed\xa0\xc3"]


@pytest.mark.parametrize("reason", [b"\xff", b"ab\xc3", b"\xed\xa0\x80", b"\xc0\x80"])
def test_a_close_reason_that_is_not_utf8_fails(
    make: MakeCodec, agreement: Agreement | None, reason: bytes
) -> None:
    assert items_of(make, close(1000, reason), agreement) == [INVALID_PAYLOAD]


def test_bad_deflate_data_fails(make: MakeCodec, deflate: Agreement) -> None:
    for payload in (b"\x07", b"\xff" * 20, b"\x06\x00", b"", b"Hello, this is not compressed"):
        data = frame(BINARY, payload, rsv=RSV1)
        assert items_of(make, data, deflate) == [INVALID_PAYLOAD]


@pytest.mark.parametrize("level", [0, 6])
def test_deflate_data_that_ends_within_a_block_fails(
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
