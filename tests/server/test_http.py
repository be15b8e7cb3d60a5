"""How a connection serves HTTP, in memory: every behaviour, every deadline by a turned clock."""

import asyncio
import contextlib
import itertools
import logging
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest

from tests.puppet import (
    END,
    START,
    Call,
    Lines,
    Puppet,
    logged,
    nothing_left,
    piece,
    task_of,
    turns,
    waits,
)
from wsgate.errors import ClientDisconnected, IllegalMessage, InvalidMessage
from wsgate.server.connection import HIGH_WATER, Connection
from wsgate.server.deadlines import LINGER, TICK
from wsgate.server.exchange import PIECES
from wsgate.server.http1_driver import DRAIN, READ_AHEAD
from wsgate.testing import MemoryClient, connect
from wsgate.types import App

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

# -- what the tests work with ----------------------------------------------------------------------


class Chosen:
    """What parses HTTP in the tests that run now."""

    http = "auto"


@pytest.fixture(scope="module", params=["h11", "fast"], autouse=True)
def parser(request: pytest.FixtureRequest) -> None:
    Chosen.http = request.param


@pytest.fixture(autouse=True)
def log() -> Iterator[Lines]:
    with logged() as lines:
        yield lines


@pytest.fixture(autouse=True)
async def _nothing_left() -> AsyncIterator[None]:
    async with nothing_left():
        yield


def is_paused(client: MemoryClient) -> bool:
    return client.transport.is_paused


@contextlib.asynccontextmanager
async def connected(app: App, **options: Any) -> AsyncIterator[MemoryClient]:
    """Connect, and see that the connection and its apps are gone behind the test."""
    async with asyncio.timeout(30), connect(app, http=Chosen.http, **options) as client:
        yield client
    assert not client.context.connections
    assert not client.context.tasks


@contextlib.asynccontextmanager
async def played(
    data: bytes = b"", **options: Any
) -> AsyncIterator[tuple[MemoryClient, Puppet, Call]]:
    """Connect, send a request, and give the app's call to play."""
    app = Puppet()
    async with connected(app, **options) as client:
        client.send(data)
        yield client, app, await app.called()


class Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes


async def head_of(client: MemoryClient) -> Answer:
    head = await client.until(b"\r\n\r\n")
    line, *fields = head[:-4].split(b"\r\n")
    assert re.fullmatch(rb"HTTP/1\.1 \d{3} .*", line)
    pairs = [field.split(b": ", 1) for field in fields]
    headers = {name.lower(): value for name, value in pairs}
    twice = len(headers) != len(fields)
    assert not twice or b"upgrade" in headers, f"a header stands there twice: {head!r}"
    return Answer(int(line[9:12]), headers, b"")


async def chunks_of(client: MemoryClient) -> list[bytes]:
    chunks = []
    while size := int(await client.until(b"\r\n"), 16):
        chunks.append((await client.exactly(size + 2))[:-2])
    assert await client.exactly(2) == b"\r\n"
    return chunks


async def answer_of(client: MemoryClient) -> Answer:
    answer = await head_of(client)
    if answer.headers.get(b"transfer-encoding") == b"chunked":
        return answer._replace(body=b"".join(await chunks_of(client)))
    return answer._replace(body=await client.exactly(int(answer.headers[b"content-length"])))


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the method, the path and the body."""
    body, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        more = message["more_body"]
    await send(START)
    await send(piece(f"{scope['method']} {scope['path']} ".encode() + body, more=False))


async def path(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the path; leave the body alone."""
    await send(START)
    await send(piece(scope["path"].encode(), more=False))


# -- the scope -------------------------------------------------------------------------------------


async def scope_of(data: bytes, **options: Any) -> dict[str, Any]:
    async with played(data, **options) as (_, _, call):
        return dict(call.scope)


async def test_the_scope_has_every_key() -> None:
    data = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-Two: 1\r\nx-two: 2\r\nContent-Length: 0\r\n\r\n"
    assert await scope_of(data) == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/a",
        "raw_path": b"/a",
        "query_string": b"b=c",
        "root_path": "",
        "headers": [
            (b"host", b"x"),
            (b"x-two", b"1"),
            (b"x-two", b"2"),
            (b"content-length", b"0"),
        ],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8_000),
        "state": {},
        "extensions": {"http.response.trailers": {}, "http.response.early_hint": {}},
    }


async def test_the_path_is_decoded_and_its_bytes_stay() -> None:
    scope = await scope_of(b"GET /%C3%A9%2F%20+?q=%20%C3 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert scope["path"] == "/é/ +"
    assert scope["raw_path"] == b"/%C3%A9%2F%20+"
    assert scope["query_string"] == b"q=%20%C3"


async def test_the_root_path_stands_before_the_path() -> None:
    scope = await scope_of(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", root_path="/api")
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/api", "/api/a", b"/api/a")


async def test_an_absolute_target_brings_its_own_host() -> None:
    scope = await scope_of(b"GET http://other:81/a?b HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (scope["path"], scope["query_string"]) == ("/a", b"b")
    assert scope["headers"] == [(b"host", b"other:81")]


async def test_options_for_the_server_as_a_whole() -> None:
    scope = await scope_of(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("OPTIONS", "*", b"*")


async def test_the_version_of_an_old_client() -> None:
    scope = await scope_of(b"GET / HTTP/1.0\r\n\r\n")
    assert (scope["http_version"], scope["headers"]) == ("1.0", [])


async def test_each_scope_has_its_own_copy_of_the_state() -> None:
    app = Puppet()
    async with connected(app) as client:
        shared: list[int] = []
        client.context.state["shared"] = shared
        client.send(GET * 2)
        first = await app.called()
        first.scope["state"]["own"] = 1
        await first.answer()
        second = await app.called()
        assert second.scope["state"] == {"shared": shared}
        assert second.scope["state"]["shared"] is shared


# -- one request after the other -------------------------------------------------------------------


async def test_a_connection_serves_one_request_after_the_other() -> None:
    async with connected(echo) as client:
        for number in range(3):
            client.send(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
            answer = await answer_of(client)
            assert (answer.status, answer.body) == (200, b"GET /%d " % number)
            assert b"connection" not in answer.headers
        assert not client.is_ended


async def test_a_request_may_come_byte_by_byte() -> None:
    async with connected(echo) as client:
        for byte in b"\r\n" + POST % 2 + b"ab" + GET:
            client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await answer_of(client)).body == b"POST / ab"
        assert (await answer_of(client)).body == b"GET / "


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with played(GET * 2) as (client, app, first):
        await turns()
        assert app.calls.empty(), "the second waits for the first"
        await first.send(START)
        await first.send(piece(b"one"))
        await turns()
        assert app.calls.empty()
        await first.send(piece(b"", more=False))
        await (await app.called()).answer(b"two")
        assert (await answer_of(client)).body == b"one"
        assert (await answer_of(client)).body == b"two"


async def test_pipelined_requests_with_bodies_that_the_app_reads_or_not() -> None:
    requests = POST % 5 + b"hello" + CHUNKED + b"5\r\nhello\r\n0\r\n\r\n" + GET
    for app, bodies in (
        (echo, [b"POST / hello", b"POST / hello", b"GET / "]),
        (path, [b"/", b"/", b"/"]),
    ):
        async with connected(app) as client:
            client.send(requests * 10)
            for body in bodies * 10:
                assert (await answer_of(client)).body == body


async def test_what_comes_behind_a_response_that_is_sent_at_once() -> None:
    async with connected(path) as client:
        client.send(POST % 5 + b"he")
        assert (await answer_of(client)).body == b"/"
        client.send(b"llo" + GET)
        assert (await answer_of(client)).status == 200


async def test_the_client_asks_for_the_end_of_the_connection() -> None:
    async with connected(path) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + GET)
        answer = await answer_of(client)
        assert answer.headers[b"connection"] == b"close"
        assert await client.ended() == b""


async def test_the_app_asks_for_the_end_of_the_connection() -> None:
    async with played(GET) as (client, _, call):
        await call.answer(b"", 200, (b"connection", b"close"))
        assert (await answer_of(client)).headers[b"connection"] == b"close"
        assert await client.ended() == b""


async def test_work_behind_the_response_does_not_hold_up_the_next_request() -> None:
    async with played(GET) as (client, app, first):
        await first.answer(b"one")
        client.send(GET)
        second = await app.called()
        assert len(client.context.tasks) == 2
        assert await first.receive() == {"type": "http.disconnect"}
        await first.refused(piece(b"more"), IllegalMessage, "response complete")
        first.returns()
        await second.answer(b"two")
        assert (await answer_of(client)).body == b"one"
        assert (await answer_of(client)).body == b"two"


async def test_work_behind_the_response_may_fail(log: Lines) -> None:
    async with played(GET * 2) as (client, app, first):
        await first.answer(b"one")
        second = await app.called()
        first.raises(ValueError("late"))
        await turns()
        assert log.errors == ["Exception in ASGI application"]
        await second.answer(b"two")
        assert (await answer_of(client)).body == b"one"
        assert (await answer_of(client)).body == b"two"


# -- clients of HTTP/1.0 ---------------------------------------------------------------------------


async def test_an_old_client_gets_its_answer_and_the_end() -> None:
    async with connected(path) as client:
        client.send(b"GET /a HTTP/1.0\r\n\r\n")
        answer = await answer_of(client)
        assert (answer.status, answer.body) == (200, b"/a")
        assert answer.headers[b"connection"] == b"close"
        assert await client.ended() == b""


async def test_a_stream_to_an_old_client_ends_with_the_connection() -> None:
    async with played(b"GET / HTTP/1.0\r\n\r\n") as (client, _, call):
        await call.send(START)
        await call.send(piece(b"a"))
        await call.send(piece(b"b", more=False))
        answer = await head_of(client)
        assert b"transfer-encoding" not in answer.headers
        assert await client.ended() == b"ab"


# -- the response on the wire ----------------------------------------------------------------------


async def test_a_whole_body_has_its_length() -> None:
    async with played(GET) as (client, _, call):
        await call.answer(b"hello", 201, (b"X-Own", b"1"))
        answer = await answer_of(client)
        assert (answer.status, answer.body) == (201, b"hello")
        assert answer.headers[b"content-length"] == b"5"
        assert answer.headers[b"x-own"] == b"1"


async def test_a_stream_is_chunked() -> None:
    async with played(GET) as (client, _, call):
        await call.send(START)
        await turns()
        assert not client.received, "the head waits for the first piece"
        await call.send(piece(b"ab"))
        assert (await head_of(client)).headers[b"transfer-encoding"] == b"chunked"
        await call.send(piece(b""))
        await call.send(piece(b"c"))
        await call.send(END)
        assert await chunks_of(client) == [b"ab", b"c"]
        assert not client.is_ended


async def test_a_stream_with_a_length_of_the_app() -> None:
    async with played(GET) as (client, _, call):
        await call.send({**START, "headers": [(b"Content-Length", b"3")]})
        await call.send(piece(b"ab"))
        await call.send(piece(b"c", more=False))
        answer = await answer_of(client)
        assert answer.body == b"abc"
        assert b"transfer-encoding" not in answer.headers


async def test_framing_is_not_the_apps_business() -> None:
    async with played(GET) as (client, _, call):
        await call.answer(b"a", 200, (b"transfer-encoding", b"gzip, chunked"))
        answer = await answer_of(client)
        assert b"transfer-encoding" not in answer.headers
        assert answer.body == b"a"


async def test_the_answer_to_head_has_no_body() -> None:
    async with played(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + GET) as (client, app, call):
        await call.answer(b"hello", 200, (b"content-length", b"5"))
        assert (await head_of(client)).headers[b"content-length"] == b"5"
        await (await app.called()).answer(b"next")
        assert (await answer_of(client)).body == b"next"


@pytest.mark.parametrize("body", [b"hello", b""])
async def test_a_method_is_uppercase_for_everyone(body: bytes, log: Lines) -> None:
    # RFC 9110 section 9.1: "The method token is case-sensitive". Who writes `head` may wait for a
    # body, so nothing follows on the connection that could be taken for one.
    async with played(b"head / HTTP/1.1\r\nHost: x\r\n\r\n" + GET) as (client, app, call):
        assert call.scope["method"] == "HEAD"
        await call.answer(body, 200, (b"content-length", b"5"))
        headers = (await head_of(client)).headers
        assert (headers[b"content-length"], headers[b"connection"]) == (b"5", b"close")
        assert await client.ended() == b""
        assert log.access == ['127.0.0.1:50000 - "HEAD / HTTP/1.1" 200 OK']
        assert app.calls.empty()


@pytest.mark.parametrize("method", ["pOst", "m-Search", "query!", "PATCH", "1a"])
async def test_any_method_is_uppercase_for_the_app(method: str) -> None:
    scope = await scope_of(f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert scope["method"] == method.upper()


async def test_a_streamed_answer_to_head_has_no_body() -> None:
    async with played(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + GET) as (client, app, call):
        await call.send(START)
        await call.send(piece(b"a"))
        await call.send(piece(b"b", more=False))
        assert (await head_of(client)).status == 200
        await (await app.called()).answer(b"next")
        assert (await answer_of(client)).body == b"next"


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_that_has_no_body(status: int) -> None:
    async with played(GET * 2) as (client, app, call):
        await call.answer(b"nothing of this", status)
        answer = await head_of(client)
        assert answer.status == status
        assert not {b"content-length", b"transfer-encoding"} & set(answer.headers)
        await (await app.called()).answer(b"next")
        assert (await answer_of(client)).body == b"next"


async def test_no_content_has_no_length() -> None:
    async with played(GET) as (client, _, call):
        await call.answer(b"", 204, (b"content-length", b"0"))
        assert b"content-length" not in (await head_of(client)).headers


async def test_a_status_without_a_name() -> None:
    async with played(GET) as (client, _, call):
        await call.answer(b"", 299)
        assert await client.until(b"\r\n") == b"HTTP/1.1 299 \r\n"


# -- the server's own headers ----------------------------------------------------------------------


async def headers_with(*own: Any, **options: Any) -> dict[bytes, bytes]:
    async with played(GET, **options) as (client, _, call):
        await call.answer(b"", 200, *own)
        return (await answer_of(client)).headers


async def test_date_and_server_stand_in_every_response() -> None:
    headers = await headers_with()
    assert re.fullmatch(
        rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", headers[b"date"]
    )
    assert headers[b"server"].startswith(b"wsgate/")


async def test_date_and_server_can_be_switched_off() -> None:
    headers = await headers_with(date_header=False, server_header=False)
    assert set(headers) == {b"content-length"}


async def test_headers_of_the_operator() -> None:
    headers = await headers_with(headers=[("X-Own", "é"), ("Server", "mine")])
    assert headers[b"x-own"] == "é".encode("latin-1")
    assert headers[b"server"] == b"mine"


async def test_the_app_overrides_the_servers_headers() -> None:
    own = [(b"Date", b"never"), (b"server", b"app"), (b"X-Own", b"app")]
    headers = await headers_with(*own, headers=[("x-own", "operator")])
    assert (headers[b"date"], headers[b"server"], headers[b"x-own"]) == (b"never", b"app", b"app")


async def test_the_servers_own_answers_have_them_too() -> None:
    async with connected(path, headers=[("x-own", "1")]) as client:
        client.send(b"nonsense\r\n\r\n")
        answer = await answer_of(client)
        assert {b"date", b"server", b"x-own"} <= set(answer.headers)


# -- the request's body ----------------------------------------------------------------------------


async def test_a_body_comes_as_it_is_read() -> None:
    async with played(POST % 6 + b"ab") as (client, _, call):
        assert await call.receive() == {"type": "http.request", "body": b"ab", "more_body": True}
        coming = task_of(call.receive())
        assert await waits(coming)
        client.send(b"cd")
        assert await coming == {"type": "http.request", "body": b"cd", "more_body": True}
        client.send(b"ef")
        last = await call.receive()
        assert last == {"type": "http.request", "body": b"ef", "more_body": False}


async def test_a_request_without_a_body_says_so_at_once() -> None:
    async with played(GET) as (_, _, call):
        assert await call.receive() == {"type": "http.request", "body": b"", "more_body": False}
        after = task_of(call.receive())
        assert await waits(after)
        after.cancel()


async def test_a_chunked_body() -> None:
    async with played(CHUNKED + b"2\r\nab\r\n3;ext=1\r\ncd") as (client, app, call):
        # What is there comes at once, whatever the client's chunks.
        assert await call.receive() == {"type": "http.request", "body": b"abcd", "more_body": True}
        client.send(b"e\r\n0\r\nTrailer: x\r\n\r\n" + GET)
        assert await call.receive() == {"type": "http.request", "body": b"e", "more_body": False}
        await call.answer()
        assert (await app.called()).scope["method"] == "GET"


async def test_a_body_in_tiny_chunks_lets_others_have_their_turn() -> None:
    count = 10 * PIECES
    async with played(CHUNKED + b"1\r\nx\r\n" * count + b"0\r\n\r\n") as (_, _, call):
        turned: list[int] = []
        asyncio.get_running_loop().call_soon(turned.append, 0)
        size, received = 0, []
        while True:
            message = await call.receive()
            size += len(message["body"])
            received.append(len(turned))
            asyncio.get_running_loop().call_soon(turned.append, 0)
            if not message["more_body"]:
                break
        assert size == count
        assert len(received) >= 10
        assert received == sorted(set(received)), "the loop has turned before each of them"


async def test_a_piece_of_a_body_has_a_bound() -> None:
    chunk = b"8000\r\n" + bytes(0x8000) + b"\r\n"
    async with played(CHUNKED + chunk * 3 + b"0\r\n\r\n") as (_, _, call):
        sizes = [len((await call.receive())["body"]) for _ in range(2)]
    assert sizes == [0x10000, 0x8000]


async def test_the_end_of_a_chunked_body_may_come_by_itself() -> None:
    async with played(CHUNKED + b"2\r\nab\r\n") as (client, _, call):
        assert await call.receive() == {"type": "http.request", "body": b"ab", "more_body": True}
        client.send(b"0\r\n\r\n")
        assert await call.receive() == {"type": "http.request", "body": b"", "more_body": False}


async def test_the_end_is_told_while_the_app_answers_first() -> None:
    async with played(POST % 4 + b"ab") as (client, _, call):
        await call.send(START)
        await call.send(piece(b"x"))
        client.send(b"cd")
        await call.receive()
        await call.send(END)
        assert (await answer_of(client)).body == b"x"
        assert await call.receive() == {"type": "http.disconnect"}


async def test_two_receives_at_a_time_each_get_something() -> None:
    async with played(CHUNKED) as (client, _, call):
        both = [task_of(call.receive()), task_of(call.receive())]
        assert await waits(both[0])
        client.send(b"1\r\na\r\n")
        await turns()
        client.send(b"1\r\nb\r\n")
        bodies = [(await task)["body"] for task in both]
        assert sorted(bodies) == [b"a", b"b"]


async def test_two_receives_at_a_time_both_learn_of_the_end() -> None:
    async with played(POST % 2) as (client, _, call):
        both = [task_of(call.receive()), task_of(call.receive())]
        assert await waits(both[0])
        client.send(b"ab")
        assert (await both[0])["body"] == b"ab"
        assert await waits(both[1])
        client.drop()
        assert await both[1] == {"type": "http.disconnect"}


async def test_two_receives_at_a_time_both_learn_of_a_malformed_body() -> None:
    async with played(CHUNKED) as (client, _, call):
        both = [task_of(call.receive()), task_of(call.receive())]
        assert await waits(both[0])
        client.send(b"nonsense\r\n")
        async with asyncio.timeout(5):
            assert [await task for task in both] == [{"type": "http.disconnect"}] * 2
        assert (await answer_of(client)).status == 400


async def test_a_malformed_body_behind_a_good_piece() -> None:
    async with played(CHUNKED + b"1\r\na\r\nnonsense\r\n") as (client, _, call):
        assert await call.receive() == {"type": "http.request", "body": b"a", "more_body": True}
        assert await call.receive() == {"type": "http.disconnect"}
        await call.refused(START, ClientDisconnected, "left")
        assert (await answer_of(client)).status == 400
        assert await client.ended() == b""


async def test_a_malformed_body_behind_a_response_under_way_cuts_it(log: Lines) -> None:
    async with played(CHUNKED) as (client, _, call):
        await call.send(START)
        await call.send(piece(b"a"))
        client.send(b"nonsense\r\n")
        assert await call.receive() == {"type": "http.disconnect"}
        await call.refused(END, ClientDisconnected, "left")
        await head_of(client)
        assert await client.ended() == b"1\r\na\r\n"
        call.raises(ClientDisconnected())
        await turns()
        assert not log.errors


# -- Expect: 100-continue --------------------------------------------------------------------------

EXPECT = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_continue_is_sent_when_the_app_asks_for_the_body() -> None:
    async with played(EXPECT) as (client, _, call):
        await turns()
        assert not client.received
        coming = task_of(call.receive())
        assert await client.exactly(len(CONTINUE)) == CONTINUE
        client.send(b"ab")
        assert (await coming)["body"] == b"ab"
        await call.answer(b"done")
        answer = await answer_of(client)
        assert answer.body == b"done"
        assert b"connection" not in answer.headers


async def test_the_connection_ends_where_the_app_answers_without_asking() -> None:
    async with played(EXPECT) as (client, _, call):
        await call.answer(b"no", 413)
        answer = await answer_of(client)
        assert (answer.status, answer.headers[b"connection"]) == (413, b"close")
        assert await client.ended() == b""


async def test_an_old_call_does_not_ask_for_the_next_requests_body() -> None:
    async with played(GET + EXPECT) as (client, app, first):
        await first.answer(b"one")
        second = await app.called()
        assert (await answer_of(client)).body == b"one"
        assert await first.receive() == {"type": "http.disconnect"}
        await turns()
        assert not client.received
        coming = task_of(second.receive())
        assert await client.exactly(len(CONTINUE)) == CONTINUE
        client.send(b"ab")
        await coming


async def test_an_old_client_is_not_told_to_continue() -> None:
    data = b"POST / HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nab"
    async with played(data) as (client, _, call):
        assert (await call.receive())["body"] == b"ab"
        assert not client.received


# -- flow control ----------------------------------------------------------------------------------


async def test_send_waits_for_a_client_that_does_not_read() -> None:
    async with played(GET) as (client, _, call):
        client.stall()
        await call.send(START)
        await call.send(piece(b"x" * 1_000))
        sending = task_of(call.send(piece(b"y" * HIGH_WATER)))
        assert await waits(sending)
        second = task_of(call.send(piece(b"z", more=False)))
        assert await waits(second)
        assert client.transport.get_write_buffer_size() < HIGH_WATER + 2_000
        client.read_on()
        await sending
        await second
        assert len((await answer_of(client)).body) == 1_000 + HIGH_WATER + 1


async def test_the_last_send_waits_too_while_the_next_request_goes_on() -> None:
    async with played(GET * 2) as (client, app, first):
        client.stall()
        sending = task_of(first.answer(b"x" * 2 * HIGH_WATER))
        second = await app.called()
        assert await waits(sending)
        answering = task_of(second.answer(b"next"))
        assert await waits(answering)
        client.read_on()
        await sending
        await answering
        assert len((await answer_of(client)).body) == 2 * HIGH_WATER
        assert (await answer_of(client)).body == b"next"


async def test_a_waiting_send_ends_with_the_client() -> None:
    async with played(GET) as (client, _, call):
        client.stall()
        await call.send(START)
        first = task_of(call.send(piece(b"x" * 2 * HIGH_WATER)))
        second = task_of(call.send(piece(b"y")))
        assert await waits(second)
        client.drop()
        await first
        with pytest.raises(ClientDisconnected):
            await second


async def test_an_app_that_does_not_receive_stops_the_reading() -> None:
    async with played(POST % 1_000_000) as (client, _, call):
        for _ in range(10):
            client.send(b"x" * 10_000)
        assert is_paused(client)
        client.send(b"x" * 900_000)
        await turns()
        size = 0
        while (message := await call.receive())["more_body"]:
            assert len(message["body"]) <= READ_AHEAD
            size += len(message["body"])
        assert size + len(message["body"]) == 1_000_000
        assert not is_paused(client)
        await call.answer(b"done")
        assert (await answer_of(client)).body == b"done"


async def test_pipelined_requests_without_end_stop_the_reading() -> None:
    async with played(GET) as (client, app, call):
        count = READ_AHEAD // len(GET) + 1
        client.send(GET * count)
        assert is_paused(client)
        await call.answer()
        await app.called()
        assert not is_paused(client)


async def test_a_client_that_does_not_read_is_given_up() -> None:
    async with played(GET, ws_send_timeout=20) as (client, _, call):
        client.stall()
        await call.send(START)
        sending = task_of(call.send(piece(b"x" * 2 * HIGH_WATER)))
        await client.advance(19)
        assert await waits(sending)
        await client.advance(1 + 2 * TICK)
        await sending
        assert client.is_lost
        await call.refused(END, ClientDisconnected, "left")


async def test_a_client_that_reads_slowly_is_not_given_up() -> None:
    async with played(GET, ws_send_timeout=20) as (client, _, call):
        client.stall()
        sending = task_of(call.answer(b"x" * 2 * HIGH_WATER))
        for _ in range(10):
            await client.advance(15)
            client.read_some(1_000)
        assert not sending.done()
        await client.advance(40)
        await sending
        assert client.is_lost, "it has stopped to read"
        assert len(client.received) == 10_000


async def test_a_send_that_never_waits_still_learns_of_a_broken_connection() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b"a"))
        await receive()
        client.drop()  # connection_lost comes with the loop's next turn
        await send(piece(b"b"))
        with pytest.raises(ClientDisconnected):
            await send(piece(b"c"))
        ended.set()

    ended = asyncio.Event()
    async with connected(app) as client:
        client.send(GET)
        async with asyncio.timeout(5):
            await ended.wait()


# -- clients that leave ----------------------------------------------------------------------------


async def test_the_app_learns_that_its_client_was_reset(log: Lines) -> None:
    async with played(GET) as (client, _, call):
        await call.receive()
        coming = task_of(call.receive())
        assert await waits(coming)
        client.drop()
        assert await coming == {"type": "http.disconnect"}
        assert await call.receive() == {"type": "http.disconnect"}
        await call.refused(START, ClientDisconnected, "the client has left")
        with pytest.raises(OSError, match="left"):
            await call.send(START)
        call.returns()
        await turns()
        assert not log.errors
        assert not log.access


async def test_the_app_learns_that_its_client_has_ended_its_half() -> None:
    async with played(GET) as (client, _, call):
        await call.receive()
        coming = task_of(call.receive())
        assert await waits(coming)
        client.eof()
        assert await coming == {"type": "http.disconnect"}
        await call.answer(b"still for you")
        assert (await answer_of(client)).body == b"still for you"
        assert await client.ended() == b""
        await turns()
        assert client.is_lost


async def test_a_half_closed_client_gets_all_its_answers() -> None:
    async with connected(path) as client:
        client.send(GET * 3)
        client.eof()
        for _ in range(3):
            assert (await answer_of(client)).status == 200
        assert await client.ended() == b""


async def test_the_end_of_the_client_behind_its_body_is_not_lost() -> None:
    async with played(POST % 2 + b"ab") as (client, _, call):
        client.eof()
        assert await call.receive() == {"type": "http.request", "body": b"ab", "more_body": False}
        async with asyncio.timeout(5):
            assert await call.receive() == {"type": "http.disconnect"}


async def test_the_end_of_the_client_behind_a_pipelined_request_is_not_lost() -> None:
    async with played(GET * 2) as (client, app, call):
        await call.receive()
        coming = task_of(call.receive())
        assert await waits(coming)
        client.eof()
        async with asyncio.timeout(5):
            assert await coming == {"type": "http.disconnect"}
        await call.answer(b"one")
        await (await app.called()).answer(b"two")
        assert (await answer_of(client)).body == b"one"
        assert (await answer_of(client)).body == b"two"
        assert await client.ended() == b""


async def test_a_body_that_is_cut_short(log: Lines) -> None:
    async with played(POST % 4 + b"ab") as (client, _, call):
        client.eof()
        assert await call.receive() == {"type": "http.request", "body": b"ab", "more_body": True}
        assert await call.receive() == {"type": "http.disconnect"}
        call.returns()
        assert await client.ended() == b""
        assert not log.errors


async def test_the_client_leaves_between_requests() -> None:
    async with connected(path) as client:
        client.send(GET)
        await answer_of(client)
        client.eof()
        assert await client.ended() == b""


@pytest.mark.parametrize("data", [b"", b"\r\n", b"GET / HT"])
async def test_the_client_leaves_before_its_request_is_whole(data: bytes, log: Lines) -> None:
    async with connected(path) as client:
        client.send(data)
        client.eof()
        assert await client.ended() == b""
        await turns()
        assert client.is_lost
        assert not log.records


async def test_the_client_leaves_while_its_body_is_drained() -> None:
    async with connected(path) as client:
        client.send(POST % 4 + b"ab")
        assert (await answer_of(client)).status == 200
        client.eof()
        assert await client.ended() == b""


async def test_after_the_response_there_is_only_the_disconnect() -> None:
    async with played(GET) as (client, _, call):
        coming = [task_of(call.receive()), task_of(call.receive())]
        await turns()
        await call.answer()
        assert await coming[1] == {"type": "http.disconnect"}
        assert await call.receive() == {"type": "http.disconnect"}
        client.drop()
        await turns()
        await call.refused(END, ClientDisconnected, "left")


async def test_an_app_that_gives_up_with_its_client_is_no_failure(log: Lines) -> None:
    async with played(GET) as (client, _, call):
        await call.send(START)
        await call.send(piece(b"a"))
        client.eof()
        await call.receive()
        assert await call.receive() == {"type": "http.disconnect"}
        call.returns()
        await head_of(client)
        assert await client.ended() == b"1\r\na\r\n"
        assert not log.errors
        assert log.access == ['127.0.0.1:50000 - "GET / HTTP/1.1" 200 OK']


def caused_by(error: Exception) -> RuntimeError:
    own = RuntimeError("the framework's own")
    own.__context__ = error
    return own


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda error: error,
        lambda error: ExceptionGroup("tasks", [error]),
        lambda error: BaseExceptionGroup("tasks", [ExceptionGroup("inner", [error]), error]),
        caused_by,
    ],
    ids=["bare", "group", "nested", "chained"],
)
async def test_nothing_is_logged_of_a_disconnect_that_the_app_lets_through(
    wrapped: Callable[[Exception], BaseException], log: Lines
) -> None:
    async with played(GET) as (client, _, call):
        client.drop()
        await turns()
        with pytest.raises(ClientDisconnected) as raised:
            await call.send(START)
        call.raises(wrapped(raised.value))
        await turns()
        assert not log.records


async def test_other_failures_of_a_client_that_has_left_are_logged(log: Lines) -> None:
    async with played(GET) as (client, _, call):
        client.drop()
        await turns()
        call.raises(ExceptionGroup("tasks", [KeyError("a"), ValueError("mine")]))
        await turns()
        assert log.errors == ["Exception in ASGI application"]
        assert not log.access


# -- what the app leaves unread --------------------------------------------------------------------


async def test_an_unread_body_is_thrown_away_within_the_bound() -> None:
    async with connected(path) as client:
        client.send(POST % DRAIN + b"x" * DRAIN + GET)
        assert (await answer_of(client)).status == 200
        assert (await answer_of(client)).status == 200


@pytest.mark.parametrize("size", [DRAIN + 1, 10 * DRAIN])
async def test_a_longer_one_ends_the_connection(size: int) -> None:
    async with connected(path) as client:
        client.send(POST % size + b"x" * size + GET)
        assert (await answer_of(client)).status == 200
        assert await client.ended() == b""


async def test_an_unread_body_that_comes_later() -> None:
    async with connected(path) as client:
        client.send(CHUNKED)
        assert (await answer_of(client)).status == 200
        for _ in range(3):
            client.send(b"5\r\nhello\r\n")
            await turns()
        client.send(b"0\r\n\r\n" + GET)
        assert (await answer_of(client)).status == 200


async def test_an_unread_body_that_is_malformed() -> None:
    async with connected(path) as client:
        client.send(CHUNKED)
        assert (await answer_of(client)).status == 200
        client.send(b"nonsense\r\n")
        assert await client.ended() == b""


async def test_an_unread_body_that_does_not_come(log: Lines) -> None:
    async with connected(path, ws_handshake_timeout=10) as client:
        client.send(POST % 5 + b"x")
        assert (await answer_of(client)).status == 200
        await client.advance(9)
        assert not client.is_ended
        await client.advance(1 + TICK)
        assert await client.ended() == b""
        assert not log.warnings
        assert len(log.access) == 1


# -- requests that are refused ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: \x01\r\n\r\n", 400),
        (CHUNKED[:-2] + b"Content-Length: 3\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: a\r\n" * 100 + b"\r\n", 431),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /" + b"a" * 70_000, 414),
    ],
)
async def test_a_request_that_must_not_be_served(data: bytes, status: int, log: Lines) -> None:
    async with connected(path) as client:
        client.send(data)
        answer = await answer_of(client)
        assert (answer.status, answer.headers[b"connection"]) == (status, b"close")
        assert await client.ended() == b""
        client.send(GET)
        await turns()
        assert not client.received
        assert len(log.warnings) == 1
        assert f"127.0.0.1:50000 - Invalid HTTP request received: {status}" in log.warnings[0]


async def test_the_requests_in_front_are_answered_first() -> None:
    async with connected(path) as client:
        client.send(GET * 2 + b"nonsense\r\n\r\n" + GET)
        assert [(await answer_of(client)).status for _ in range(3)] == [200, 200, 400]
        assert await client.ended() == b""


async def test_behind_a_head_the_refusal_has_its_body() -> None:
    async with connected(path) as client:
        client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        await head_of(client)
        client.send(b"nonsense\r\n\r\n")
        answer = await answer_of(client)
        assert (answer.status, len(answer.body) > 0) == (400, True)


async def test_the_limit_of_a_head_is_a_setting() -> None:
    async with connected(path, limit_request_head=100) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100)
        assert (await answer_of(client)).status == 431


async def test_over_the_limit_of_calls_nothing_else_is_disturbed(log: Lines) -> None:
    async with played(GET, limit_concurrency=1) as (client, _, call):
        other = MemoryClient(client.context, client.clock)
        other.send(GET)
        answer = await answer_of(other)
        assert (answer.status, answer.headers[b"retry-after"]) == (503, b"5")
        assert await other.ended() == b""
        other.eof()
        await call.answer(b"fine")
        assert (await answer_of(client)).body == b"fine"
        assert log.access == [
            '127.0.0.1:50000 - "GET / HTTP/1.1" 503 Service Unavailable',
            '127.0.0.1:50000 - "GET / HTTP/1.1" 200 OK',
        ]
        call.returns()
        await turns()
        assert other.is_lost
        client.send(GET)
        await turns()
        assert len(client.context.tasks) == 1, "there is room again"


async def test_a_websocket_over_the_limit_is_refused(log: Lines) -> None:
    async with played(GET, limit_concurrency=1) as (client, _, _):
        other = MemoryClient(client.context, client.clock)
        other.send(UPGRADE)
        assert (await answer_of(other)).status == 503
        other.drop()
        await turns()
        assert log.access == ['127.0.0.1:50000 - "WebSocket /ws" 503 Service Unavailable']


# -- deadlines -------------------------------------------------------------------------------------


async def test_a_connection_that_asks_nothing_is_closed_silently(log: Lines) -> None:
    async with connected(path, ws_handshake_timeout=10) as client:
        await client.advance(9)
        assert not client.is_ended
        await client.advance(1 + TICK)
        assert await client.ended() == b""
        assert not log.records


async def test_a_slow_head_is_refused(log: Lines) -> None:
    async with connected(path, ws_handshake_timeout=10) as client:
        client.send(b"GET / HTTP/1.1\r\n")
        await client.advance(5)
        client.send(b"Host: x\r\n")
        await client.advance(4)
        assert not client.received
        await client.advance(1 + TICK)
        assert (await answer_of(client)).status == 408
        assert await client.ended() == b""
        assert len(log.warnings) == 1


async def test_the_next_head_has_its_time_from_its_first_byte() -> None:
    async with connected(path, ws_handshake_timeout=10, timeout_keep_alive=5) as client:
        client.send(GET)
        await answer_of(client)
        await client.advance(4)
        client.send(b"GET / ")
        await client.advance(9)
        assert not client.received
        await client.advance(1 + TICK)
        assert (await answer_of(client)).status == 408


async def test_a_head_that_came_behind_the_request_has_its_time_too() -> None:
    async with connected(path, ws_handshake_timeout=10) as client:
        client.send(GET + b"GET / ")
        await answer_of(client)
        await client.advance(9)
        assert not client.is_ended
        await client.advance(1 + TICK)
        assert (await answer_of(client)).status == 408


async def test_a_connection_is_kept_for_its_time_and_closed_silently(log: Lines) -> None:
    async with connected(path, timeout_keep_alive=5) as client:
        for _ in range(2):
            client.send(GET)
            await answer_of(client)
            await client.advance(4)
            assert not client.is_ended
        await client.advance(1 + TICK)
        assert await client.ended() == b""
        assert not log.warnings


async def test_a_slow_body_is_refused() -> None:
    async with played(POST % 4, timeout_request_body=60) as (client, _, call):
        coming = task_of(call.receive())
        await client.advance(59)
        client.send(b"a")
        assert (await coming)["body"] == b"a"
        await client.advance(100)
        coming = task_of(call.receive())
        await client.advance(59)
        assert not coming.done(), "it had its time anew"
        await client.advance(1 + 2 * TICK)
        assert await coming == {"type": "http.disconnect"}
        assert (await answer_of(client)).status == 408
        await call.refused(START, ClientDisconnected, "left")
        assert await client.ended() == b""


async def test_a_slow_body_behind_a_response_under_way_cuts_it() -> None:
    async with played(POST % 4) as (client, _, call):
        await call.send(START)
        await call.send(piece(b"a"))
        coming = task_of(call.receive())
        await client.advance(60 + TICK)
        assert await coming == {"type": "http.disconnect"}
        await head_of(client)
        assert await client.ended() == b"1\r\na\r\n"


async def test_the_clients_time_stands_still_while_nobody_asks() -> None:
    async with played(POST % 4) as (client, _, call):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await call.receive()
        await client.advance(200)
        client.send(b"abcd")
        assert (await call.receive())["body"] == b"abcd"
        await call.answer(b"fine")
        assert (await answer_of(client)).body == b"fine"


async def test_the_app_has_all_the_time_it_wants() -> None:
    async with played(POST % 2 + b"ab") as (client, _, call):
        await call.receive()
        waiting = task_of(call.receive())
        await client.advance(1_000)
        assert not waiting.done()
        await call.answer(b"at last")
        assert (await answer_of(client)).body == b"at last"
        await waiting


async def test_keep_alive_ends_while_the_response_is_still_being_read() -> None:
    async with played(GET, timeout_keep_alive=5, ws_send_timeout=60) as (client, _, call):
        client.stall()
        sending = task_of(call.answer(b"x" * 2 * HIGH_WATER))
        await client.advance(30)
        assert not client.is_lost, "it is reading, not idle"
        client.read_on()
        await sending
        assert len((await answer_of(client)).body) == 2 * HIGH_WATER
        await client.advance(31)
        assert await client.ended() == b""


async def test_a_client_that_does_not_close_its_half_is_cut_off() -> None:
    async with connected(path) as client:
        client.send(b"nonsense\r\n\r\n")
        await client.ended()
        client.send(b"more of it" * 1_000)
        await client.advance(LINGER - TICK)
        assert not client.is_lost
        await client.advance(2 * TICK)
        assert client.is_lost


async def test_a_client_that_closes_its_half_is_let_go_at_once() -> None:
    async with connected(path) as client:
        client.send(b"nonsense\r\n\r\n")
        await client.ended()
        client.eof()
        await turns()
        assert client.is_lost


async def test_the_last_response_has_a_readers_time_to_leave() -> None:
    async with played(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")) as (
        client,
        _,
        call,
    ):
        client.stall()
        sending = task_of(call.answer(b"x" * 2 * HIGH_WATER))
        await client.advance(50)
        assert not client.is_lost
        client.read_on()
        await sending
        assert len((await answer_of(client)).body) == 2 * HIGH_WATER
        assert await client.ended() == b""
        await client.advance(LINGER - TICK)
        assert not client.is_lost, "its time to close began when all had left"
        await client.advance(LINGER + 2 * TICK)
        assert client.is_lost


async def test_the_last_response_is_not_kept_for_ever() -> None:
    async with played(GET.replace(b"1.1", b"1.0"), ws_send_timeout=20) as (client, _, call):
        client.stall()
        await call.answer(b"x" * 1_000)
        await client.advance(19)
        assert not client.is_lost
        await client.advance(1 + LINGER + TICK)
        assert client.is_lost


# -- apps that fail --------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [[], [START]], ids=["waiting", "held"])
async def test_a_failure_before_anything_has_left(sent: list[Any], log: Lines) -> None:
    async with played(GET * 2) as (client, app, call):
        for message in sent:
            await call.send(message)
        call.raises(ValueError("mine"))
        answer = await answer_of(client)
        assert (answer.status, answer.headers[b"connection"]) == (500, b"close")
        assert b"mine" not in answer.body
        assert await client.ended() == b""
        assert app.calls.empty()
        assert log.errors == ["Exception in ASGI application"]
        assert log.access == ['127.0.0.1:50000 - "GET / HTTP/1.1" 500 Internal Server Error']


async def test_a_failure_behind_the_first_piece_cuts_the_response(log: Lines) -> None:
    async with played(GET * 2) as (client, app, call):
        await call.send(START)
        await call.send(piece(b"a"))
        call.raises(ValueError("mine"))
        await head_of(client)
        assert await client.ended() == b"1\r\na\r\n", "the last chunk is missing"
        assert app.calls.empty()
        assert log.errors == ["Exception in ASGI application"]
        assert log.access == ['127.0.0.1:50000 - "GET / HTTP/1.1" 200 OK']


@pytest.mark.parametrize(
    ("sent", "status"), [([], 500), ([START], 500), ([START, piece(b"a")], 200)]
)
async def test_an_app_that_returns_without_a_response(
    sent: list[Any], status: int, log: Lines
) -> None:
    async with played(GET) as (client, _, call):
        for message in sent:
            await call.send(message)
        call.returns()
        assert (await head_of(client)).status == status
        await client.ended()
        assert log.errors == ["ASGI callable returned without completing its response"]


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (SystemExit(3), logging.ERROR),
        (KeyboardInterrupt(), logging.ERROR),
        (BaseExceptionGroup("all", [SystemExit()]), logging.ERROR),
        (asyncio.CancelledError(), logging.WARNING),
    ],
    ids=["exit", "interrupt", "group", "cancelled"],
)
async def test_whatever_an_app_raises_ends_its_call_alone(
    error: BaseException, level: int, log: Lines
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/bad":
            raise error
        await path(scope, receive, send)

    async with connected(app) as client:
        other = MemoryClient(client.context, client.clock)
        client.send(GET.replace(b"/ ", b"/bad ", 1))
        assert (await answer_of(client)).status == 500
        assert len(log.at(level)) == 1
        other.send(GET)
        assert (await answer_of(other)).status == 200
        other.drop()
        await turns()


async def test_the_tasks_of_a_failed_app_learn_of_its_end() -> None:
    async with played(GET) as (client, _, call):
        await call.receive()
        listening = task_of(call.receive())
        assert await waits(listening)
        call.raises(ValueError("mine"))
        async with asyncio.timeout(5):
            assert await listening == {"type": "http.disconnect"}
        await call.refused(START, ClientDisconnected, "left")
        assert (await answer_of(client)).status == 500


async def test_a_failure_where_the_body_was_not_asked_for() -> None:
    async with played(EXPECT) as (client, _, call):
        call.raises(ValueError("mine"))
        answer = await answer_of(client)
        assert (answer.status, answer.headers[b"connection"]) == (500, b"close")


async def test_a_cancelled_call(log: Lines) -> None:
    async with played(GET) as (client, _, _):
        (task,) = client.context.tasks
        task.cancel()
        assert (await answer_of(client)).status == 500
        assert log.warnings == ["An app's call was cancelled before it ended"]
        assert not log.errors


async def test_a_half_closed_clients_app_may_fail_too(log: Lines) -> None:
    async with played(GET) as (client, _, call):
        client.eof()
        await call.receive()
        await call.receive()
        call.raises(ValueError("mine"))
        assert (await answer_of(client)).status == 500
        assert log.errors == ["Exception in ASGI application"]


# -- messages that make no sense -------------------------------------------------------------------


async def test_illegal_messages_name_the_message_and_the_state(log: Lines) -> None:
    async with played(GET) as (client, _, call):
        await call.refused(END, IllegalMessage, "'http.response.body'.*waiting for a response")
        await call.refused({"type": "websocket.send"}, IllegalMessage, "'websocket.send'.*waiting")
        await call.refused({}, IllegalMessage, "None.*waiting for a response")
        await call.send(START)
        await call.refused(START, IllegalMessage, "'http.response.start'.*response started")
        await call.send(piece(b"a"))
        await call.refused(START, IllegalMessage, "'http.response.start'.*streaming")
        with pytest.raises(RuntimeError):
            await call.send(START)
        await call.send(END)
        await call.refused(END, IllegalMessage, "'http.response.body'.*response complete")
        assert (await answer_of(client)).body == b"a", "it takes no harm of them"
        assert not log.errors


@pytest.mark.parametrize(
    ("message", "match"),
    [
        ({"status": 100}, "200 to 999"),
        ({"status": "200"}, "200 to 999"),
        ({}, "200 to 999"),
        ({"status": 200, "headers": [(b"a", b"b\r\nevil: 1")]}, "control character"),
        ({"status": 200, "headers": [(b"a\r\nevil", b"b")]}, "no header name"),
        ({"status": 200, "headers": [("a", "b")]}, "are bytes"),
        ({"status": 200, "headers": [b"abc"]}, "pair"),
    ],
)
async def test_a_head_that_must_not_leave(message: Any, match: str) -> None:
    async with played(GET) as (client, _, call):
        await call.refused({"type": "http.response.start", **message}, InvalidMessage, match)
        await call.answer(b"fine")
        answer = await answer_of(client)
        assert answer.body == b"fine"
        assert b"evil" not in answer.headers


async def test_lengths_that_contradict_each_other() -> None:
    async with played(GET) as (client, _, call):
        lengths = [(b"content-length", b"1"), (b"content-length", b"2")]
        await call.refused({**START, "headers": lengths}, InvalidMessage, "Content-Length")
        call.returns()
        assert (await answer_of(client)).status == 500


async def test_a_body_that_is_no_bytes() -> None:
    async with played(GET) as (client, _, call):
        await call.send(START)
        await call.refused({**END, "body": "text"}, InvalidMessage, "bytes, not str")
        await call.send({**END, "body": memoryview(b"fine")})
        assert (await answer_of(client)).body == b"fine"


@pytest.mark.parametrize(
    ("body", "more", "match"),
    [(b"abcd", False, "Too much"), (b"abcd", True, "Too much"), (b"ab", False, "Too little")],
)
async def test_a_wrong_length_is_answered_while_it_can_be(
    body: bytes, match: str, more: bool, log: Lines
) -> None:
    async with played(GET) as (client, _, call):
        await call.send({**START, "headers": [(b"content-length", b"3")]})
        await call.refused(piece(body, more=more), InvalidMessage, match)
        call.raises(InvalidMessage(match))
        assert (await answer_of(client)).status == 500
        assert await client.ended() == b""
        assert log.access == ['127.0.0.1:50000 - "GET / HTTP/1.1" 500 Internal Server Error']


async def test_a_wrong_length_on_the_way_cuts_the_response() -> None:
    for last, match in ((b"bcd", "Too much"), (b"b", "Too little")):
        async with played(GET * 2) as (client, app, call):
            await call.send({**START, "headers": [(b"content-length", b"3")]})
            await call.send(piece(b"a"))
            await call.refused(piece(last, more=False), InvalidMessage, match)
            call.raises(InvalidMessage(match))
            assert (await head_of(client)).headers[b"content-length"] == b"3"
            assert await client.ended() == b"a"
            assert app.calls.empty()


async def test_a_length_that_is_no_number() -> None:
    async with played(GET) as (client, _, call):
        wrong = {**START, "headers": [(b"content-length", b"x")]}
        await call.refused(wrong, InvalidMessage, "Content-Length")
        call.returns()
        assert (await answer_of(client)).status == 500


# -- the log ---------------------------------------------------------------------------------------


async def test_an_access_line_for_each_request_once_it_is_answered(log: Lines) -> None:
    async with played(b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n" + GET) as (_, app, call):
        await call.send({**START, "status": 404})
        await call.send(piece(b"a"))
        assert not log.access
        await call.send(END)
        assert log.access == ['127.0.0.1:50000 - "GET /a?b HTTP/1.1" 404 Not Found']
        await (await app.called()).answer(b"", 299)
        assert log.access[1:] == ['127.0.0.1:50000 - "GET / HTTP/1.1" 299 ']


async def test_an_access_line_for_a_stream_whose_client_left(log: Lines) -> None:
    async with played(GET) as (client, _, call):
        await call.send(START)
        await call.send(piece(b"a"))
        client.drop()
        await turns()
        with pytest.raises(ClientDisconnected) as raised:
            await call.send(piece(b"b"))
        call.raises(raised.value)
        await turns()
        assert log.access == ['127.0.0.1:50000 - "GET / HTTP/1.1" 200 OK']
        assert not log.errors


# -- races -----------------------------------------------------------------------------------------


async def test_pipelining_and_a_reset() -> None:
    async with played(GET * 3) as (client, app, first):
        await first.answer(b"one")
        second = await app.called()
        client.drop()
        await turns()
        with pytest.raises(ClientDisconnected):
            await second.answer(b"two")
        first.returns()
        second.returns()
        await turns()
        assert app.calls.empty()
        assert not client.context.tasks


async def test_a_reset_within_a_response() -> None:
    """The connection is gone between an app's start and its body, in the same turn of the loop."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        client.drop()
        await send(piece(b"all", more=False))  # connection_lost has not come yet

    async with connected(app) as client:
        client.send(GET * 2)
        await turns()
        assert client.is_lost
        assert not client.context.connections


async def test_pipelined_behind_a_drained_body_and_an_end() -> None:
    async with connected(path) as client:
        client.send(POST % 5 + b"hello" + GET + CHUNKED + b"1\r\na\r\n")
        client.eof()
        assert [(await answer_of(client)).status for _ in range(3)] == [200] * 3
        assert await client.ended() == b""
        await turns()
        assert client.is_lost


async def test_an_upgrade_behind_a_request() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await path(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.accept"})
            await receive()

    async with connected(app) as client:
        client.send(POST % 5 + b"hello" + UPGRADE)
        assert (await answer_of(client)).status == 200
        assert (await head_of(client)).status == 101


async def test_an_upgrade_behind_a_request_of_a_half_closed_client() -> None:
    async with played(GET + UPGRADE) as (client, app, first):
        client.eof()
        await first.answer(b"one")
        second = await app.called()
        assert second.scope["type"] == "websocket"
        assert (await second.receive())["type"] == "websocket.connect"
        async with asyncio.timeout(5):
            assert (await second.receive())["type"] == "websocket.disconnect"
        second.returns()
        await turns()
        assert (await answer_of(client)).body == b"one"
        await client.ended()


async def test_an_upgrade_that_is_refused_ends_the_connection(log: Lines) -> None:
    async with connected(path) as client:
        client.send(UPGRADE.replace(b": 13", b": 12") + GET)
        answer = await answer_of(client)
        assert (answer.status, answer.headers[b"sec-websocket-version"]) == (426, b"13")
        assert await client.ended() == b""
        assert log.access == ['127.0.0.1:50000 - "WebSocket /ws" 426 Upgrade Required']


async def test_an_old_call_behind_an_upgrade_keeps_its_hands_off() -> None:
    async with played(GET + UPGRADE) as (client, app, first):
        await first.answer(b"one")
        second = await app.called()
        await first.refused(END, IllegalMessage, "complete")
        assert await first.receive() == {"type": "http.disconnect"}
        first.raises(ValueError("late"))
        await turns()
        await second.send({"type": "websocket.accept"})
        assert (await answer_of(client)).body == b"one"
        assert (await head_of(client)).status == 101


async def test_the_end_comes_twice_to_a_connection_that_had_paused() -> None:
    """As asyncio tells it again when reading is resumed behind it."""
    async with played(POST % (2 * READ_AHEAD)) as (client, _, call):
        client.send(b"x" * READ_AHEAD)
        connection = client.transport.get_protocol()
        assert isinstance(connection, Connection)
        connection.eof_received()
        connection.eof_received()
        while (message := await call.receive())["type"] != "http.disconnect":
            assert message["more_body"]
        await call.answer(b"short")
        assert (await answer_of(client)).body == b"short"
        await client.ended()


class Whim:
    """An app that does anything, but ends when its client has left."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        listening = [task_of(self.listen(receive)) for _ in range(self.random.randrange(3))]
        with contextlib.suppress(ClientDisconnected):
            await (self.http if scope["type"] == "http" else self.websocket)(receive, send)
        if self.random.random() < 0.3:
            await self.listen(receive)  # the work behind a response
        if listening and self.random.random() < 0.5:
            await asyncio.wait(listening)

    async def listen(self, receive: Any) -> None:
        while not (await receive())["type"].endswith(".disconnect"):
            pass

    async def http(self, receive: Any, send: Any) -> None:
        for _ in range(self.random.randrange(3)):
            await self.pause()
            if self.random.random() < 0.5:
                await receive()
        await send(START)
        for _ in range(self.random.randrange(3)):
            await self.pause()
            await send(piece(b"x" * self.random.choice((0, 1, HIGH_WATER))))
        await send(END)

    async def websocket(self, receive: Any, send: Any) -> None:
        await receive()
        await self.pause()
        await send({"type": self.random.choice(("websocket.accept", "websocket.close"))})
        await self.pause()

    async def pause(self) -> None:
        await turns(self.random.randrange(5))


@pytest.mark.parametrize("start", range(0, 300, 50))
async def test_any_order_of_events(start: int, log: Lines) -> None:
    requests = [
        GET,
        POST % 3 + b"abc",
        POST % (2 * DRAIN) + b"x" * 2 * DRAIN,
        CHUNKED + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        CHUNKED + b"nonsense\r\n",
        EXPECT + b"ab",
        GET.replace(b"1.1", b"1.0"),
        b"nonsense\r\n\r\n",
        UPGRADE,
    ]
    weights = [9, 9, 1, 9, 1, 3, 1, 1, 2]
    for seed in range(start, start + 50):
        chance = random.Random(f"client {seed}")
        async with (
            asyncio.timeout(30),
            connect(Whim(seed), limit_concurrency=20, ws_ping_interval=5) as client,
        ):
            data = b"".join(chance.choices(requests, weights, k=6))
            data = data[: chance.choice((len(data), chance.randint(0, len(data))))]
            cuts = [0, *sorted(chance.randint(0, len(data)) for _ in range(4)), len(data)]
            pieces = [data[a:b] for a, b in itertools.pairwise(cuts)]
            rare: list[Callable[[], object]] = [client.eof, client.stall, client.read_on]
            rare.append(partial(stop, client))
            for part in pieces:
                client.send(part)
                await turns(chance.randrange(10))
                if chance.random() < 0.2:
                    chance.choice(rare)()
                if chance.random() < 0.2:
                    await client.advance(chance.choice((1, 6)))
            chance.choice((client.eof, client.drop, client.stall))()
            await client.advance(70)
            client.drop()
            await turns(100)
            assert not client.context.connections, seed
            assert not client.context.tasks, seed
            assert len(asyncio.all_tasks()) == 1, seed
    assert not log.errors


async def test_stopping_while_a_body_is_drained_closes_at_once() -> None:
    async with connected(path) as client:
        client.send(POST % 5 + b"x")
        assert (await answer_of(client)).status == 200
        stop(client)
        assert await client.ended() == b""


async def test_stopping_behind_everything_else_does_nothing() -> None:
    async with connected(path) as client:
        connection = stop(client)
        await client.ended()
        connection.driver.stop()
        client.drop()
        await turns()
        for poke in (connection.driver.stop, connection.driver.eof, connection.driver.lost):
            poke()
        connection.target.data(b"late")
        assert connection.check(0.0) == connection.driver.check(0.0) == float("inf")
        connection.write(b"late")
        connection.pause_reading()
        connection.resume_reading()
        connection.end()
        connection.abort()
        connection.close()
        assert connection.is_flushed


async def test_a_connection_that_comes_while_the_server_stops_is_closed() -> None:
    async with connected(path) as client:
        client.context.stopping = True
        late = MemoryClient(client.context, client.clock)
        assert await late.ended() == b""
        late.send(GET)
        late.eof()
        await turns()
        assert late.is_lost


async def test_stopping_lets_the_response_under_way_be_the_last() -> None:
    async with played(GET * 2) as (client, app, call):
        stop(client)
        await call.answer(b"last")
        answer = await answer_of(client)
        assert (answer.body, answer.headers[b"connection"]) == (b"last", b"close")
        assert await client.ended() == b""
        assert app.calls.empty()


async def test_stopping_lets_a_stream_end() -> None:
    async with played(GET * 2) as (client, app, call):
        await call.send(START)
        await call.send(piece(b"a"))
        stop(client)
        await call.send(piece(b"b", more=False))
        assert (await answer_of(client)).body == b"ab"
        assert await client.ended() == b""
        assert app.calls.empty()


async def test_stopping_while_a_head_comes_in() -> None:
    async with connected(path) as client:
        client.send(b"GET / ")
        stop(client)
        assert await client.ended() == b""


def stop(client: MemoryClient) -> Connection:
    """Stop as the server does."""
    client.context.stopping = True
    connection = client.transport.get_protocol()
    assert isinstance(connection, Connection)
    connection.driver.stop()
    return connection
