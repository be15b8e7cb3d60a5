"""HTTP/1.1 on the server's side: bytes in, events out, and the responses as bytes.

Every input is played whole, byte by byte, and with another request behind it, over each driver.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

import pytest
from hypothesis import example, given, settings, strategies as st

from tests.drivers import PARSERS, Chosen, http1 as connection, send_body, send_end, send_start
from wsgate.errors import InvalidMessage, RequestRefused
from wsgate.http.events import ClientClosed, RequestBody, RequestEnd, RequestEvent, UpgradeRequest
from wsgate.http.h1.connection import Http1Connection
from wsgate.http.request import HeadLimits, Request, head_limits
from wsgate.types import Header

LIMITS = HeadLimits()
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
ASK = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n"


@pytest.fixture(scope="module", params=list(PARSERS.values()), ids=list(PARSERS), autouse=True)
def driver(request: pytest.FixtureRequest) -> type[Http1Connection]:
    Chosen.parser = request.param
    return Chosen.parser


@dataclass(frozen=True)
class Refused:
    """Stands in a list of events for a RequestRefused."""

    status: int


Seen = RequestEvent | Refused


def request(
    method: str = "GET",
    target: bytes = b"/",
    *more: Header,
    version: str = "1.1",
    host: bytes | None = b"a",
) -> Request:
    path, _, query = target.partition(b"?")
    hosts = [] if host is None else [(b"host", host)]
    return Request(method, target, path, query, version, [*hosts, *more])


# -- playing -------------------------------------------------------------------------------------


def is_over(seen: list[Seen]) -> bool:
    """Tell whether nothing of the connection is HTTP any more."""
    return bool(seen) and isinstance(seen[-1], (UpgradeRequest, Refused, ClientClosed))


def take_all(http1: Http1Connection, seen: list[Seen]) -> None:
    """Take what events there are, answering each request in its turn, joining bodies' pieces."""
    while not is_over(seen):
        try:
            event = http1.take()
        except RequestRefused as refused:
            seen.append(Refused(refused.status))
            return
        if event is None:
            return
        if isinstance(event, RequestBody) and isinstance(seen[-1], RequestBody):
            seen[-1] = RequestBody(seen[-1].data + event.data)
        else:
            seen.append(event)
        if isinstance(event, RequestEnd):
            send_start(http1, 200, [(b"content-length", b"0")])
            send_end(http1)
            http1.next_request()


def play(pieces: Iterable[bytes], limits: HeadLimits = LIMITS, *, eof: bool = False) -> list[Seen]:
    """Return the events of a connection that is fed so, up to what ends it."""
    http1 = connection(limits)
    seen: list[Seen] = []
    for piece in pieces:
        if is_over(seen):
            last = seen[-1]
            if isinstance(last, UpgradeRequest):  # what follows goes to the WebSocket
                seen[-1] = UpgradeRequest(last.request, last.trailing + piece)
        else:
            http1.feed(piece)
            take_all(http1, seen)
    if eof:
        http1.feed_eof()
        take_all(http1, seen)
    return seen


def bytewise(raw: bytes) -> list[bytes]:
    return [raw[i : i + 1] for i in range(len(raw))]


NEXT = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"
NEXT_SEEN: list[Seen] = [request(target=b"/next", host=b"next"), RequestEnd()]


class Way(Enum):
    WHOLE = "whole"
    BYTEWISE = "byte by byte"
    FOLLOWED = "followed by another request"

    def play(self, raw: bytes, limits: HeadLimits = LIMITS) -> list[Seen]:
        """Return the events of complete requests, without those of what follows them."""
        if self is not Way.FOLLOWED:
            return play([raw] if self is Way.WHOLE else bytewise(raw), limits)
        seen = play([raw + NEXT], limits)
        if isinstance(seen[-1], UpgradeRequest):
            assert seen[-1].trailing.endswith(NEXT)
            return [
                *seen[:-1],
                UpgradeRequest(seen[-1].request, seen[-1].trailing.removesuffix(NEXT)),
            ]
        if not is_over(seen):
            assert seen[-2:] == NEXT_SEEN
            del seen[-2:]
        return seen


@pytest.fixture(params=Way, ids=lambda way: way.value)
def way(request: pytest.FixtureRequest) -> Way:
    assert isinstance(request.param, Way)
    return request.param


@pytest.fixture(params=[True, False], ids=["whole", "byte by byte"])
def whole(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


# -- heads ---------------------------------------------------------------------------------------

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
def test_a_head_is_a_request(raw: bytes, expected: Request, way: Way) -> None:
    assert way.play(raw) == [expected, RequestEnd()]


@pytest.mark.parametrize("method", [b"get", b"Get", b"head", b"m-search", b"x1"])
@pytest.mark.parametrize("pieces", [lambda raw: [raw], bytewise], ids=["whole", "byte by byte"])
def test_a_method_is_uppercase_and_another_spelling_ends_the_connection(
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
# HTTP/1.0 request." Such a connection ends behind its answer, so nothing can follow it.
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
def test_http_1_0_is_served_once(raw: bytes, expected: Request, whole: bool) -> None:
    pieces = [raw, NEXT] if whole else bytewise(raw + NEXT)
    assert play(pieces) == [expected, RequestEnd()]


def head(line: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n"


REFUSED: dict[str, tuple[bytes, int]] = {
    # The request line: RFC 9112 section 3.
    "no method": (b" / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "no version": (b"GET /\r\nHost: a\r\n\r\n", 400),
    "version alone": (b"HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "tab for a space": (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "space behind": (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
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
    "fold behind the request line": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    # Line breaks: RFC 9112 section 2.2.
    "bare LF behind the request line": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    "bare LFs only": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "bare LF behind a header": (head(b"X: a\nY: b"), 400),
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
    # Fields that are matched against tokens.
    "higher byte in Connection": (head(b"Connection: upgrad\xe9"), 400),
    "higher byte in Upgrade": (head(b"Upgrade: websocket, \xe9"), 400),
    "higher byte in a key": (head(b"Sec-WebSocket-Key: \xff"), 400),
}


@pytest.mark.parametrize(("raw", "status"), REFUSED.values(), ids=REFUSED)
def test_a_doubtful_head_is_refused(raw: bytes, status: int, way: Way) -> None:
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
def test_no_control_character_is_part_of_a_head(raw: bytes, char: bytes) -> None:
    assert play([raw % char]) == play(bytewise(raw % char)) == [Refused(400)]


@pytest.mark.parametrize("raw", [b"GET /\x00", b"GET / HTTP/1.1\r\nX: \x01", b"GET /\n", b"\rG"])
def test_a_doubtful_byte_is_refused_before_the_head_is_complete(raw: bytes, whole: bool) -> None:
    assert play([raw] if whole else bytewise(raw)) == [Refused(400)]


# What a client and the log are told of the cases above, by either driver.
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
    505: {"only HTTP/1.0 and HTTP/1.1 are spoken here"},
}


def refused(raw: bytes) -> RequestRefused:
    """Take events until one is refused."""
    http1 = connection(LIMITS)
    http1.feed(raw)
    seen: list[RequestEvent | None] = []
    with pytest.raises(RequestRefused) as caught:
        seen.extend(iter(http1.take, None))
    return caught.value


def test_each_refusal_says_a_whole_sentence() -> None:
    said: dict[int, set[str]] = {}
    for raw, status in REFUSED.values():
        said.setdefault(status, set()).add(refused(raw).detail)
    assert said == SENTENCES


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
def test_nothing_of_the_request_is_said_back(raw: bytes, secret: bytes) -> None:
    detail = refused(raw.replace(b"%b", secret)).detail
    assert detail
    assert "3cret" not in detail
    assert "b'" not in detail
    assert 'b"' not in detail
    assert not detail.endswith((":", " "))


# -- limits --------------------------------------------------------------------------------------


def sized(size: int) -> bytes:
    """Return a request whose head has so many bytes."""
    bare = len(head(b"X: "))
    raw = head(b"X: " + b"a" * (size - bare))
    assert len(raw) == size
    return raw


@pytest.mark.parametrize("size", [60, 200, 65_536])
def test_a_head_may_have_as_many_bytes_as_allowed(size: int, way: Way) -> None:
    limits = HeadLimits(size=size, target=size)
    assert [type(event) for event in way.play(sized(size), limits)] == [Request, RequestEnd]


@pytest.mark.parametrize("size", [60, 200, 65_536])
def test_one_byte_more_is_431(size: int, way: Way) -> None:
    assert way.play(sized(size + 1), HeadLimits(size=size)) == [Refused(431)]


@pytest.mark.parametrize("size", [60, 200, 65_536])
def test_an_endless_head_is_431_as_soon_as_it_is_too_long(size: int, whole: bool) -> None:
    raw = (b"GET / HTTP/1.1\r\nX: " + b"a" * size)[: size + 1]
    limits = HeadLimits(size=size)
    assert play([raw[:-1]] if whole else bytewise(raw[:-1]), limits) == []
    assert play([raw] if whole else bytewise(raw), limits) == [Refused(431)]


def targeted(length: int) -> bytes:
    return b"GET /" + b"a" * (length - 1) + b" HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("length", [10, 8_192])
def test_a_target_may_have_as_many_bytes_as_allowed(length: int, way: Way) -> None:
    seen = way.play(targeted(length), HeadLimits(target=length))
    assert seen == [request(target=b"/" + b"a" * (length - 1)), RequestEnd()]


@pytest.mark.parametrize("length", [10, 8_192])
def test_one_byte_more_is_414(length: int, way: Way) -> None:
    assert way.play(targeted(length + 1), HeadLimits(target=length)) == [Refused(414)]


LARGE = head_limits(200_000)


def test_a_larger_head_may_hold_a_target_of_150_000_bytes() -> None:
    for _ in range(2):  # what is cached does not count: such a line is too long to be kept
        assert play([targeted(150_000)], LIMITS) == [Refused(414)]
        assert len(Way.WHOLE.play(targeted(150_000), LARGE)) == 2
        assert len(Way.FOLLOWED.play(targeted(150_000), LARGE)) == 2
        upgrade = ASK.replace(b"/ws", b"/" + b"a" * 150_000)
        assert [type(event) for event in play([upgrade], LARGE)] == [UpgradeRequest]
    pieces = cut(targeted(150_000), [997] * 150)
    assert len(play(pieces, LARGE)) == 2


def test_a_target_may_fill_a_larger_head_but_not_go_beyond_it() -> None:
    raw = targeted(200_000 - len(targeted(1)) + 1)
    assert len(raw) == 200_000
    assert len(play([raw], LARGE)) == 2
    assert play([raw.replace(b"/a", b"/aa", 1)], LARGE) == [Refused(431)]
    assert play([b"GET /" + b"a" * 200_000], LARGE) == [Refused(414)]
    assert play([targeted(150_000).replace(b"Host", b"X: " + b"b" * 60_000)], LARGE) == [
        Refused(431)
    ]


@pytest.mark.parametrize("limits", [HeadLimits(), HeadLimits(1_000, 500), HeadLimits(50)], ids=repr)
def test_an_endless_target_is_414(limits: HeadLimits, whole: bool) -> None:
    raw = b"GET /" + b"a" * limits.size
    assert play([raw] if whole else bytewise(raw), limits) == [Refused(414)]


@pytest.mark.parametrize("target", [20, 8_192])
def test_the_status_does_not_hang_on_the_pieces(target: int, way: Way) -> None:
    # The line ends beyond the limit of the head, which may have come along or not.
    raw = b"GET /" + b"a" * 150 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    assert way.play(raw, HeadLimits(size=100, target=target)) == [Refused(414)]


def with_headers(count: int) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: b\r\n" * (count - 1) + b"\r\n"


@pytest.mark.parametrize("count", [1, 100])
def test_there_may_be_as_many_headers_as_allowed(count: int, way: Way) -> None:
    seen = way.play(with_headers(count), HeadLimits(headers=count))
    assert seen == [request("GET", b"/", *[(b"x", b"b")] * (count - 1)), RequestEnd()]


def test_a_larger_head_may_hold_more_headers() -> None:
    for count in (101, 1_000, LARGE.headers):
        assert len(play([with_headers(count)], LARGE)) == 2
        assert play([with_headers(count)], LIMITS) == [Refused(431)]
    assert play([with_headers(LARGE.headers + 1)], LARGE) == [Refused(431)]


@pytest.mark.parametrize("count", [1, 100])
def test_one_header_more_is_431(count: int, way: Way) -> None:
    assert way.play(with_headers(count + 1), HeadLimits(headers=count)) == [Refused(431)]


def test_the_limits_are_for_each_request() -> None:
    raw = sized(200)
    assert len(play([raw * 5], HeadLimits(size=200, target=20))) == 10


def test_empty_lines_count_for_nothing(whole: bool) -> None:
    raw = b"\r\n" * 500 + sized(100)
    assert len(play([raw] if whole else bytewise(raw), HeadLimits(size=100))) == 2


# -- bodies --------------------------------------------------------------------------------------

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
    # RFC 9112 section 7.1.2: what comes in trailers is not merged into the headers.
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nA: b\r\nHost: evil\r\n\r\n", b"hello"),
    "CRLF in a chunk": (CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
}


@pytest.mark.parametrize(("raw", "body"), BODIES.values(), ids=BODIES)
def test_a_body_is_taken_from_its_frame(raw: bytes, body: bytes, way: Way) -> None:
    first, *rest = way.play(raw)
    assert isinstance(first, Request)
    assert rest == [RequestBody(body), RequestEnd()]


@pytest.mark.parametrize("size", [b"0", b"000", b"0;a=b"])
def test_an_empty_chunked_body_has_no_piece(size: bytes, way: Way) -> None:
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
def test_a_large_body_in_large_pieces(raw: bytes, size: int) -> None:
    raw += NEXT
    seen = play(raw[i : i + size] for i in range(0, len(raw), size))
    assert seen[1:] == [RequestBody(b"x" * 200_000), RequestEnd(), *NEXT_SEEN]


def extended(size: int) -> bytes:
    """Return a chunked body, one line of which has so many bytes."""
    return b"5;" + b"a" * (size - 4) + b"\r\nhello\r\n0\r\n\r\n"


def trailed(size: int) -> bytes:
    """Return a chunked body whose trailers have so many bytes."""
    return b"5\r\nhello\r\n0\r\nA: " + b"a" * (size - 7) + b"\r\n\r\n"


@pytest.mark.parametrize("size", [100, 1_000])
def test_chunk_extensions_are_bounded_as_a_head_is(size: int, way: Way) -> None:
    limits = HeadLimits(size=size)
    assert way.play(CHUNKED + extended(size), limits)[1:] == [RequestBody(b"hello"), RequestEnd()]
    assert way.play(CHUNKED + extended(size + 2), limits)[1:] == [Refused(431)]


@pytest.mark.parametrize("size", [100, 1_000])
def test_trailers_are_bounded_as_a_head_is(size: int, way: Way) -> None:
    limits = HeadLimits(size=size)
    assert way.play(CHUNKED + trailed(size), limits)[1:] == [RequestBody(b"hello"), RequestEnd()]
    assert way.play(CHUNKED + trailed(size + 2), limits)[1:] == [
        RequestBody(b"hello"),
        Refused(431),
    ]


@pytest.mark.parametrize("count", [1, 3, LARGE.headers])
def test_there_may_be_as_many_trailers_as_headers(count: int, whole: bool) -> None:
    limits = HeadLimits(LARGE.size, headers=count + 2)  # besides Host and Transfer-Encoding
    for more, end in ((2, RequestEnd()), (3, Refused(431))):
        raw = CHUNKED + b"0\r\n" + b"A: b\r\n" * (count + more) + b"\r\n"
        assert play([raw] if whole else cut(raw, [7] * len(raw)), limits)[1:] == [end]


def test_a_body_comes_as_it_is_asked_for() -> None:
    http1 = connection(LIMITS)
    raw = b"x" * 300_000
    http1.feed(POST + b"Content-Length: 300000\r\n\r\n" + raw)
    assert isinstance(http1.take(), Request)
    assert http1.buffered == 300_000
    pieces = []
    while isinstance(event := http1.take(), RequestBody):
        pieces.append(event.data)
        assert http1.buffered == 300_000 - sum(map(len, pieces))
    assert event == RequestEnd()
    assert max(map(len, pieces)) == 65_536
    assert b"".join(pieces) == raw
    assert http1.take() is None


# -- one behind the other ------------------------------------------------------------------------


def test_pipelined_requests_come_in_order(whole: bool) -> None:
    raw = b"".join(
        [
            GET,
            POST + b"Content-Length: 5\r\n\r\nhello",
            b"HEAD /b HTTP/1.1\r\nHost: a\r\n\r\n",
            CHUNKED + b"2\r\nhi\r\n0\r\nA: b\r\n\r\n",
            b"\r\n",
            b"GET /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            NEXT,
        ]
    )
    assert play([raw] if whole else bytewise(raw)) == [
        request(),
        RequestEnd(),
        request("POST", b"/", (b"content-length", b"5")),
        RequestBody(b"hello"),
        RequestEnd(),
        request("HEAD", b"/b"),
        RequestEnd(),
        request("POST", b"/", (b"transfer-encoding", b"chunked")),
        RequestBody(b"hi"),
        RequestEnd(),
        request("GET", b"/c", (b"connection", b"close")),
        RequestEnd(),
    ]


def test_what_is_pipelined_waits_for_the_response() -> None:
    http1 = connection(LIMITS)
    http1.feed(GET + NEXT)
    assert [http1.take(), http1.take(), http1.take()] == [request(), RequestEnd(), None]
    assert not http1.next_request()
    assert http1.buffered == len(NEXT)
    send_start(http1, 200, [(b"content-length", b"0")])
    assert not http1.next_request()
    send_end(http1)
    assert http1.keeps_alive
    assert http1.next_request()
    assert http1.take() == NEXT_SEEN[0]


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
    ids=["length", "chunked"],
)
def test_what_is_pipelined_behind_a_body_is_kept_and_counted(body: bytes) -> None:
    # h11 has been given some of it along with the body.
    http1 = connection(LIMITS)
    http1.feed(POST + body + NEXT)
    assert isinstance(http1.take(), Request)
    assert [http1.take(), http1.take()] == [RequestBody(b"hello"), RequestEnd()]
    assert http1.buffered == len(NEXT)
    http1.feed_eof()
    assert http1.buffered > 0
    send_start(http1, 204, [])
    send_end(http1)
    assert http1.next_request()
    assert [http1.take(), http1.take()] == NEXT_SEEN
    assert http1.buffered == 0


def test_a_head_pipelined_behind_a_body_is_held_to_the_rules(whole: bool) -> None:
    raw = POST + b"Content-Length: 2\r\n\r\nhi" + b"GET / HTTP/1.1\nHost: a\n\n"
    assert play([raw] if whole else bytewise(raw))[1:] == [
        RequestBody(b"hi"),
        RequestEnd(),
        Refused(400),
    ]


def test_an_unread_body_holds_the_next_request_back() -> None:
    http1 = connection(LIMITS)
    http1.feed(POST + b"Content-Length: 5\r\n\r\nhel")
    assert isinstance(http1.take(), Request)
    send_start(http1, 200, [(b"content-length", b"0")])
    send_end(http1)
    assert http1.keeps_alive
    assert not http1.next_request()
    assert [http1.take(), http1.take()] == [RequestBody(b"hel"), None]
    http1.feed(b"lo" + NEXT)
    assert http1.take() == RequestBody(b"lo")
    assert not http1.next_request()
    assert http1.take() == RequestEnd()
    assert http1.next_request()
    assert http1.take() == NEXT_SEEN[0]


@pytest.mark.parametrize(
    ("raw", "keeps"),
    [
        (GET, True),
        (head(b"Connection: keep-alive"), True),
        (head(b"Connection: close"), False),
        (head(b"Connection: Close"), False),
        (head(b"Connection: x, close"), False),
        (head(b"Connection: x\r\nConnection: close"), False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        # Ours to decide: RFC 9112 section 9.3 lets a server close at any time.
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
    ],
    ids=lambda case: case.decode() if isinstance(case, bytes) else "",
)
def test_a_connection_persists_unless_told_otherwise(raw: bytes, keeps: bool) -> None:
    # RFC 9112 section 9.3.
    http1 = connection(LIMITS)
    http1.feed(raw + NEXT)
    assert isinstance(http1.take(), Request)
    assert http1.take() == RequestEnd()
    out = send_start(http1, 200, [(b"content-length", b"0")]) + send_end(http1)
    assert (b"\r\nconnection: close\r\n" in out.lower()) is not keeps
    assert http1.keeps_alive is keeps
    assert http1.next_request() is keeps
    assert (http1.take() is not None) is keeps


# -- upgrades ------------------------------------------------------------------------------------


def asking(upgrade: bytes, *connection: bytes) -> bytes:
    lines = b"".join(b"Connection: " + value + b"\r\n" for value in connection)
    return b"GET /ws HTTP/1.1\r\nHost: a\r\n" + lines + b"Upgrade: " + upgrade + b"\r\n\r\n"


@pytest.mark.parametrize("trailing", [b"", b"\x81\x85\x00\x00\x00\x00hello", b"\r\n\n\x00", GET])
@pytest.mark.parametrize(
    "raw",
    [
        asking(b"websocket", b"Upgrade"),
        asking(b"WebSocket", b"keep-alive, Upgrade"),
        asking(b"websocket", b"keep-alive", b"Upgrade"),
        asking(b"h2c, websocket", b"Upgrade"),
        asking(b"h2c\r\nUpgrade: websocket", b"Upgrade"),
        asking(b"websocket"),
        asking(b"websocket", b"Upgrade").replace(b"GET", b"POST"),
    ],
    ids=lambda raw: raw.decode(),
)
def test_an_upgrade_keeps_what_came_behind_it(raw: bytes, trailing: bytes, way: Way) -> None:
    (event,) = way.play(raw + trailing)
    assert isinstance(event, UpgradeRequest)
    assert event.trailing == trailing
    assert event.request.target == b"/ws"


def test_an_upgrade_may_follow_other_requests(way: Way) -> None:
    raw = GET + POST + b"Content-Length: 2\r\n\r\nhi" + ASK + b"\x81\x00"
    last = way.play(raw)[-1]
    assert isinstance(last, UpgradeRequest)
    assert last.trailing == b"\x81\x00"


def test_another_protocol_alone_is_ignored_and_the_request_served(way: Way) -> None:
    # RFC 9110 section 7.8: "A server MAY ignore a received Upgrade header field".
    raw = asking(b"h2c", b"Upgrade, HTTP2-Settings")
    assert [type(event) for event in way.play(raw * 2)] == [
        Request,
        RequestEnd,
        Request,
        RequestEnd,
    ]


def test_a_refused_upgrade_is_answered_and_the_connection_ends() -> None:
    http1 = connection(LIMITS)
    http1.feed(ASK + b"\x81\x00")
    assert isinstance(http1.take(), UpgradeRequest)
    refused = RequestRefused(426, "no", [(b"sec-websocket-version", b"13"), (b"upgrade", b"a")])
    assert http1.refuse(refused, [(b"server", b"b")]) == (
        b"HTTP/1.1 426 Upgrade Required\r\n"
        b"server: b\r\n"
        b"content-type: text/plain; charset=utf-8\r\n"
        b"content-length: 25\r\n"
        b"sec-websocket-version: 13\r\n"
        b"upgrade: a\r\n"
        b"connection: close\r\n"
        b"\r\n"
        b"426 Upgrade Required: no\n"
    )
    assert not http1.keeps_alive


# -- the client's end ----------------------------------------------------------------------------

ENDS: dict[str, tuple[bytes, list[type]]] = {
    "nothing": (b"", [ClientClosed]),
    "an empty line": (b"\r\n", [ClientClosed]),
    "half an empty line": (b"\r", [ClientClosed]),
    "in the request line": (b"GET /", [ClientClosed]),
    "in the headers": (b"GET / HTTP/1.1\r\nHost: a", [ClientClosed]),
    "before the last line break": (GET[:-1], [ClientClosed]),
    "behind a request": (GET, [Request, RequestEnd, ClientClosed]),
    "behind the last request": (head(b"Connection: close"), [Request, RequestEnd]),
    "in the next head": (GET + b"GET /", [Request, RequestEnd, ClientClosed]),
    "before a body": (POST + b"Content-Length: 5\r\n\r\n", [Request, ClientClosed]),
    "in a body": (POST + b"Content-Length: 5\r\n\r\nhell", [Request, RequestBody, ClientClosed]),
    "behind a body": (
        POST + b"Content-Length: 5\r\n\r\nhello",
        [Request, RequestBody, RequestEnd, ClientClosed],
    ),
    "before a chunk": (CHUNKED, [Request, ClientClosed]),
    "in a chunk's size": (CHUNKED + b"5", [Request, ClientClosed]),
    "in a chunk": (CHUNKED + b"5\r\nhell", [Request, RequestBody, ClientClosed]),
    "behind a chunk": (CHUNKED + b"5\r\nhello\r\n", [Request, RequestBody, ClientClosed]),
    "before the end of chunks": (
        CHUNKED + b"5\r\nhello\r\n0\r\n",
        [Request, RequestBody, ClientClosed],
    ),
    "in the trailers": (CHUNKED + b"0\r\nA: b\r\n", [Request, ClientClosed]),
    "behind chunks": (CHUNKED + b"0\r\n\r\n", [Request, RequestEnd, ClientClosed]),
    "in a refused head": (b"GET /\x00", [Refused]),
}


@pytest.mark.parametrize(("raw", "types"), ENDS.values(), ids=ENDS)
def test_the_client_may_end_at_any_byte(raw: bytes, types: list[type], whole: bool) -> None:
    pieces = [raw] if whole else bytewise(raw)
    seen = play(pieces, eof=True)
    assert [type(event) for event in seen] == types
    before = play(pieces)
    assert [type(event) for event in before] == [t for t in types if t is not ClientClosed]


def test_what_came_before_the_end_is_served_first() -> None:
    http1 = connection(LIMITS)
    http1.feed(POST + b"Content-Length: 5\r\n\r\nhello")
    http1.feed_eof()
    assert http1.buffered > 0
    assert isinstance(http1.take(), Request)
    assert [http1.take(), http1.take(), http1.take()] == [RequestBody(b"hello"), RequestEnd(), None]
    assert http1.buffered == 0
    out = send_start(http1, 200, [(b"content-length", b"0")]) + send_end(http1)
    assert out.startswith(b"HTTP/1.1 200 OK\r\n")
    assert http1.next_request()
    assert [http1.take(), http1.take()] == [ClientClosed(), ClientClosed()]


# -- responses -----------------------------------------------------------------------------------


def asked(raw: bytes = GET) -> Http1Connection:
    """Return a connection whose first request is complete."""
    http1 = connection(LIMITS)
    http1.feed(raw)
    while http1.take() != RequestEnd():
        pass
    return http1


def test_a_response_with_a_length() -> None:
    http1 = asked()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"5")]
    assert send_start(http1, 200, headers) == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\n"
    )
    assert send_body(http1, b"hel") == b"hel"
    assert send_body(http1, b"lo") == b"lo"
    assert send_end(http1) == b""
    assert http1.keeps_alive


def test_a_response_without_a_length_is_chunked() -> None:
    http1 = asked()
    assert b"\r\ntransfer-encoding: chunked\r\n" in send_start(http1, 200, []).lower()
    assert send_body(http1, b"hello") == b"5\r\nhello\r\n"
    assert send_end(http1) == b"0\r\n\r\n"
    assert http1.keeps_alive


def test_a_response_to_http_1_0_ends_with_the_connection() -> None:
    http1 = asked(b"GET / HTTP/1.0\r\n\r\n")
    out = send_start(http1, 200, [])
    assert b"transfer-encoding" not in out.lower()
    assert b"\r\nconnection: close\r\n" in out.lower()
    assert send_body(http1, b"hello") == b"hello"
    assert send_end(http1) == b""
    assert not http1.keeps_alive


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK\r\n"),
        (418, b"HTTP/1.1 418 I'm a Teapot\r\n"),
        # RFC 9112 section 4: the space stays when the reason-phrase is absent.
        (299, b"HTTP/1.1 299 \r\n"),
        (999, b"HTTP/1.1 999 \r\n"),
    ],
)
def test_a_status_has_its_phrase(status: int, line: bytes) -> None:
    assert send_start(asked(), status, []).startswith(line)


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_without_content_has_no_frame(status: int) -> None:
    http1 = asked()
    out = send_start(http1, status, []) + send_end(http1)
    assert out.endswith(b"\r\n\r\n")
    assert b"chunked" not in out
    assert http1.keeps_alive


def test_a_head_gets_the_headers_and_no_content() -> None:
    # RFC 9110 section 9.3.2.
    http1 = asked(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    out = send_start(http1, 200, [(b"content-length", b"5")]) + send_end(http1)
    assert out == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
    assert http1.keeps_alive


def test_closing_makes_a_response_the_last() -> None:
    http1 = asked(GET + NEXT)
    http1.close_after_response()
    out = send_start(http1, 200, [(b"content-length", b"0")]) + send_end(http1)
    assert b"\r\nconnection: close\r\n" in out
    assert not http1.keeps_alive
    assert not http1.next_request()


def test_the_app_may_close() -> None:
    http1 = asked()
    send_start(http1, 200, [(b"content-length", b"0"), (b"connection", b"close")])
    send_end(http1)
    assert not http1.keeps_alive


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"5"), (b"content-length", b"6")],
        [(b"content-length", b"x")],
        [(b"a b", b"c")],
        [(b"a", b"b\r\nc: d")],
    ],
    ids=repr,
)
def test_headers_that_cannot_be_sent_are_invalid(headers: list[Header]) -> None:
    with pytest.raises(InvalidMessage):
        send_start(asked(), 200, headers)


@pytest.mark.parametrize("status", [100, 101, 199, 1000])
def test_a_status_that_ends_no_request_is_invalid(status: int) -> None:
    with pytest.raises(InvalidMessage):
        send_start(asked(), status, [])


def test_a_body_longer_than_it_says_is_invalid() -> None:
    http1 = asked()
    send_start(http1, 200, [(b"content-length", b"5")])
    with pytest.raises(InvalidMessage, match="Too much data"):
        send_body(http1, b"hello!")
    assert not http1.keeps_alive


def test_a_body_shorter_than_it_says_is_invalid() -> None:
    http1 = asked()
    send_start(http1, 200, [(b"content-length", b"5")])
    send_body(http1, b"hell")
    with pytest.raises(InvalidMessage, match="Too little data"):
        send_end(http1)
    assert not http1.keeps_alive


# -- Expect --------------------------------------------------------------------------------------

EXPECT = POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def begun(raw: bytes) -> Http1Connection:
    """Return a connection that has a request's head."""
    http1 = connection(LIMITS)
    http1.feed(raw)
    assert isinstance(http1.take(), Request)
    return http1


@pytest.mark.parametrize("expect", [b"100-continue", b"100-Continue"])
def test_a_client_that_waits_is_told_to_go_on_once(expect: bytes) -> None:
    http1 = begun(EXPECT.replace(b"100-continue", expect))
    assert http1.take() is None
    assert http1.send_continue() == CONTINUE
    assert http1.send_continue() == b""
    http1.feed(b"hello")
    assert [http1.take(), http1.take()] == [RequestBody(b"hello"), RequestEnd()]
    assert b"connection: close" not in send_start(http1, 200, [(b"content-length", b"0")])
    send_end(http1)
    assert http1.next_request()


def test_a_client_that_did_not_wait_is_not_told() -> None:
    # RFC 9110 section 10.1.1: "A server MAY omit sending a 100 (Continue) response if it has
    # already received some or all of the content".
    http1 = begun(EXPECT + b"he")
    assert http1.take() == RequestBody(b"he")
    assert http1.send_continue() == b""


@pytest.mark.parametrize(
    "raw",
    [
        POST + b"Content-Length: 5\r\n\r\n",
        # RFC 9110 section 10.1.1: "A server that receives a 100-continue expectation in an
        # HTTP/1.0 request MUST ignore that expectation."
        EXPECT.replace(b"HTTP/1.1", b"HTTP/1.0"),
        EXPECT.replace(b"100-continue", b"magic"),
    ],
    ids=["no Expect", "HTTP/1.0", "unknown"],
)
def test_who_does_not_wait_is_not_told(raw: bytes) -> None:
    assert begun(raw).send_continue() == b""


def test_an_answer_without_the_body_ends_the_connection() -> None:
    # The client may send the body all the same, or not: what follows has no frame.
    http1 = begun(EXPECT)
    out = send_start(http1, 413, [(b"content-length", b"0")]) + send_end(http1)
    assert b"\r\nconnection: close\r\n" in out
    assert not http1.keeps_alive
    assert http1.send_continue() == b""


# -- refusals ------------------------------------------------------------------------------------


def refusal(http1: Http1Connection) -> bytes:
    """Take events until one is refused; return the answer."""
    seen: list[RequestEvent | None] = []
    with pytest.raises(RequestRefused) as caught:
        seen.extend(iter(http1.take, None))
    return http1.refuse(caught.value, [(b"server", b"wsgate")])


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b"\x16\x03\x01", b"400 Bad Request"),
        (b"GET / HTTP/2.0\r\n\r\n", b"505 HTTP Version Not Supported"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n", b"400 Bad Request"),
        (CHUNKED + b"x\r\n", b"400 Bad Request"),
        (POST + b"Transfer-Encoding: gzip\r\n\r\n", b"501 Not Implemented"),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", b"400 Bad Request"),
        (EXPECT.replace(b"Host: a", b"Host: a b"), b"400 Bad Request"),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"414 "),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000, b"431 Request Header Fields Too Large"),
    ],
    ids=lambda case: repr(case[:30]),
)
def test_a_refusal_is_a_whole_response(raw: bytes, line: bytes) -> None:
    http1 = connection(LIMITS)
    http1.feed(raw)
    top, _, body = refusal(http1).partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 " + line)
    assert body.startswith(line)
    assert body.endswith(b"\n")
    assert b"\r\nserver: wsgate" in top
    assert b"\r\nconnection: close" in top.lower()
    assert b"\r\ncontent-length: %d" % len(body) in top
    assert not http1.keeps_alive
    assert not http1.next_request()


def test_a_refused_head_has_no_content() -> None:
    http1 = connection(LIMITS)
    http1.feed(b"HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n")
    assert refusal(http1).endswith(b"\r\n\r\n")


def test_a_refusal_behind_a_head_has_content_again() -> None:
    http1 = asked(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + b"\x00")
    send_start(http1, 200, [])
    send_end(http1)
    assert http1.next_request()
    assert refusal(http1).endswith(b"in the head\n")


def test_a_silent_client_can_be_refused() -> None:
    out = connection(LIMITS).refuse(RequestRefused(408, "the request took too long"), [])
    assert out.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert out.endswith(b"\r\n\r\n408 Request Timeout: the request took too long\n")


def test_a_detail_is_said_in_ascii() -> None:
    out = connection(LIMITS).refuse(RequestRefused(499, "café"), [])
    assert out.startswith(b"HTTP/1.1 499 \r\n")
    assert out.endswith(b"499 : caf?\n")


def test_a_response_under_way_is_not_refused() -> None:
    http1 = asked()
    send_start(http1, 200, [])
    assert http1.refuse(RequestRefused(500, "no"), []) == b""
    send_body(http1, b"hello")
    assert http1.refuse(RequestRefused(500, "no"), []) == b""
    send_end(http1)
    assert http1.refuse(RequestRefused(500, "no"), []) == b""


# -- whatever comes ------------------------------------------------------------------------------

FRAGMENTS = st.sampled_from(
    [
        GET,
        ASK,
        POST,
        CHUNKED,
        NEXT,
        b"GET / HTTP/1.1\r\n",
        b"HEAD / HTTP/1.1\r\n",
        b"POST /a?b HTTP/1.0\r\n",
        b"CONNECT a:80 HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Connection: Upgrade\r\n",
        b"Upgrade: websocket\r\n",
        b"Expect: 100-continue\r\n",
        b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
        b" folded\r\n",
        b"hello",
        b"5\r\nhello\r\n",
        b"a;ext=1\r\n0123456789\r\n",
        b"0\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\r",
        b"\n",
        b"\x00",
    ]
)
STREAMS = st.lists(FRAGMENTS | st.binary(max_size=5), max_size=12).map(b"".join)
TIGHT = HeadLimits(size=60, target=6, headers=3)


def cut(raw: bytes, sizes: list[int]) -> list[bytes]:
    """Return the bytes in pieces of these sizes, and a last one."""
    pieces = []
    for size in sizes:
        pieces.append(raw[:size])
        raw = raw[size:]
    return [*pieces, raw]


@settings(max_examples=200, deadline=None)
@given(
    raw=STREAMS | st.binary(max_size=60),
    sizes=st.lists(st.integers(1, 30), max_size=10),
    limits=st.sampled_from([LIMITS, TIGHT]),
    eof=st.booleans(),
)
@example(
    raw=CHUNKED + b"0\r\n" + b"A: bcdefgh\r\n" * 7 + b"\r\n", sizes=[], limits=TIGHT, eof=False
)
@example(raw=b"GET /aaaaaaaa HTTP/1.1\r\n", sizes=[70], limits=TIGHT, eof=False)
def test_any_bytes_in_any_pieces_give_the_same_events(
    raw: bytes, sizes: list[int], limits: HeadLimits, eof: bool
) -> None:
    expected = play([raw], limits, eof=eof)
    assert play(cut(raw, sizes), limits, eof=eof) == expected
    assert play(bytewise(raw), limits, eof=eof) == expected


@settings(max_examples=100, deadline=None)
@given(
    bodies=st.lists(st.none() | st.lists(st.binary(min_size=1, max_size=40)), max_size=4),
    sizes=st.lists(st.integers(1, 60), max_size=20),
)
def test_any_requests_come_as_they_were_sent(
    bodies: list[list[bytes] | None], sizes: list[int]
) -> None:
    raw = b""
    expected: list[Seen] = []
    for chunks in bodies:
        if chunks is None:
            raw += GET
            expected.append(request())
        else:
            raw += CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
            expected.append(request("POST", b"/", (b"transfer-encoding", b"chunked")))
            expected += [RequestBody(b"".join(chunks))] * bool(chunks)
        expected.append(RequestEnd())
    assert play(cut(raw, sizes)) == expected


@settings(deadline=None)
@given(raw=STREAMS)
def test_whatever_was_asked_can_be_refused(raw: bytes) -> None:
    http1 = connection(LIMITS)
    http1.feed(raw)
    refused = RequestRefused(400, "no")
    try:
        while http1.take() is not None:
            pass
    except RequestRefused as caught:
        refused = caught
    out = http1.refuse(refused, [])
    assert out.startswith(b"HTTP/1.1 %d " % refused.status)
    assert out.lower().count(b"\r\nconnection: close\r\n") == 1
    assert not http1.keeps_alive
