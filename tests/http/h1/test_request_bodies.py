"""Bodies of requests: fixed length and chunked."""

import pytest

from tests.drivers import http1 as connection
from tests.http.h1.playback import (
    CHUNKED,
    GET,
    LARGE,
    LIMITS,
    NEXT,
    NEXT_SEEN,
    POST,
    Refused,
    Way,
    cut,
    play,
    request,
)
from wsgate.http.events import RequestBody, RequestEnd
from wsgate.http.request import HeadLimits, Request

pytestmark = pytest.mark.usefixtures("parser")

BODIES: dict[str, tuple[bytes, bytes]] = {
    "length": (POST + b"Content-Length: 5\r\n\r\nhello", b"hello"),
    "length with zeros": (POST + b"Content-Length: 005\r\n\r\nhello", b"hello"),
    # RFC 9110 section 8.6: a recipient may "replace the invalid [list of equal lengths] with a
    # single valid" one.
    "length twice": (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "length twice in a line": (POST + b"Content-Length: 5, 5\r\n\r\nhello", b"hello"),
    "body that looks like a head": (POST + b"Content-Length: 27\r\n\r\n" + GET, GET),
    "any bytes": (POST + b"Content-Length: 256\r\n\r\n" + bytes(range(256)), bytes(range(256))),
    "a GET's": (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
    "one chunk": (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "chunks": (CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
    "coding in capitals": (
        POST + b"Transfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"hello",
    ),
    # RFC 9112 section 7.1: "leading zeros" are of no weight in 1*HEXDIG.
    "sizes in hexadecimal": (
        CHUNKED + b"0A\r\n0123456789\r\n01\r\na\r\n000\r\n\r\n",
        b"0123456789a",
    ),
    # RFC 9112 section 7.1.1: "A recipient MUST ignore unrecognized chunk extensions."
    "extensions": (
        CHUNKED + b'2;a\r\nhe\r\n3;a=b;c="d;e"\r\nllo\r\n0;last\r\n\r\n',
        b"hello",
    ),
    # RFC 9112 section 7.1.2: trailers are not merged into the headers.
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nA: b\r\nHost: evil\r\n\r\n", b"hello"),
    "CRLF in a chunk": (CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
}


@pytest.mark.parametrize(("raw", "body"), BODIES.values(), ids=BODIES)
def test_a_body_is_unframed(raw: bytes, body: bytes, way: Way) -> None:
    first, *rest = way.play(raw)
    assert isinstance(first, Request)
    assert rest == [RequestBody(body), RequestEnd()]


@pytest.mark.parametrize("size", [b"0", b"000", b"0;a=b"])
def test_an_empty_chunked_body_has_no_body_event(size: bytes, way: Way) -> None:
    seen = way.play(CHUNKED + size + b"\r\n\r\n")
    assert [type(event) for event in seen] == [Request, RequestEnd]


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"x\r\nhello",
        b"-1\r\nhello",
        b"+5\r\nhello",
        b"0x5\r\nhello",
        b" 5\r\nhello",
        b"5_0\r\nhello",
        b";a\r\nhello",
        b"f" * 21 + b"\r\nhello",
        b"5\nhello\n0\n\n\r\n",
        b"5;a\nb\n\r\nhello",
        b"0\r\nA b: c\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n folded: a\r\n\r\n",
    ],
    ids=repr,
)
def test_a_malformed_chunk_is_refused(body: bytes, way: Way) -> None:
    assert way.play(CHUNKED + body) == [
        request("POST", b"/", (b"transfer-encoding", b"chunked")),
        Refused(400),
    ]


@pytest.mark.parametrize("end", [b"!!", b"\r!", b"\n\n", b"6\r"], ids=repr)
def test_a_chunk_longer_than_it_says_is_refused(end: bytes, way: Way) -> None:
    assert way.play(CHUNKED + b"5\r\nhello" + end)[1:] == [RequestBody(b"hello"), Refused(400)]


@pytest.mark.parametrize("size", [1_000, 65_535, 65_536, 65_537, 10**7])
@pytest.mark.parametrize(
    "raw",
    [
        POST + b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000,
        CHUNKED + (b"c350\r\n" + b"x" * 50_000 + b"\r\n") * 4 + b"0\r\n\r\n",
    ],
    ids=["length", "chunked"],
)
def test_a_large_body_is_complete_whatever_the_pieces(raw: bytes, size: int) -> None:
    raw += NEXT
    seen = play(raw[i : i + size] for i in range(0, len(raw), size))
    assert seen[1:] == [RequestBody(b"x" * 200_000), RequestEnd(), *NEXT_SEEN]


def extended(size: int) -> bytes:
    """Return a chunked body, with one line of this size in bytes."""
    return b"5;" + b"a" * (size - 4) + b"\r\nhello\r\n0\r\n\r\n"


def trailed(size: int) -> bytes:
    """Return a chunked body with trailers of this size in bytes."""
    return b"5\r\nhello\r\n0\r\nA: " + b"a" * (size - 7) + b"\r\n\r\n"


@pytest.mark.parametrize("size", [100, 1_000])
def test_chunk_extensions_have_the_limit_of_a_head(size: int, way: Way) -> None:
    limits = HeadLimits(size=size)
    assert way.play(CHUNKED + extended(size), limits)[1:] == [RequestBody(b"hello"), RequestEnd()]
    assert way.play(CHUNKED + extended(size + 2), limits)[1:] == [Refused(431)]


@pytest.mark.parametrize("size", [100, 1_000])
def test_trailers_have_the_limit_of_a_head(size: int, way: Way) -> None:
    limits = HeadLimits(size=size)
    assert way.play(CHUNKED + trailed(size), limits)[1:] == [RequestBody(b"hello"), RequestEnd()]
    assert way.play(CHUNKED + trailed(size + 2), limits)[1:] == [
        RequestBody(b"hello"),
        Refused(431),
    ]


@pytest.mark.parametrize("count", [1, 3, LARGE.headers])
def test_as_many_trailers_as_headers_are_accepted(count: int, whole: bool) -> None:
    limits = HeadLimits(LARGE.size, headers=count + 2)  # besides Host and Transfer-Encoding
    for more, end in ((2, RequestEnd()), (3, Refused(431))):
        raw = CHUNKED + b"0\r\n" + b"A: b\r\n" * (count + more) + b"\r\n"
        assert play([raw] if whole else cut(raw, [7] * len(raw)), limits)[1:] == [end]


def test_a_body_is_parsed_only_as_it_is_taken() -> None:
    http1 = connection(LIMITS)
    raw = b"x" * 300_000
    http1.feed(POST + b"Content-Length: 300000\r\n\r\n" + raw)
    assert isinstance(http1.take(), Request)
    assert len(http1.buffer) == 300_000
    pieces = []
    while isinstance(event := http1.take(), RequestBody):
        pieces.append(event.data)
        assert len(http1.buffer) == 300_000 - sum(map(len, pieces))
    assert event == RequestEnd()
    assert max(map(len, pieces)) == 65_536
    assert b"".join(pieces) == raw
    assert http1.take() is None
