"""Every codec: the limits on a message (1009), and the memory that it takes."""

import tracemalloc

import pytest

from tests.frames import (
    BINARY,
    CONT,
    PING,
    RSV1,
    TEXT,
    Deflater,
    deflated,
    fragments,
    frame,
)
from tests.ws.codecs import MIB, SMALL, TOO_BIG, MakeCodec, items_of, read
from wsgate.ws.deflate.negotiation import Agreement
from wsgate.ws.frames.codec import FrameCodec, Item, Ping
from wsgate.ws.limits import MessageLimits

# -- 1009 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_of_exactly_the_limit_passes(
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
def test_a_declared_length_above_the_limit_fails(
    make: MakeCodec, agreement: Agreement | None, length: int
) -> None:
    head = frame(BINARY, declared=length)
    assert items_of(make, head, agreement, SMALL, is_whole=False) == [TOO_BIG]


def test_fragments_that_declare_more_than_the_limit_fail(
    make: MakeCodec, agreement: Agreement | None
) -> None:
    first = frame(TEXT, "x" * 60, fin=False) + frame(PING)
    head = frame(CONT, declared=41)
    assert items_of(make, first, agreement, SMALL) == [Ping(b"")]
    assert items_of(make, first + head, agreement, SMALL, is_whole=False) == [Ping(b""), TOO_BIG]
    whole = first + frame(CONT, "x" * 40) + frame(TEXT, "y")
    assert items_of(make, whole, agreement, SMALL) == [Ping(b""), "x" * 100, "y"]


def test_the_limit_counts_bytes_not_characters(make: MakeCodec) -> None:
    assert items_of(make, frame(TEXT, "ü" * 50), limits=SMALL) == ["ü" * 50]
    assert items_of(make, frame(TEXT, "ü" * 51), limits=SMALL) == [TOO_BIG]


@pytest.mark.parametrize("level", [0, 9])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_that_inflates_above_the_limit_fails(
    make: MakeCodec, deflate: Agreement, level: int, opcode: int
) -> None:
    data = frame(opcode, deflated(b"x" * 101, level=level), rsv=RSV1)
    assert items_of(make, data, deflate, SMALL) == [TOO_BIG]
    pieces = Deflater(level=level).pieces(b"x" * 50, b"x" * 50, b"x")
    data = b"".join(fragments(opcode, pieces, rsv=RSV1))
    assert items_of(make, data, deflate, SMALL) == [TOO_BIG]
    data = data.replace(frame(CONT, pieces[2]), frame(CONT, b"\x00", fin=True))
    assert isinstance(items_of(make, data, deflate, SMALL)[0], str if opcode == TEXT else bytes)


def test_the_appended_octets_count_towards_the_limit(make: MakeCodec, deflate: Agreement) -> None:
    # A stored block of 104 octets that stops after 100: the four at the end of a flush complete it.
    payload = bytes.fromhex("006800") + bytes.fromhex("97ff") + b"x" * 100
    data = frame(BINARY, payload, rsv=RSV1)
    assert items_of(make, data, deflate, SMALL) == [TOO_BIG]
    roomy = MessageLimits(size=104)
    assert items_of(make, data, deflate, roomy) == [b"x" * 100 + bytes.fromhex("0000ffff")]


def test_a_message_of_the_most_fragments_passes(
    make: MakeCodec, agreement: Agreement | None
) -> None:
    data = b"".join(fragments(TEXT, [b"a", b"", b"b", b"c"]))
    assert items_of(make, data + data, agreement, SMALL) == ["abc", "abc"]


def test_too_many_fragments_fail(make: MakeCodec, agreement: Agreement | None) -> None:
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
def test_a_deflate_bomb_is_limited(make: MakeCodec, deflate: Agreement, opcode: int) -> None:
    data = frame(opcode, deflated(b"0" * 64 * MIB, level=9), rsv=RSV1)
    items, peak = peak_of(make(deflate, MessageLimits(size=MIB)), data, 256)
    assert items == [TOO_BIG]
    assert peak < 2 * MIB + SLACK


def test_a_deflate_bomb_of_many_fragments_is_limited(make: MakeCodec, deflate: Agreement) -> None:
    pieces = Deflater(level=9).pieces(*[b"0" * 100_000] * 100)
    data = b"".join(fragments(BINARY, pieces, rsv=RSV1))
    items, peak = peak_of(make(deflate, MessageLimits(size=MIB)), data, 256)
    assert items == [TOO_BIG]
    assert peak < 2 * MIB + SLACK


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_takes_at_most_twice_its_size_in_memory(
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
def test_a_message_in_tiny_pieces_takes_little_more_memory(make: MakeCodec, opcode: int) -> None:
    data = frame(opcode, b"0123456789" * 1_000)
    items, peak = peak_of(make(), data, 2)
    assert [len(item) for item in items if isinstance(item, (str, bytes))] == [10_000]
    assert peak < 4 * len(data) + 50_000


def test_messages_in_many_pieces_are_not_mixed(make: MakeCodec) -> None:
    data = frame(TEXT, "x" * 1_200) + frame(BINARY, b"y" * 1_200)
    assert items_of(make, data + frame(TEXT, "z")) == ["x" * 1_200, b"y" * 1_200, "z"]
