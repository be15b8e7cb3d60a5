"""Responses: their bytes, and what they mean for the connection."""

import pytest

from tests.drivers import http1 as connection, send_body, send_end, send_start
from tests.http.h1.playback import CHUNKED, EXPECT, GET, LIMITS, NEXT, POST, asked
from wsgate.errors import InvalidMessage, RequestRefused
from wsgate.http.events import (
    InformationalResponse,
    RequestBody,
    RequestEnd,
    RequestEvent,
    ResponseBody,
    ResponseEnd,
    ResponseStart,
    WholeResponse,
)
from wsgate.http.h1.connection import Http1Connection
from wsgate.http.request import Request
from wsgate.http.response import response_head
from wsgate.types import Header

pytestmark = pytest.mark.usefixtures("parser")

# -- responses -------------------------------------------------------------------------------------


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


def test_a_body_to_http_1_0_ends_with_the_connection() -> None:
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
def test_a_status_without_a_body_has_no_framing(status: int) -> None:
    http1 = asked()
    out = send_start(http1, status, []) + send_end(http1)
    assert out.endswith(b"\r\n\r\n")
    assert b"chunked" not in out
    assert http1.keeps_alive


def test_the_response_to_head_has_headers_and_no_body() -> None:
    # RFC 9110 section 9.3.2.
    http1 = asked(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    out = send_start(http1, 200, [(b"content-length", b"5")]) + send_end(http1)
    assert out == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
    assert http1.keeps_alive


def test_close_after_response_closes_the_connection() -> None:
    http1 = asked(GET + NEXT)
    http1.close_after_response()
    out = send_start(http1, 200, [(b"content-length", b"0")]) + send_end(http1)
    assert b"\r\nconnection: close\r\n" in out
    assert not http1.keeps_alive
    assert not http1.next_request()


def test_connection_close_of_the_app_closes_the_connection() -> None:
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
def test_a_status_that_is_not_final_is_invalid(status: int) -> None:
    with pytest.raises(InvalidMessage):
        send_start(asked(), status, [])


def test_a_body_longer_than_its_length_is_invalid() -> None:
    http1 = asked()
    send_start(http1, 200, [(b"content-length", b"5")])
    with pytest.raises(InvalidMessage, match="Too much data"):
        send_body(http1, b"hello!")
    assert not http1.keeps_alive


def test_a_body_shorter_than_its_length_is_invalid() -> None:
    http1 = asked()
    send_start(http1, 200, [(b"content-length", b"5")])
    send_body(http1, b"hell")
    with pytest.raises(InvalidMessage, match="Too little data"):
        send_end(http1)
    assert not http1.keeps_alive


def test_nothing_can_be_sent_after_a_failed_response() -> None:
    http1 = asked()
    send_start(http1, 200, [(b"content-length", b"5")])
    with pytest.raises(InvalidMessage, match="Too much data"):
        send_body(http1, b"hello!")
    with pytest.raises(InvalidMessage, match="failed already"):
        send_body(http1, b"a")
    with pytest.raises(InvalidMessage, match="failed already"):
        send_end(http1)
    assert http1.refuse(RequestRefused(500, "no"), []) == b""
    assert not http1.next_request()


# -- events ----------------------------------------------------------------------------------------

DEFAULTS = [(b"server", b"a")]
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"
HINT = InformationalResponse(103, [(b"link", b"</a>"), (b"link", b"</b>")])
SUM = (b"x-sum", b"1")


def whole(http1: Http1Connection, status: int, body: bytes, *headers: Header) -> bytes:
    return http1.send(WholeResponse(response_head(status, headers), body), DEFAULTS).lower()


def test_a_whole_response_gets_its_length() -> None:
    http1 = asked()
    assert whole(http1, 200, b"hello", (b"x", b"y")) == (
        b"http/1.1 200 ok\r\nserver: a\r\nx: y\r\ncontent-length: 5\r\n\r\nhello"
    )
    assert http1.keeps_alive


def test_a_whole_response_may_be_the_last_of_its_connection() -> None:
    http1 = asked(OLD)
    assert whole(http1, 200, b"hello", (b"content-length", b"5")) == (
        b"http/1.1 200 ok\r\nserver: a\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"
    )
    assert not http1.keeps_alive


@pytest.mark.parametrize(
    ("raw", "status", "line"),
    [
        (HEAD, 200, b"http/1.1 200 ok\r\nserver: a\r\ntransfer-encoding: chunked\r\n\r\n"),
        (GET, 204, b"http/1.1 204 no content\r\nserver: a\r\n\r\n"),
        (GET, 304, b"http/1.1 304 not modified\r\nserver: a\r\n\r\n"),
    ],
)
def test_a_whole_response_without_a_body_gets_no_length(
    raw: bytes, status: int, line: bytes
) -> None:
    http1 = asked(raw)
    assert whole(http1, status, b"dropped") == line
    assert http1.keeps_alive


@pytest.mark.parametrize(("body", "text"), [(b"hell", "Too little"), (b"hello!", "Too much")])
def test_a_whole_response_of_another_length_is_invalid(body: bytes, text: str) -> None:
    with pytest.raises(InvalidMessage, match=text):
        whole(asked(), 200, body, (b"content-length", b"5"))


def test_the_start_and_the_end_carry_parts_of_the_body() -> None:
    http1 = asked()
    out = http1.send(ResponseStart(response_head(200, []), b"ab"), DEFAULTS)
    assert out.lower().endswith(b"server: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
    assert http1.send(ResponseBody(b""), DEFAULTS) == b""
    assert http1.send(ResponseBody(b"c"), DEFAULTS) == b"1\r\nc\r\n"
    assert http1.send(ResponseEnd(b"d"), DEFAULTS) == b"1\r\nd\r\n0\r\n\r\n"
    assert http1.keeps_alive


def test_trailers_follow_the_last_chunk() -> None:
    http1 = asked()
    send_start(http1, 200, [])
    assert send_end(http1, SUM, (b"etag", b"")) == b"0\r\nx-sum: 1\r\netag: \r\n\r\n"
    assert http1.keeps_alive


@pytest.mark.parametrize(
    ("raw", "status", "headers"),
    [
        (HEAD, 200, []),
        (OLD, 200, []),
        (GET, 204, []),
        (GET, 200, [(b"content-length", b"0")]),
    ],
)
def test_trailers_of_a_body_that_is_not_chunked_are_dropped(
    raw: bytes, status: int, headers: list[Header]
) -> None:
    http1 = asked(raw)
    send_start(http1, status, headers)
    assert send_end(http1, SUM) == b""


def test_a_response_after_one_with_trailers_has_none() -> None:
    http1 = asked(GET + NEXT)
    send_start(http1, 200, [])
    send_end(http1, SUM)
    assert http1.next_request()
    assert http1.take() is not None
    http1.take()
    assert b"x-sum" not in whole(http1, 200, b"hello")


def test_informational_responses_precede_the_final_one() -> None:
    http1 = asked()
    for _ in range(2):
        assert http1.send(HINT, DEFAULTS) == (
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n"
        )
    assert whole(http1, 200, b"").startswith(b"http/1.1 200 ok\r\n")
    with pytest.raises(InvalidMessage, match="before the final one"):
        http1.send(HINT, DEFAULTS)


def test_http_1_0_gets_no_informational_response() -> None:
    # RFC 9110 section 15.2: "a server MUST NOT send a 1xx response to an HTTP/1.0 client."
    assert asked(OLD).send(HINT, DEFAULTS) == b""


def test_an_informational_response_is_not_the_100_that_a_client_waits_for() -> None:
    http1 = connection_with_head(EXPECT)
    http1.send(HINT, DEFAULTS)
    assert http1.send_continue() == CONTINUE


# -- Expect ----------------------------------------------------------------------------------------


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def connection_with_head(raw: bytes) -> Http1Connection:
    """Return a connection that has taken a request's head."""
    http1 = connection(LIMITS)
    http1.feed(raw)
    assert isinstance(http1.take(), Request)
    return http1


@pytest.mark.parametrize("expect", [b"100-continue", b"100-Continue"])
def test_a_client_that_waits_gets_one_100_continue(expect: bytes) -> None:
    http1 = connection_with_head(EXPECT.replace(b"100-continue", expect))
    assert http1.take() is None
    assert http1.send_continue() == CONTINUE
    assert http1.send_continue() == b""
    http1.feed(b"hello")
    assert [http1.take(), http1.take()] == [RequestBody(b"hello"), RequestEnd()]
    assert b"connection: close" not in send_start(http1, 200, [(b"content-length", b"0")])
    send_end(http1)
    assert http1.next_request()


def test_a_client_that_has_sent_a_part_gets_no_100_continue() -> None:
    # RFC 9110 section 10.1.1: "A server MAY omit sending a 100 (Continue) response if it has
    # already received some or all of the content".
    http1 = connection_with_head(EXPECT + b"he")
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
def test_a_client_that_does_not_wait_gets_no_100_continue(raw: bytes) -> None:
    assert connection_with_head(raw).send_continue() == b""


def test_a_response_before_the_expected_body_closes_the_connection() -> None:
    # The client may still send the body, or not: what follows could be either.
    http1 = connection_with_head(EXPECT)
    out = send_start(http1, 413, [(b"content-length", b"0")]) + send_end(http1)
    assert b"\r\nconnection: close\r\n" in out
    assert not http1.keeps_alive
    assert http1.send_continue() == b""


# -- refusals --------------------------------------------------------------------------------------


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
def test_a_refusal_is_a_complete_response(raw: bytes, line: bytes) -> None:
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


def test_the_refusal_of_a_head_request_has_no_body() -> None:
    http1 = connection(LIMITS)
    http1.feed(b"HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n")
    assert refusal(http1).endswith(b"\r\n\r\n")


def test_a_refusal_after_a_head_request_has_a_body_again() -> None:
    http1 = asked(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + b"\x00")
    send_start(http1, 200, [])
    send_end(http1)
    assert http1.next_request()
    assert refusal(http1).endswith(b"in the head\n")


def test_a_client_that_sent_nothing_can_be_refused() -> None:
    out = connection(LIMITS).refuse(RequestRefused(408, "the request took too long"), [])
    assert out.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert out.endswith(b"\r\n\r\n408 Request Timeout: the request took too long\n")


def test_the_text_of_a_refusal_is_ascii() -> None:
    out = connection(LIMITS).refuse(RequestRefused(499, "café"), [])
    assert out.startswith(b"HTTP/1.1 499 \r\n")
    assert out.endswith(b"499 : caf?\n")


def test_a_response_in_progress_is_not_refused() -> None:
    http1 = asked()
    send_start(http1, 200, [])
    assert http1.refuse(RequestRefused(500, "no"), []) == b""
    send_body(http1, b"hello")
    assert http1.refuse(RequestRefused(500, "no"), []) == b""
    send_end(http1)
    assert http1.refuse(RequestRefused(500, "no"), []) == b""
