"""Heads of requests: which become a Request, and which are refused."""

from collections.abc import Callable, Iterable

import pytest

from tests.drivers import http1 as connection, send_end, send_start
from tests.http.h1.playback import (
    CHUNKED,
    GET,
    LIMITS,
    NEXT,
    POST,
    Refused,
    Way,
    bytewise,
    head,
    play,
    request,
)
from wsgate.errors import RequestRefused
from wsgate.http.events import RequestEnd, RequestEvent
from wsgate.http.request import Request

pytestmark = pytest.mark.usefixtures("parser")

HEADS: dict[str, tuple[bytes, Request]] = {
    "plain": (GET, request()),
    "query": (b"GET /a%20b?c=d HTTP/1.1\r\nHost: a\r\n\r\n", request(target=b"/a%20b?c=d")),
    "any method": (b"PURGE / HTTP/1.1\r\nHost: a\r\n\r\n", request("PURGE")),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", request("OPTIONS", b"*")),
    "absolute": (
        b"GET http://b:80/c?d HTTP/1.1\r\nHost: a\r\nAccept: e\r\n\r\n",
        Request(
            "GET",
            b"http://b:80/c?d",
            b"/c",
            b"d",
            "1.1",
            [(b"host", b"b:80"), (b"accept", b"e")],
        ),
    ),
    "minor version": (b"GET / HTTP/1.7\r\nHost: a\r\n\r\n", request()),
    # RFC 9112 section 2.2: "SHOULD ignore at least one empty line (CRLF) received prior".
    "empty line before": (b"\r\n" + GET, request()),
    "empty lines before": (b"\r\n" * 50 + GET, request()),
    # RFC 9112 section 5: whitespace around a value is no part of it.
    "whitespace": (
        b"GET / HTTP/1.1\r\nHost:a\r\nX:\t b \t c\t \r\n\r\n",
        request("GET", b"/", (b"x", b"b \t c")),
    ),
    "empty value": (
        b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \t\r\n\r\n",
        request("GET", b"/", (b"x", b""), (b"y", b"")),
    ),
    "order and repeats": (
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nY: 2\r\nx: 3\r\n\r\n",
        request("GET", b"/", (b"x", b"1"), (b"y", b"2"), (b"x", b"3")),
    ),
    "bytes above 0x7f": (
        b"GET / HTTP/1.1\r\nHost: a\r\nX: caf\xc3\xa9 \x80\xff\r\n\r\n",
        request("GET", b"/", (b"x", b"caf\xc3\xa9 \x80\xff")),
    ),
    "colons in a value": (
        b"GET / HTTP/1.1\r\nHost: a:80\r\nX: ::\r\n\r\n",
        request("GET", b"/", (b"x", b"::"), host=b"a:80"),
    ),
    "no body": (POST + b"\r\n", request("POST")),
    "length 0": (
        POST + b"Content-Length: 0\r\n\r\n",
        request("POST", b"/", (b"content-length", b"0")),
    ),
    "upgrade to another": (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
        request("GET", b"/", (b"connection", b"Upgrade, HTTP2-Settings"), (b"upgrade", b"h2c")),
    ),
}


@pytest.mark.parametrize(("raw", "expected"), HEADS.values(), ids=HEADS)
def test_a_valid_head_becomes_a_request(raw: bytes, expected: Request, way: Way) -> None:
    assert way.play(raw) == [expected, RequestEnd()]


@pytest.mark.parametrize("method", [b"get", b"Get", b"head", b"m-search", b"x1"])
@pytest.mark.parametrize("pieces", [lambda raw: [raw], bytewise], ids=["whole", "byte by byte"])
def test_a_method_is_uppercased_and_another_spelling_closes_the_connection(
    method: bytes, pieces: Callable[[bytes], Iterable[bytes]]
) -> None:
    http1 = connection(LIMITS)
    for piece in pieces(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n"):
        http1.feed(piece)
    http1.feed(NEXT)
    assert http1.take() == request(method.upper().decode())
    assert http1.take() == RequestEnd()
    assert b"\r\nconnection: close\r\n" in send_start(http1, 204, []).lower()
    send_end(http1)
    assert not http1.next_request()
    assert http1.take() is None


# RFC 9110 section 7.8: "A server MUST ignore an Upgrade header field that is received in an
# HTTP/1.0 request." Such a connection is closed after its response, so nothing can follow.
OLD: dict[str, tuple[bytes, Request]] = {
    "plain": (b"GET / HTTP/1.0\r\n\r\n", request(version="1.0", host=None)),
    "Host": (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", request(version="1.0")),
    "Upgrade": (
        b"GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\n",
        request("GET", b"/", (b"upgrade", b"websocket"), version="1.0", host=None),
    ),
    "absolute": (
        b"GET http://b HTTP/1.0\r\n\r\n",
        Request("GET", b"http://b", b"/", b"", "1.0", [(b"host", b"b")]),
    ),
}


@pytest.mark.parametrize(("raw", "expected"), OLD.values(), ids=OLD)
def test_http_1_0_serves_one_request(raw: bytes, expected: Request, whole: bool) -> None:
    pieces = [raw, NEXT] if whole else bytewise(raw + NEXT)
    assert play(pieces) == [expected, RequestEnd()]


REFUSED: dict[str, tuple[bytes, int]] = {
    # The request line: RFC 9112 section 3.
    "no method": (b" / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "no version": (b"GET /\r\nHost: a\r\n\r\n", 400),
    "version alone": (b"HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "tab for a space": (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "space after the version": (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    "space before": (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "method no token": (b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "higher byte in the target": (b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a response": (b"HTTP/1.1 200 OK\r\nHost: a\r\n\r\n", 400),
    "lower-case name of HTTP": (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    "other protocol": (b"GET / RTSP/1.1\r\nHost: a\r\n\r\n", 400),
    "version of two digits": (b"GET / HTTP/11.1\r\nHost: a\r\n\r\n", 400),
    "version without a dot": (b"GET / HTTP/1\r\nHost: a\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    # RFC 9110 section 15.6.6.
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/2": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "HTTP/0.9 with a version": (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    # Targets: RFC 9112 section 3.2; test_request.py has them all.
    "authority form": (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 400),
    "CONNECT to a path": (b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "asterisk": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "fragment": (b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "userinfo": (b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    # Host: RFC 9112 section 3.2.
    "no Host": (b"GET / HTTP/1.1\r\nX: a\r\n\r\n", 400),
    "no header": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "no Host in HTTP/1.2": (b"GET / HTTP/1.2\r\n\r\n", 400),
    "two Hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "two Hosts in HTTP/1.0": (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "invalid Host": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "empty Host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    # Header lines: RFC 9112 section 5.1, "No whitespace is allowed between the field name and
    # colon"; section 5.2 for folds.
    "space before the colon": (head(b"X : a"), 400),
    "tab before the colon": (head(b"X\t: a"), 400),
    "space before the framing's colon": (head(b"Transfer-Encoding : chunked"), 400),
    "no name": (head(b": a"), 400),
    "no colon": (head(b"X"), 400),
    "name no token": (head(b"X(Y): a"), 400),
    "higher byte in a name": (head(b"X\xe9: a"), 400),
    "fold by a space": (head(b"X: a\r\n b"), 400),
    "fold by a tab": (head(b"X: a\r\n\tb"), 400),
    "fold of nothing": (head(b"X: a\r\n "), 400),
    "fold after the request line": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    # Line breaks: RFC 9112 section 2.2.
    "bare LF after the request line": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    "bare LFs only": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "bare LF after a header": (head(b"X: a\nY: b"), 400),
    "bare LF at the end": (b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    "bare LF before": (b"\n" + GET, 400),
    "bare CR in a value": (head(b"X: a\rY: b"), 400),
    "two CRs": (head(b"X: a\r"), 400),
    "bare CR before": (b"\r" + GET, 400),
    "bare CR at the end": (b"GET / HTTP/1.1\r\nHost: a\r\n\rX", 400),
    # Framing: RFC 9112 sections 6.1 to 6.3.
    "both framings": (
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunked in HTTP/1.0": (
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two lengths": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
    "two lengths in a line": (POST + b"Content-Length: 5, 6\r\n\r\n", 400),
    "empty length": (POST + b"Content-Length:\r\n\r\n", 400),
    "negative length": (POST + b"Content-Length: -1\r\n\r\n", 400),
    "signed length": (POST + b"Content-Length: +1\r\n\r\n", 400),
    "hexadecimal length": (POST + b"Content-Length: 0x1\r\n\r\n", 400),
    "length with an underscore": (POST + b"Content-Length: 1_0\r\n\r\n", 400),
    "length with a space": (POST + b"Content-Length: 1 0\r\n\r\n", 400),
    "absurd length": (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
    "length of other digits": (POST + b"Content-Length: \xc2\xb2\r\n\r\n", 400),
    # RFC 9112 section 6.1: a transfer coding "it does not understand SHOULD respond with 501".
    "gzip": (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    "gzip, chunked": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "chunked, identity": (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n", 501),
    "chunked twice": (
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        501,
    ),
    "xchunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n", 501),
    "no coding": (POST + b"Transfer-Encoding:\r\n\r\n", 501),
    "control character for a space": (POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n", 400),
    # Fields that are compared with tokens.
    "higher byte in Connection": (head(b"Connection: upgrad\xe9"), 400),
    "higher byte in Upgrade": (head(b"Upgrade: websocket, \xe9"), 400),
    "higher byte in a key": (head(b"Sec-WebSocket-Key: \xff"), 400),
}


@pytest.mark.parametrize(("raw", "status"), REFUSED.values(), ids=REFUSED)
def test_an_invalid_or_ambiguous_head_is_refused(raw: bytes, status: int, way: Way) -> None:
    assert way.play(raw) == [Refused(status)]


CONTROLS = [bytes([n]) for n in (*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F)]


@pytest.mark.parametrize("char", CONTROLS, ids=lambda char: char.hex())
@pytest.mark.parametrize(
    "raw",
    [
        b"G%bT / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a%bb\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nX%b: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n",
    ],
    ids=["method", "target", "value", "name", "line"],
)
def test_a_control_character_in_a_head_is_refused(raw: bytes, char: bytes) -> None:
    assert play([raw % char]) == play(bytewise(raw % char)) == [Refused(400)]


@pytest.mark.parametrize("raw", [b"GET /\x00", b"GET / HTTP/1.1\r\nX: \x01", b"GET /\n", b"\rG"])
def test_an_invalid_byte_is_refused_before_the_head_is_complete(raw: bytes, whole: bool) -> None:
    assert play([raw] if whole else bytewise(raw)) == [Refused(400)]


# The texts for the client and the log in the cases above, with either parser.
SENTENCES = {
    400: {
        "Found multiple Host: headers",
        "Missing mandatory Host: header",
        "Transfer-Encoding in an HTTP/1.0 request",
        "a byte above 0x7f in connection",
        "a byte above 0x7f in sec-websocket-key",
        "a byte above 0x7f in upgrade",
        "a control character or a bare line break in the head",
        "a header is folded over several lines",
        "bad Content-Length",
        "both Content-Length and Transfer-Encoding",
        "conflicting Content-Length headers",
        "exactly one Host header is needed",
        "illegal header line",
        "illegal request line",
        "the Host header is invalid",
        "the request target is invalid",
        "this is no proxy to CONNECT through",
    },
    501: {
        "Only Transfer-Encoding: chunked is supported",
        "multiple Transfer-Encoding headers",
    },
    505: {"this server speaks HTTP/1.0 and HTTP/1.1"},
}


def refused(raw: bytes) -> RequestRefused:
    """Take events until one is refused."""
    http1 = connection(LIMITS)
    http1.feed(raw)
    seen: list[RequestEvent | None] = []
    with pytest.raises(RequestRefused) as caught:
        seen.extend(iter(http1.take, None))
    return caught.value


def test_each_refusal_has_a_readable_text() -> None:
    details: dict[int, set[str]] = {}
    for raw, status in REFUSED.values():
        details.setdefault(status, set()).add(refused(raw).detail)
    assert details == SENTENCES


@pytest.mark.parametrize("secret", [b"s3cret", b"s3cret'", b's3cret"', b"b's3cret", b"s3cret: b'"])
@pytest.mark.parametrize(
    "raw",
    [
        head(b"<%b>: evil"),
        head(b"X(%b"),
        head(b"X\xe9: %b"),
        head(b"X: a\x00%b"),
        head(b"X: a\r\n %b"),
        head(b"Host: %b"),
        head(b"Connection: \xff%b"),
        b"GET / HTTP/1.1\r\nHost: /%b\r\n\r\n",
        b"G(T%b / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /%b b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / %b/1.1\r\nHost: a\r\n\r\n",
        POST + b"Content-Length: %b\r\n\r\n",
        POST + b"Transfer-Encoding: %b, chunked\r\n\r\n",
        CHUNKED + b"%b\r\n",
        CHUNKED + b"5\r\nhello%b",
        CHUNKED + b"0\r\n(%b): a\r\n",
    ],
    ids=repr,
)
def test_a_refusal_does_not_quote_the_request(raw: bytes, secret: bytes) -> None:
    detail = refused(raw.replace(b"%b", secret)).detail
    assert detail
    assert "3cret" not in detail
    assert "b'" not in detail
    assert 'b"' not in detail
    assert not detail.endswith((":", " "))
