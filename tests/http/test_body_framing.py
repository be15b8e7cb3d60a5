"""Where a body ends: lines of chunks and trailers, checked before h11 gets them."""

import time
from collections.abc import Iterable

import pytest
from hypothesis import example, given, strategies as st

from tests.frames import ways
from wsgate.errors import RequestRefused
from wsgate.http.body_framing import BodyFraming, ChunkedBody, FixedLengthBody, body_framing
from wsgate.http.request import HeadLimits
from wsgate.types import Header

LIMITS = HeadLimits(size=64, headers=3)
NEXT = b"GET / HTTP/1.1\r\n"  # must be left in the buffer
MAX_SIZE = 65_536


def passed(
    framing: BodyFraming, pieces: Iterable[bytes], max_size: int = MAX_SIZE
) -> tuple[bytes, bytes]:
    """Return the bytes of the body, and the bytes that are left."""
    buffer, body = bytearray(), bytearray()
    for piece in pieces:
        buffer += piece
        while count := framing.advance(buffer, max_size):
            assert count <= len(buffer)
            body += buffer[:count]
            del buffer[:count]
    return bytes(body), bytes(buffer)


def in_all_ways(
    data: bytes, limits: HeadLimits = LIMITS, max_size: int = MAX_SIZE
) -> tuple[bytes, bytes]:
    """Feed a chunked body whole, byte by byte and in odd pieces; the results must be equal."""
    results = [passed(ChunkedBody(limits), pieces, max_size) for pieces in ways(data)]
    assert all(result == results[0] for result in results), results
    return results[0]


def refused_in_all_ways(data: bytes, limits: HeadLimits = LIMITS) -> tuple[int, str]:
    found = set()
    for pieces in ways(data):
        with pytest.raises(RequestRefused) as raised:
            passed(ChunkedBody(limits), pieces)
        found.add((raised.value.status, raised.value.detail))
    (only,) = found
    return only


# -- which framing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([], b""),
        ([(b"content-length", b"0")], b""),
        ([(b"content-length", b"5")], b"5\r\nab"),
        ([(b"transfer-encoding", b"chunked")], b"5\r\nabcde\r\n0\r\n\r\n"),
    ],
)
def test_the_headers_of_a_request_frame_its_body(headers: list[Header], body: bytes) -> None:
    data = b"5\r\nabcde\r\n0\r\n\r\n" + NEXT
    framing = body_framing(dict(headers), LIMITS)
    assert passed(framing, [data]) == (body, data[len(body) :])


def test_a_body_of_known_length_is_passed_in_bounded_pieces() -> None:
    framing, buffer = FixedLengthBody(10), bytearray(b"x" * 12)
    assert [framing.advance(buffer, 4) for _ in range(4)] == [4, 4, 2, 0]


# -- chunks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"0\r\n\r\n",
        b"000\r\n\r\n",
        b"1\r\na\r\n0\r\n\r\n",
        b"A\r\n" + b"x" * 10 + b"\r\n" + b"a\r\n" + b"y" * 10 + b"\r\n0\r\n\r\n",
        b"1;name\r\na\r\n0;last\r\n\r\n",
        b"1;a=b;c=d\r\na\r\n0\r\n\r\n",
        b'1 ;\ta = "q; \\" \xff \\\\" ; b=""\r\na\r\n0\r\n\r\n',
        b"0\r\nname: value\r\nempty:\r\n\xff".replace(b"\xff", b"x: \xff\t\r\n\r\n"),
        b"3\r\n\r\n0\r\n0\r\n\r\n",  # data that looks like lines
    ],
)
@pytest.mark.parametrize("max_size", [1, 4, MAX_SIZE])
def test_a_valid_body_is_passed_to_its_end(body: bytes, max_size: int) -> None:
    # The bytes after it belong to the next request, malformed or not.
    assert in_all_ways(body + NEXT, max_size=max_size) == (body, NEXT)
    assert in_all_ways(body + b"\n\x00\x7f", max_size=max_size) == (body, b"\n\x00\x7f")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" 1",
        b"1 ",
        b"1\t",
        b"+1",
        b"-1",
        b"0x1",
        b"1_0",
        b"g",
        b"\xb2",  # a superscript two is a digit for str.isdigit
        b"1" * 17,
        b"1\n",
        b"\n1",
        b"1\ra",
        b"1\x00",
        b"1;",
        b"1;;a",
        b"1;a=",
        b"1;=b",
        b"1; a b",
        b"1;a=b c",
        b"1;a\n",
        b"1;a=\x0b",
        b'1;a="',
        b'1;a="b\\"',
        b'1;a="b"c',
        b'1;a="b" c',
        b'1;a="\x7f"',
        b'1;a="\n"',
        b'1;a="\\\n"',
        b"1;\xe9",
        b"1 a",
        b"1,1",
    ],
)
def test_a_malformed_chunk_line_is_refused(line: bytes) -> None:
    assert refused_in_all_ways(line + b"\r\nabc") == (400, "a chunk's line is malformed")
    after_a_valid_one = b"2\r\nab\r\n" + line + b"\r\nabc"
    assert refused_in_all_ways(after_a_valid_one) == (400, "a chunk's line is malformed")


@pytest.mark.parametrize(
    "line",
    [
        b"name",
        b": value",
        b" name: value",
        b"name : value",
        b"na me: value",
        b"n\xe9: value",
        b"name: a\nb",
        b"name: a\rb",
        b"name: \x00",
        b"name: \x7f",
        b"a: b\r\n folded",
        b"\n",
        b"\x00",
    ],
)
def test_a_malformed_trailer_is_refused(line: bytes) -> None:
    expected = (400, "a trailer is malformed")
    assert refused_in_all_ways(b"0\r\n" + line + b"\r\n\r\n") == expected
    assert refused_in_all_ways(b"0\r\nx: y\r\n" + line + b"\r\n\r\n") == expected


@pytest.mark.parametrize("name", ["Content-Length", "content-length", "Transfer-Encoding"])
@pytest.mark.parametrize("value", [b"1", b"chunked", b"gzip", b""])
def test_a_framing_field_in_a_trailer_is_refused(name: str, value: bytes) -> None:
    line = name.encode() + b": " + value + b"\r\n"
    for before in (b"", b"x: y\r\n"):
        expected = refused_in_all_ways(b"0\r\n" + before + line + b"\r\n")
        assert expected == (400, f"{name.lower()} is not allowed as a trailer")


@pytest.mark.parametrize("line", [b"1", b"0\r\na: b"])
def test_a_bare_line_feed_does_not_end_a_line(line: bytes) -> None:
    assert in_all_ways(line + b"\nab") in [(b"", b"1\nab"), (b"0\r\n", b"a: b\nab")]


def test_every_byte_in_a_chunk_line_and_a_trailer() -> None:
    blanks_and_quotes = b"\t " + bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100))
    for byte in range(256):
        char = bytes([byte])
        is_fine = char in blanks_and_quotes
        for line in (b'1;a="', b"0\r\na:"):
            quoted = line.endswith(b'"')
            data = line + (b"\\" if quoted else b"") + char + (b'"' if quoted else b"") + b"\r\n"
            if is_fine:
                assert passed(ChunkedBody(LIMITS), [data]) == (data, b"")
            elif char != b"\r":
                assert refused_in_all_ways(data)[0] == 400


# -- bounds ----------------------------------------------------------------------------------------


def test_a_chunk_line_is_limited() -> None:
    longest = b"1;" + b"a" * (LIMITS.size - 4) + b"\r\n"
    assert in_all_ways(longest) == (longest, b"")
    for data in (b"1;a" + longest[2:], b"1;" + b"a" * 200, b"0" * 64):
        assert refused_in_all_ways(data) == (431, "a chunk's line is over 64 bytes")


def test_the_line_of_a_trailer_has_the_same_limit() -> None:
    expected = (431, "a chunk's line is over 64 bytes")
    assert refused_in_all_ways(b"0\r\n" + b"a" * 64) == expected


def test_the_size_of_all_trailers_is_limited() -> None:
    line = b"a: " + b"x" * 25 + b"\r\n"
    body = b"0\r\n" + line * 2 + b"\r\n"  # 62 bytes of trailers with their end
    assert in_all_ways(body + NEXT) == (body, NEXT)
    data = b"0\r\n" + line * 2 + b"b:c\r\n\r\n"
    assert refused_in_all_ways(data) == (431, "the trailers are over 64 bytes")


def test_the_number_of_trailers_is_limited() -> None:
    body = b"0\r\n" + b"a:b\r\n" * 3 + b"\r\n"
    assert in_all_ways(body + NEXT) == (body, NEXT)
    assert refused_in_all_ways(b"0\r\n" + b"a:b\r\n" * 4) == (431, "more than 3 trailers")


@pytest.mark.parametrize("extension", [b';a=""', b";a", b' ; a = "\\""', b"; ", b'"', b" ", b"\t;"])
def test_a_line_of_many_extensions_is_checked_in_linear_time(extension: bytes) -> None:
    # With backtracking, a line with many possible splits would take exponential time.
    limits = HeadLimits()
    line = b"1" + extension * (limits.size // len(extension) - 2) + b" \x01\r\n"
    began = time.process_time()
    with pytest.raises(RequestRefused):
        ChunkedBody(limits).advance(bytearray(line), MAX_SIZE)
    assert time.process_time() - began < 0.2


# -- anything --------------------------------------------------------------------------------------

_TOKENS = st.text("abc!-9", min_size=1, max_size=4).map(str.encode)
_QUOTED = st.binary(max_size=5).map(
    lambda b: b'"' + b"".join(b"\\%c" % c for c in b if c == 9 or 32 <= c != 127) + b'"'
)
_EXTENSIONS = st.lists(
    st.tuples(_TOKENS, st.none() | _TOKENS | _QUOTED).map(
        lambda pair: b";" + pair[0] + (b"" if pair[1] is None else b"=" + pair[1])
    ),
    max_size=3,
).map(b"".join)
_CHUNKS = st.lists(st.tuples(st.binary(min_size=1, max_size=40), _EXTENSIONS), max_size=5)
_PIECES = st.lists(st.integers(1, 40), min_size=1, max_size=20)


def cut(data: bytes, sizes: list[int]) -> Iterable[bytes]:
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


@given(_CHUNKS, st.binary(max_size=20), _PIECES, st.integers(1, 50))
def test_any_valid_body_is_passed(
    chunks: list[tuple[bytes, bytes]], after: bytes, sizes: list[int], max_size: int
) -> None:
    lines = [b"%x%b\r\n%b\r\n" % (len(data), extensions, data) for data, extensions in chunks]
    body = b"".join(lines) + b"0\r\n\r\n"
    assert passed(ChunkedBody(HeadLimits()), cut(body + after, sizes), max_size) == (body, after)


@given(st.binary(max_size=200) | st.text('01a;=" \r\n:\\', max_size=60).map(str.encode), _PIECES)
@example(b"1\r\na\r\n0\r\n\r\n0", [1])
def test_the_result_does_not_depend_on_the_pieces(data: bytes, sizes: list[int]) -> None:
    def outcome(pieces: Iterable[bytes]) -> object:
        try:
            return passed(ChunkedBody(LIMITS), pieces)
        except RequestRefused as refused:
            return refused.status, refused.detail

    assert outcome(cut(data, sizes)) == outcome([data])
