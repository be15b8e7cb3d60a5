"""Several requests on one connection, upgrades, and the end of the client."""

import pytest

from tests.drivers import http1 as connection, send_end, send_start
from tests.http.h1.playback import (
    ASK,
    CHUNKED,
    GET,
    LIMITS,
    NEXT,
    NEXT_SEEN,
    POST,
    Refused,
    Way,
    bytewise,
    head,
    play,
    request,
)
from wsgate.errors import RequestRefused
from wsgate.http.events import ClientClosed, RequestBody, RequestEnd, UpgradeRequest
from wsgate.http.request import Request

pytestmark = pytest.mark.usefixtures("parser")

# -- pipelining ------------------------------------------------------------------------------------


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


def test_a_pipelined_request_waits_for_the_response() -> None:
    http1 = connection(LIMITS)
    http1.feed(GET + NEXT)
    assert [http1.take(), http1.take(), http1.take()] == [request(), RequestEnd(), None]
    assert not http1.next_request()
    assert len(http1.buffer) == len(NEXT)
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
def test_a_request_pipelined_after_a_body_is_kept_and_counted(body: bytes) -> None:
    # These bytes came in one piece with the body.
    http1 = connection(LIMITS)
    http1.feed(POST + body + NEXT)
    assert isinstance(http1.take(), Request)
    assert [http1.take(), http1.take()] == [RequestBody(b"hello"), RequestEnd()]
    assert len(http1.buffer) == len(NEXT)
    http1.feed_eof()
    assert len(http1.buffer) > 0
    send_start(http1, 204, [])
    send_end(http1)
    assert http1.next_request()
    assert [http1.take(), http1.take()] == NEXT_SEEN
    assert len(http1.buffer) == 0


def test_a_head_pipelined_after_a_body_is_checked(whole: bool) -> None:
    raw = POST + b"Content-Length: 2\r\n\r\nhi" + b"GET / HTTP/1.1\nHost: a\n\n"
    assert play([raw] if whole else bytewise(raw))[1:] == [
        RequestBody(b"hi"),
        RequestEnd(),
        Refused(400),
    ]


def test_the_next_request_waits_until_the_body_is_taken() -> None:
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
        # A choice of this server: RFC 9112 section 9.3 lets a server close at any time.
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
    ],
    ids=lambda case: case.decode() if isinstance(case, bytes) else "",
)
def test_a_connection_persists_unless_the_client_closes_it(raw: bytes, keeps: bool) -> None:
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


# -- upgrades --------------------------------------------------------------------------------------


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
def test_an_upgrade_keeps_the_bytes_after_its_head(raw: bytes, trailing: bytes, way: Way) -> None:
    (event,) = way.play(raw + trailing)
    assert isinstance(event, UpgradeRequest)
    assert event.trailing == trailing
    assert event.request.target == b"/ws"


def test_an_upgrade_may_follow_other_requests(way: Way) -> None:
    raw = GET + POST + b"Content-Length: 2\r\n\r\nhi" + ASK + b"\x81\x00"
    last = way.play(raw)[-1]
    assert isinstance(last, UpgradeRequest)
    assert last.trailing == b"\x81\x00"


def test_an_upgrade_to_another_protocol_is_an_ordinary_request(way: Way) -> None:
    # RFC 9110 section 7.8: "A server MAY ignore a received Upgrade header field".
    raw = asking(b"h2c", b"Upgrade, HTTP2-Settings")
    assert [type(event) for event in way.play(raw * 2)] == [
        Request,
        RequestEnd,
        Request,
        RequestEnd,
    ]


def test_a_refused_upgrade_is_answered_and_closes_the_connection() -> None:
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


# -- the client's end ------------------------------------------------------------------------------


ENDS: dict[str, tuple[bytes, list[type]]] = {
    "nothing": (b"", [ClientClosed]),
    "an empty line": (b"\r\n", [ClientClosed]),
    "half an empty line": (b"\r", [ClientClosed]),
    "in the request line": (b"GET /", [ClientClosed]),
    "in the headers": (b"GET / HTTP/1.1\r\nHost: a", [ClientClosed]),
    "before the last line break": (GET[:-1], [ClientClosed]),
    "after a request": (GET, [Request, RequestEnd, ClientClosed]),
    "after the last request": (head(b"Connection: close"), [Request, RequestEnd]),
    "in the next head": (GET + b"GET /", [Request, RequestEnd, ClientClosed]),
    "before a body": (POST + b"Content-Length: 5\r\n\r\n", [Request, ClientClosed]),
    "in a body": (POST + b"Content-Length: 5\r\n\r\nhell", [Request, RequestBody, ClientClosed]),
    "after a body": (
        POST + b"Content-Length: 5\r\n\r\nhello",
        [Request, RequestBody, RequestEnd, ClientClosed],
    ),
    "before a chunk": (CHUNKED, [Request, ClientClosed]),
    "in a chunk's size": (CHUNKED + b"5", [Request, ClientClosed]),
    "in a chunk": (CHUNKED + b"5\r\nhell", [Request, RequestBody, ClientClosed]),
    "after a chunk": (CHUNKED + b"5\r\nhello\r\n", [Request, RequestBody, ClientClosed]),
    "before the end of chunks": (
        CHUNKED + b"5\r\nhello\r\n0\r\n",
        [Request, RequestBody, ClientClosed],
    ),
    "in the trailers": (CHUNKED + b"0\r\nA: b\r\n", [Request, ClientClosed]),
    "after chunks": (CHUNKED + b"0\r\n\r\n", [Request, RequestEnd, ClientClosed]),
    "in a refused head": (b"GET /\x00", [Refused]),
}


@pytest.mark.parametrize(("raw", "types"), ENDS.values(), ids=ENDS)
def test_the_client_may_close_after_any_byte(raw: bytes, types: list[type], whole: bool) -> None:
    pieces = [raw] if whole else bytewise(raw)
    seen = play(pieces, eof=True)
    assert [type(event) for event in seen] == types
    before = play(pieces)
    assert [type(event) for event in before] == [t for t in types if t is not ClientClosed]


def test_bytes_before_the_end_are_served_first() -> None:
    http1 = connection(LIMITS)
    http1.feed(POST + b"Content-Length: 5\r\n\r\nhello")
    http1.feed_eof()
    assert len(http1.buffer) > 0
    assert isinstance(http1.take(), Request)
    assert [http1.take(), http1.take(), http1.take()] == [RequestBody(b"hello"), RequestEnd(), None]
    assert len(http1.buffer) == 0
    out = send_start(http1, 200, [(b"content-length", b"0")]) + send_end(http1)
    assert out.startswith(b"HTTP/1.1 200 OK\r\n")
    assert http1.next_request()
    assert [http1.take(), http1.take()] == [ClientClosed(), ClientClosed()]
