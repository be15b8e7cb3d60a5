import pytest
from hypothesis import given, strategies as st

from wsgate.http.h1.head_lines import (
    FIELD_LINES,
    REQUEST_LINES,
    parse_field,
    parse_fields,
    parse_request_line,
    share_headers,
)


@pytest.fixture(autouse=True)
def cold() -> None:
    FIELD_LINES.clear()
    REQUEST_LINES.clear()


def field(line: bytes) -> tuple[bytes, bytes]:
    """Return the header of a line that is not ambiguous."""
    headers = parse_fields([line])
    assert headers is not None
    return headers[0]


@pytest.mark.parametrize(
    ("line", "header"),
    [
        (b"Host: a", (b"host", b"a")),
        (b"HOST:a:80", (b"host", b"a:80")),
        (b"X-Mine:", (b"x-mine", b"")),
        (b"X-Mine: \t b \xe9\t", (b"x-mine", b"b \xe9")),
        (b"Content-Length: 05", (b"content-length", b"05")),
        (b"Transfer-Encoding: chunked", (b"transfer-encoding", b"chunked")),
    ],
)
def test_a_line_is_parsed_alike_each_time(line: bytes, header: tuple[bytes, bytes]) -> None:
    assert [field(line), field(line)] == [header, header]


AMBIGUOUS = [
    b"",
    b"X",
    b": a",
    b"X : a",
    b"X y: a",
    b" X: folded",
    b"\tfolded",
    b"X\xe9: a",
    b"X: a\x00",
    b"X: a\rb",
    b"X: a\nb",
    b"X: a\x7f",
    b"Host: ",
    b"Host: a b",
    b"Host: a, b",
    b"Host: a:99999",
    b"Connection: \xff",
    b"Content-Length: 5, 5",
    b"Content-Length: \xc2\xb2",
    b"Content-Length: 000000000000000000005",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: Chunked",
]


@pytest.mark.parametrize("line", AMBIGUOUS, ids=repr)
def test_an_ambiguous_line_is_not_cached(line: bytes) -> None:
    for _ in range(2):
        assert parse_field(line) is None
        assert parse_fields([b"Host: a", line]) is None
    assert line not in FIELD_LINES


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_a_line_is_at_most_one_header(name: bytes, value: bytes) -> None:
    made = parse_field(name + b":" + value)
    if made is None:
        return
    before, _, after = (name + b":" + value).partition(b":")  # there may be a colon in the name
    assert made == (before.lower(), after.strip(b" \t"))
    assert not set(made[1]) & {0x00, 0x0A, 0x0D, 0x7F}


def test_a_cached_line_gives_the_same_object() -> None:
    assert field(b"Origin: https://a") is field(b"Origin: https://" + b"a")
    assert set(FIELD_LINES) == {b"Origin: https://a"}


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization: Basic YTpi",
        b"Proxy-Authorization: Basic YTpi",
        b"Cookie: a=b",
        b"cookie: a=b",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Protocol: bearer.abc",
        b"X-Api-Key: abc",
        b"Referer: https://a/?token=b",
        b"User-Agent: " + b"a" * 501,
    ],
    ids=lambda line: line[:24],
)
def test_secrets_and_long_lines_are_not_cached(line: bytes) -> None:
    assert field(line) == field(line)
    assert not FIELD_LINES


def test_the_cache_of_lines_is_bounded() -> None:
    for i in range(3_000):
        assert field(b"User-Agent: %d" % i) == (b"user-agent", b"%d" % i)
        assert field(b"Host: a") == (b"host", b"a")
        assert len(FIELD_LINES) <= 1_024
        assert b"Host: a" in FIELD_LINES


# -- request lines ---------------------------------------------------------------------------------


def test_a_request_line_is_parsed_alike_each_time() -> None:
    expected = ("GET", b"/a/%20b", b"/a/%20b", b"")
    assert parse_request_line(b"GET /a/%20b HTTP/1.1") == expected
    assert parse_request_line(b"GET /a/%20b HTTP/1.1") is parse_request_line(
        b"GET /a/%20b HTTP/1.1"
    )


def test_a_request_line_with_a_query_is_not_cached() -> None:
    for _ in range(2):
        assert parse_request_line(b"GET /a?token=b HTTP/1.1") == (
            "GET",
            b"/a?token=b",
            b"/a",
            b"token=b",
        )
    long = b"/" + b"a" * 512
    assert parse_request_line(b"GET " + long + b" HTTP/1.1") == ("GET", long, long, b"")
    assert not REQUEST_LINES


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"GET / HTTP/1.0",
        b"GET / HTTP/1.1 ",
        b"GET  / HTTP/1.1",
        b" GET / HTTP/1.1",
        b"GET / http/1.1",
        b"GET / HTTP/1.1\n",
        b"GET /\xe9 HTTP/1.1",
        b"GET /#a HTTP/1.1",
        b"GET * HTTP/1.1",
        b"GET http://a/ HTTP/1.1",
        b"CONNECT / HTTP/1.1",
        b"G(T / HTTP/1.1",
    ],
    ids=repr,
)
def test_any_other_request_line_is_left_to_h11(line: bytes) -> None:
    assert parse_request_line(line) is None
    assert not REQUEST_LINES


def test_the_cache_of_request_lines_is_bounded() -> None:
    for i in range(3_000):
        target = b"/%d" % i
        assert parse_request_line(b"GET %b HTTP/1.1" % target) == ("GET", target, target, b"")
        assert len(REQUEST_LINES) <= 1_024


# -- headers that a parser has made ----------------------------------------------------------------


def test_equal_headers_are_shared() -> None:
    first = share_headers([(b"origin", b"https://a"), (b"host", b"a")])
    second = share_headers([(b"host", bytes(b"a"[:])), (b"origin", b"https://" + b"a")])
    assert second == [(b"host", b"a"), (b"origin", b"https://a")]
    assert second[0] is first[1]
    assert second[1] is first[0]


@pytest.mark.parametrize("header", [(b"host", b"a b"), (b"cookie", b"a"), (b"x", b"a")])
def test_a_header_that_is_not_cached_stays_the_same_object(header: tuple[bytes, bytes]) -> None:
    assert share_headers([header, (b"host", b"a")]) == [header, (b"host", b"a")]
