"""Every codec: valid frames, and how many items a take returns."""

import pytest

from tests.frames import (
    BINARY,
    PING,
    PONG,
    RSV1,
    TEXT,
    Deflater,
    close,
    deflated,
    fragments,
    frame,
)
from tests.ws.codecs import VALID_CODES, MakeCodec, items_of
from wsgate.ws.deflate.negotiation import Agreement
from wsgate.ws.frames.codec import PeerClose, Ping, Pong

# -- valid frames ------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_messages_of_every_length_form_are_read(
    make: MakeCodec, agreement: Agreement | None, length: int
) -> None:
    payload = bytes(at % 251 for at in range(length))
    text = "x" * length
    assert items_of(make, frame(BINARY, payload), agreement) == [payload]
    assert items_of(make, frame(TEXT, text), agreement) == [text]


@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04"])
def test_any_masking_key_is_removed(make: MakeCodec, mask: bytes) -> None:
    assert items_of(make, frame(TEXT, "Hello, world", mask=mask)) == ["Hello, world"]


def test_the_examples_of_the_rfc(make: MakeCodec) -> None:
    # RFC 6455 section 5.7.
    hello = bytes.fromhex("818537fa213d7f9f4d5158")
    ping = bytes.fromhex("898537fa213d7f9f4d5158")
    assert hello == frame(TEXT, "Hello")
    assert items_of(make, hello + ping) == ["Hello", Ping(b"Hello")]


@pytest.mark.parametrize("length", [0, 1, 124, 125])
def test_pings_and_pongs_are_read(
    make: MakeCodec, agreement: Agreement | None, length: int
) -> None:
    payload = bytes(range(length))
    data = frame(PING, payload) + frame(PONG, payload)
    assert items_of(make, data, agreement) == [Ping(payload), Pong(payload)]


@pytest.mark.parametrize("code", VALID_CODES)
def test_a_close_with_a_code_and_a_reason(
    make: MakeCodec, agreement: Agreement | None, code: int
) -> None:
    assert items_of(make, close(code), agreement) == [PeerClose(code, "")]
    assert items_of(make, close(code, "grüß"), agreement) == [PeerClose(code, "grüß")]


def test_a_close_without_a_code_is_1005(make: MakeCodec) -> None:
    assert items_of(make, close()) == [PeerClose(1005, "")]


def test_a_close_with_the_longest_reason(make: MakeCodec) -> None:
    assert items_of(make, close(1000, "r" * 123)) == [PeerClose(1000, "r" * 123)]


def test_nothing_is_read_after_the_peers_close(make: MakeCodec) -> None:
    data = frame(TEXT, "before") + close(1000) + frame(TEXT, "after") + b"\xff" * 50
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


def test_compressed_and_plain_messages_may_alternate(make: MakeCodec, deflate: Agreement) -> None:
    data = frame(TEXT, deflated(b"one"), rsv=RSV1) + frame(TEXT, "two")
    data += frame(BINARY, deflated(b"three"), rsv=RSV1)
    assert items_of(make, data, deflate) == ["one", "two", b"three"]


# -- taking ------------------------------------------------------------------------------------


def test_take_stops_at_its_limit(make: MakeCodec) -> None:
    codec = make()
    codec.feed(b"".join(frame(TEXT, str(at)) for at in range(10)))
    taken = [codec.take(4) for _ in range(4)]
    assert taken == [["0", "1", "2", "3"], ["4", "5", "6", "7"], ["8", "9"], []]


def test_take_may_return_exactly_its_limit(make: MakeCodec) -> None:
    codec = make()
    codec.feed(frame(TEXT, "a") + frame(TEXT, "b"))
    assert codec.take(2) == ["a", "b"]
    assert not codec.take(2)
    codec.feed(frame(TEXT, "c"))
    assert codec.take(2) == ["c"]


def test_without_data_nothing_is_taken(make: MakeCodec) -> None:
    codec = make()
    assert not codec.take(1)
    codec.feed(b"")
    assert not codec.take(1)
    assert not codec.take(1, b"")
