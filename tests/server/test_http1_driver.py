"""Requests on one connection in memory: pipelining, refusals, draining, upgrades, stopping."""

import asyncio
from typing import Any

import pytest

from tests.harness.app import END, START, echo_request, piece, respond_path
from tests.harness.client import CHUNKED, GET, POST, UPGRADE
from tests.harness.log import LogCapture
from tests.harness.memory import connected, read_head, read_response, requested, stop
from tests.harness.waiting import turns
from wsgate.errors import ClientDisconnected, IllegalMessage
from wsgate.server.connection import Connection
from wsgate.server.deadlines import TICK
from wsgate.server.http1_driver import DRAIN, READ_AHEAD
from wsgate.testing import MemoryClient

pytestmark = pytest.mark.usefixtures("http_parser", "log", "no_task_left")


# -- one request after the other -------------------------------------------------------------------


async def test_a_connection_serves_several_requests() -> None:
    async with connected(echo_request) as client:
        for number in range(3):
            client.send(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
            answer = await read_response(client)
            assert (answer.status, answer.body) == (200, b"GET /%d " % number)
            assert b"connection" not in answer.headers
        assert not client.is_ended


async def test_a_request_may_arrive_byte_by_byte() -> None:
    async with connected(echo_request) as client:
        for byte in b"\r\n" + POST % 2 + b"ab" + GET:
            client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await read_response(client)).body == b"POST / ab"
        assert (await read_response(client)).body == b"GET / "


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with requested(GET * 2) as (client, app, first):
        await turns()
        assert app.calls.empty(), "the second waits for the first"
        await first.send(START)
        await first.send(piece(b"one"))
        await turns()
        assert app.calls.empty()
        await first.send(piece(b"", more=False))
        await (await app.called()).respond(b"two")
        assert (await read_response(client)).body == b"one"
        assert (await read_response(client)).body == b"two"


async def test_pipelined_requests_with_bodies_that_are_read_or_not() -> None:
    requests = POST % 5 + b"hello" + CHUNKED + b"5\r\nhello\r\n0\r\n\r\n" + GET
    for app, bodies in (
        (echo_request, [b"POST / hello", b"POST / hello", b"GET / "]),
        (respond_path, [b"/", b"/", b"/"]),
    ):
        async with connected(app) as client:
            client.send(requests * 10)
            for body in bodies * 10:
                assert (await read_response(client)).body == body


async def test_a_body_that_arrives_after_the_response() -> None:
    async with connected(respond_path) as client:
        client.send(POST % 5 + b"he")
        assert (await read_response(client)).body == b"/"
        client.send(b"llo" + GET)
        assert (await read_response(client)).status == 200


async def test_connection_close_of_the_client() -> None:
    async with connected(respond_path) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + GET)
        answer = await read_response(client)
        assert answer.headers[b"connection"] == b"close"
        assert await client.ended() == b""


async def test_connection_close_of_the_app() -> None:
    async with requested(GET) as (client, _, call):
        await call.respond(b"", 200, (b"connection", b"close"))
        assert (await read_response(client)).headers[b"connection"] == b"close"
        assert await client.ended() == b""


async def test_work_after_the_response_does_not_delay_the_next_request() -> None:
    async with requested(GET) as (client, app, first):
        await first.respond(b"one")
        client.send(GET)
        second = await app.called()
        assert len(client.worker.tasks) == 2
        assert await first.receive() == {"type": "http.disconnect"}
        await first.send_raises(piece(b"more"), IllegalMessage, "response complete")
        first.finish()
        await second.respond(b"two")
        assert (await read_response(client)).body == b"one"
        assert (await read_response(client)).body == b"two"


async def test_an_app_may_fail_after_its_response(log: LogCapture) -> None:
    async with requested(GET * 2) as (client, app, first):
        await first.respond(b"one")
        second = await app.called()
        first.finish(ValueError("late"))
        await turns()
        assert log.errors == ["Exception in ASGI application"]
        await second.respond(b"two")
        assert (await read_response(client)).body == b"one"
        assert (await read_response(client)).body == b"two"


# -- clients of HTTP/1.0 ---------------------------------------------------------------------------


async def test_an_http_1_0_client_gets_a_response_and_the_end() -> None:
    async with connected(respond_path) as client:
        client.send(b"GET /a HTTP/1.0\r\n\r\n")
        answer = await read_response(client)
        assert (answer.status, answer.body) == (200, b"/a")
        assert answer.headers[b"connection"] == b"close"
        assert await client.ended() == b""


async def test_a_stream_to_an_http_1_0_client_ends_with_the_connection() -> None:
    async with requested(b"GET / HTTP/1.0\r\n\r\n") as (client, _, call):
        await call.send(START)
        await call.send(piece(b"a"))
        await call.send(piece(b"b", more=False))
        answer = await read_head(client)
        assert b"transfer-encoding" not in answer.headers
        assert await client.ended() == b"ab"


# -- request bodies that the app does not read -----------------------------------------------------


async def test_an_unread_body_within_the_limit_is_drained() -> None:
    async with connected(respond_path) as client:
        client.send(POST % DRAIN + b"x" * DRAIN + GET)
        assert (await read_response(client)).status == 200
        assert (await read_response(client)).status == 200


@pytest.mark.parametrize("size", [DRAIN + 1, 10 * DRAIN])
async def test_an_unread_body_above_the_limit_ends_the_connection(size: int) -> None:
    async with connected(respond_path) as client:
        client.send(POST % size + b"x" * size + GET)
        assert (await read_response(client)).status == 200
        assert await client.ended() == b""


async def test_an_unread_body_that_arrives_later_is_drained() -> None:
    async with connected(respond_path) as client:
        client.send(CHUNKED)
        assert (await read_response(client)).status == 200
        for _ in range(3):
            client.send(b"5\r\nhello\r\n")
            await turns()
        client.send(b"0\r\n\r\n" + GET)
        assert (await read_response(client)).status == 200


async def test_an_unread_malformed_body_ends_the_connection() -> None:
    async with connected(respond_path) as client:
        client.send(CHUNKED)
        assert (await read_response(client)).status == 200
        client.send(b"nonsense\r\n")
        assert await client.ended() == b""


async def test_an_unread_body_that_does_not_arrive_has_a_timeout(log: LogCapture) -> None:
    async with connected(respond_path, ws_handshake_timeout=10) as client:
        client.send(POST % 5 + b"x")
        assert (await read_response(client)).status == 200
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
async def test_an_invalid_request_is_refused(data: bytes, status: int, log: LogCapture) -> None:
    async with connected(respond_path) as client:
        client.send(data)
        answer = await read_response(client)
        assert (answer.status, answer.headers[b"connection"]) == (status, b"close")
        assert await client.ended() == b""
        client.send(GET)
        await turns()
        assert not client.received
        assert len(log.warnings) == 1
        assert f"127.0.0.1:50000 - Invalid HTTP request received: {status}" in log.warnings[0]


async def test_requests_before_an_invalid_one_are_answered() -> None:
    async with connected(respond_path) as client:
        client.send(GET * 2 + b"nonsense\r\n\r\n" + GET)
        assert [(await read_response(client)).status for _ in range(3)] == [200, 200, 400]
        assert await client.ended() == b""


async def test_a_refusal_after_a_head_request_has_a_body() -> None:
    async with connected(respond_path) as client:
        client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        await read_head(client)
        client.send(b"nonsense\r\n\r\n")
        answer = await read_response(client)
        assert (answer.status, len(answer.body) > 0) == (400, True)


async def test_the_limit_of_the_head_is_a_setting() -> None:
    async with connected(respond_path, limit_request_head=100) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100)
        assert (await read_response(client)).status == 431


async def test_pipelined_requests_never_run_together() -> None:
    async with connected(respond_path, limit_concurrency=1) as client:
        client.send(GET * 3)
        for _ in range(3):
            assert (await read_response(client)).status == 200


async def test_a_request_above_the_limit_of_calls_gets_503(log: LogCapture) -> None:
    async with requested(GET, limit_concurrency=1) as (client, _, call):
        other = MemoryClient(client.worker, client.clock)
        other.send(GET)
        answer = await read_response(other)
        assert (answer.status, answer.headers[b"retry-after"]) == (503, b"5")
        assert await other.ended() == b""
        other.eof()
        await call.respond(b"fine")
        assert (await read_response(client)).body == b"fine"
        assert log.access == [
            '127.0.0.1:50000 - "GET / HTTP/1.1" 503 Service Unavailable',
            '127.0.0.1:50000 - "GET / HTTP/1.1" 200 OK',
        ]
        call.finish()
        await turns()
        assert other.is_lost
        client.send(GET)
        await turns()
        assert len(client.worker.tasks) == 1, "there is room again"


async def test_a_websocket_above_the_limit_of_calls_gets_503(log: LogCapture) -> None:
    async with requested(GET, limit_concurrency=1) as (client, _, _):
        other = MemoryClient(client.worker, client.clock)
        other.send(UPGRADE)
        assert (await read_response(other)).status == 503
        other.drop()
        await turns()
        reason = "503 Service Unavailable (the server is at its limit)"
        assert log.access == [f'127.0.0.1:50000 - "WebSocket /ws" {reason}']


# -- upgrades to WebSocket, and other races --------------------------------------------------------


async def test_a_reset_drops_pipelined_requests() -> None:
    async with requested(GET * 3) as (client, app, first):
        await first.respond(b"one")
        second = await app.called()
        client.drop()
        await turns()
        with pytest.raises(ClientDisconnected):
            await second.respond(b"two")
        first.finish()
        second.finish()
        await turns()
        assert app.calls.empty()
        assert not client.worker.tasks


async def test_a_reset_during_a_response() -> None:
    """The connection is lost between start and body, in the same loop iteration."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        client.drop()
        await send(piece(b"all", more=False))  # connection_lost has not come yet

    async with connected(app) as client:
        client.send(GET * 2)
        await turns()
        assert client.is_lost
        assert not client.worker.connections


async def test_requests_after_a_drained_body_and_a_half_close() -> None:
    async with connected(respond_path) as client:
        client.send(POST % 5 + b"hello" + GET + CHUNKED + b"1\r\na\r\n")
        client.eof()
        assert [(await read_response(client)).status for _ in range(3)] == [200] * 3
        assert await client.ended() == b""
        await turns()
        assert client.is_lost


async def test_an_upgrade_after_a_request() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await respond_path(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.accept"})
            await receive()

    async with connected(app) as client:
        client.send(POST % 5 + b"hello" + UPGRADE)
        assert (await read_response(client)).status == 200
        assert (await read_head(client)).status == 101


async def test_an_upgrade_after_a_request_of_a_half_closed_client() -> None:
    async with requested(GET + UPGRADE) as (client, app, first):
        client.eof()
        await first.respond(b"one")
        second = await app.called()
        assert second.scope["type"] == "websocket"
        assert (await second.receive())["type"] == "websocket.connect"
        async with asyncio.timeout(5):
            assert (await second.receive())["type"] == "websocket.disconnect"
        second.finish()
        await turns()
        assert (await read_response(client)).body == b"one"
        await client.ended()


async def test_an_upgrade_that_is_refused_ends_the_connection(log: LogCapture) -> None:
    async with connected(respond_path) as client:
        client.send(UPGRADE.replace(b": 13", b": 12") + GET)
        answer = await read_response(client)
        assert (answer.status, answer.headers[b"sec-websocket-version"]) == (426, b"13")
        assert await client.ended() == b""
        reason = "426 Upgrade Required (this server speaks WebSocket version 13)"
        assert log.access == [f'127.0.0.1:50000 - "WebSocket /ws" {reason}']


async def test_an_earlier_call_cannot_use_the_upgraded_connection() -> None:
    async with requested(GET + UPGRADE) as (client, app, first):
        await first.respond(b"one")
        second = await app.called()
        await first.send_raises(END, IllegalMessage, "complete")
        assert await first.receive() == {"type": "http.disconnect"}
        first.finish(ValueError("late"))
        await turns()
        await second.send({"type": "websocket.accept"})
        assert (await read_response(client)).body == b"one"
        assert (await read_head(client)).status == 101


async def test_eof_received_twice_after_a_pause() -> None:
    """asyncio reports EOF again if reading is resumed after it."""
    async with requested(POST % (2 * READ_AHEAD)) as (client, _, call):
        client.send(b"x" * READ_AHEAD)
        connection = client.transport.get_protocol()
        assert isinstance(connection, Connection)
        connection.eof_received()
        connection.eof_received()
        while (message := await call.receive())["type"] != "http.disconnect":
            assert message["more_body"]
        await call.respond(b"short")
        assert (await read_response(client)).body == b"short"
        await client.ended()


# -- stopping --------------------------------------------------------------------------------------


async def test_stopping_while_a_body_is_drained_closes_at_once() -> None:
    async with connected(respond_path) as client:
        client.send(POST % 5 + b"x")
        assert (await read_response(client)).status == 200
        stop(client)
        assert await client.ended() == b""


async def test_stopping_a_closed_connection_does_nothing() -> None:
    async with connected(respond_path) as client:
        connection = stop(client)
        await client.ended()
        connection.driver.stop()
        client.drop()
        await turns()
        for poke in (connection.driver.stop, connection.driver.eof, connection.driver.lost):
            poke()
        connection.driver.data(b"late")
        assert connection.check(0.0) == connection.driver.check(0.0) == float("inf")
        connection.write(b"late")
        connection.pause_reading()
        connection.resume_reading()
        connection.end()
        connection.abort()
        connection.close()
        assert connection.is_flushed


async def test_a_connection_accepted_while_the_server_stops_is_closed() -> None:
    async with connected(respond_path) as client:
        client.worker.stopping = True
        late = MemoryClient(client.worker, client.clock)
        assert await late.ended() == b""
        late.send(GET)
        late.eof()
        await turns()
        assert late.is_lost


async def test_stopping_finishes_the_current_response() -> None:
    async with requested(GET * 2) as (client, app, call):
        stop(client)
        await call.respond(b"last")
        answer = await read_response(client)
        assert (answer.body, answer.headers[b"connection"]) == (b"last", b"close")
        assert await client.ended() == b""
        assert app.calls.empty()


async def test_stopping_finishes_a_stream() -> None:
    async with requested(GET * 2) as (client, app, call):
        await call.send(START)
        await call.send(piece(b"a"))
        stop(client)
        await call.send(piece(b"b", more=False))
        assert (await read_response(client)).body == b"ab"
        assert await client.ended() == b""
        assert app.calls.empty()


async def test_stopping_closes_a_connection_with_a_partial_head() -> None:
    async with connected(respond_path) as client:
        client.send(b"GET / ")
        stop(client)
        assert await client.ended() == b""
