"""RESP2: replies in any pieces, and the bytes of commands."""

from typing import Any

import pytest
from hypothesis import given, strategies as st

from wsgate.brokers.redis.resp import ErrorReply, ReplyParser, pack

LEAVES = st.none() | st.integers() | st.binary(max_size=40)
REPLIES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4), max_leaves=12)


def encode(reply: Any) -> bytes:
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    return b"*%d\r\n" % len(reply) + b"".join(map(encode, reply))


@given(st.lists(REPLIES, max_size=5), st.lists(st.integers(1, 30)))
def test_replies_are_the_same_in_any_pieces(replies: list[Any], sizes: list[int]) -> None:
    parser, data = ReplyParser(), b"".join(map(encode, replies))
    for size in sizes:
        parser.feed(data[:size])
        data = data[size:]
    parser.feed(data)
    assert list(parser.replies) == replies


def test_lines_errors_and_missing_arrays() -> None:
    parser = ReplyParser()
    parser.feed(b"+OK\r\n-MOVED 12 127.0.0.1:7000\r\n*-1\r\n*2\r\n+a\r\n-ERR b\r\n")
    ok, moved, missing, (text, error) = parser.replies
    assert (ok, missing, text) == (b"OK", None, b"a")
    assert isinstance(moved, ErrorReply)
    assert (moved.kind, moved.text) == ("MOVED", "MOVED 12 127.0.0.1:7000")
    assert isinstance(error, ErrorReply)
    assert error.kind == "ERR"


@pytest.mark.parametrize("data", [b"HTTP/1.1 400\r\n", b"$x\r\n", b"\r\n", b"*\r\n"])
def test_what_is_not_resp_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"invalid|begins"):
        ReplyParser().feed(data)


def test_a_large_value_is_joined_once() -> None:
    parser, piece = ReplyParser(), b"x" * 1000
    parser.feed(b"$1000000\r\n")
    for _ in range(999):
        parser.feed(piece)
    assert len(parser._pieces) == 1000  # none of them was copied
    parser.feed(piece + b"\r\n:1\r\n")
    assert list(parser.replies) == [piece * 1000, 1]
    assert not parser._pieces


def test_the_bytes_of_commands() -> None:
    commands = [("SET", "käse", b"\r\n", 12, 0.5), ("PING",)]
    assert pack(commands) == (
        b"*5\r\n$3\r\nSET\r\n$5\r\nk\xc3\xa4se\r\n$2\r\n\r\n\r\n$2\r\n12\r\n$3\r\n0.5\r\n"
        b"*1\r\n$4\r\nPING\r\n"
    )
