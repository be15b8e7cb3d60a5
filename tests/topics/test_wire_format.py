"""The frames of the messages between a hub and its connections."""

import contextlib
import struct
from typing import Any, get_args

import pytest
from hypothesis import given, strategies as st

from wsgate.topics import messages
from wsgate.topics.messages import (
    Announce,
    Delivered,
    HistoryRule,
    Kept,
    Lost,
    Member,
    Message,
    Mode,
    Publish,
    Refusal,
    Sync,
)
from wsgate.topics.wire_format import _FIELDS, Decoder, WireError, encode

KINDS: tuple[type[Any], ...] = get_args(Message)
SHORT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)
DATA = st.text(st.characters(codec="utf-8")) | st.binary()
LONG = st.integers(0, 2**64 - 1)
INT = st.integers(0, 2**32 - 1)
OPTIONAL = st.none() | SHORT

VALUES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("topic", "member", "text", "name"), SHORT),
    **dict.fromkeys(("id", "after", "worker"), OPTIONAL),
    **dict.fromkeys(("request", "place", "previous", "position", "newest"), LONG),
    **dict.fromkeys(("question", "rules_version", "start", "former"), LONG),
    **dict.fromkeys(("last", "count", "connections"), INT),
    **dict.fromkeys(("is_settled", "is_known", "is_complete"), st.booleans()),
    **dict.fromkeys(("has_more", "has_joined"), st.booleans()),
    "version": st.integers(0, 2**16 - 1),
    "mode": st.sampled_from(Mode),
    "sync": st.sampled_from(Sync),
    "reason": st.sampled_from(Refusal),
    "data": DATA,
    **dict.fromkeys(("peers", "topics"), st.lists(SHORT, max_size=5)),
    "rules": st.lists(st.builds(HistoryRule, SHORT, INT, st.floats(0, 1e9)), max_size=5),
    "messages": st.lists(st.builds(Kept, SHORT, LONG, DATA), max_size=5),
    "members": st.lists(st.builds(Member, SHORT, INT), max_size=5),
}
ANY = st.one_of([st.builds(kind, *[VALUES[name] for name in kind.__slots__]) for kind in KINDS])


def test_every_message_has_a_number_of_its_own() -> None:
    assert set(_FIELDS) == set(KINDS)
    numbers = [number for number, _ in _FIELDS.values()]
    assert len(set(numbers)) == len(numbers)


@given(st.lists(ANY, max_size=5))
def test_messages_are_read_as_they_were_written_in_one_piece(sent: list[Message]) -> None:
    assert Decoder().feed(b"".join(map(encode, sent))) == sent


@given(ANY, ANY)
def test_messages_are_read_byte_by_byte(first: Message, second: Message) -> None:
    decoder = Decoder()
    data = encode(first) + encode(second)
    found = [one for at in range(len(data)) for one in decoder.feed(data[at : at + 1])]
    assert found == [first, second]


@given(ANY, st.binary(max_size=4))
def test_what_follows_a_message_waits_for_its_rest(message: Message, rest: bytes) -> None:
    following = encode(Lost("a topic")) + rest
    decoder = Decoder()
    assert decoder.feed(encode(message) + following[:3]) == [message]
    assert decoder.feed(following[3 : -len(rest) or None]) == [Lost("a topic")]


@given(ANY, st.data())
def test_a_frame_cut_short_is_malformed(message: Message, data: st.DataObject) -> None:
    body = encode(message)[4:]
    cut = body[: data.draw(st.integers(1, len(body) - 1))]
    with pytest.raises(WireError):
        Decoder().feed(struct.pack("!I", len(cut)) + cut)


@given(ANY, st.binary(min_size=1, max_size=5))
def test_a_frame_with_more_than_its_fields_is_malformed(message: Message, more: bytes) -> None:
    body = encode(message)[4:] + more
    with pytest.raises(WireError):
        Decoder().feed(struct.pack("!I", len(body)) + body)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(WireError):  # and nothing else
        Decoder(max_frame=1000).feed(data)


@pytest.mark.parametrize("size", [0, 1001, 2**32 - 1])
def test_a_frame_is_bounded_before_it_has_arrived(size: int) -> None:
    with pytest.raises(WireError, match=f"{size:,} bytes"):
        Decoder(max_frame=1000).feed(struct.pack("!I", size))


def frame(number: int, body: bytes) -> bytes:
    return struct.pack("!IB", len(body) + 1, number) + body


EMPTY = encode(Publish(0, "t", Mode.KEPT, None, b""))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(0, b""), "unknown class 0"),
        (frame(41, b"\0"), "a text is empty"),
        (frame(41, b"\1\xff"), "not UTF-8"),
        (frame(40, b"\1a\1b\2"), "2 is not known"),
        (encode(Publish(0, "t", Mode.KEPT, None, b"")).replace(b"b", b"x"), "neither text nor"),
        (
            encode(Publish(0, "t", Mode.KEPT, None, b"")).replace(b"t\1", b"t\x09"),
            "9 is not known",
        ),
    ],
)
def test_a_malformed_field_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        Decoder().feed(data)


def test_the_format_is_what_it_is() -> None:
    # Workers and a hub may be of two releases: this changes only with messages.VERSION.
    assert messages.VERSION == 2
    assert encode(Announce("room", "ada", has_joined=True)) == b"\0\0\0\x0b\x28\4room\3ada\1"
    assert encode(Delivered(1, "t", None, 2, 3, "é")) == (
        b"\0\0\0\x23\x22"
        + struct.pack("!Q", 1)
        + b"\1t\0"
        + struct.pack("!QQ", 2, 3)
        + b"t\0\0\0\2\xc3\xa9"
    )
