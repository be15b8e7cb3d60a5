"""A worker that another one replaces: what it still serves while it stops, with a turned clock."""

import asyncio

import pytest

from tests import frames
from tests.harness.app import START, piece, respond_path, text
from tests.harness.client import GET, POST, UPGRADE, text_frame
from tests.harness.log import LogCapture
from tests.harness.memory import connected, peer, read_chunks, read_head, read_response, requested
from tests.harness.waiting import turns
from wsgate.server.connection import Connection
from wsgate.server.deadlines import TICK
from wsgate.testing import MemoryClient

pytestmark = pytest.mark.usefixtures("http_parser", "log", "no_task_left")

LAST_REQUEST = 5.0  # seconds that a client has for its last request
CLOSE = b"connection"


def replace(client: MemoryClient) -> None:
    """Stop the worker's connections as `Lifecycle.stop` does if another worker goes on."""
    worker = client.worker
    worker.is_replaced = worker.opens_websockets = worker.stopping = True
    for connection in list(worker.connections):
        assert isinstance(connection, Connection)
        connection.stop()
    for websocket in list(worker.websockets.values()):
        if websocket.is_open:
            websocket.drain()


# -- requests --------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_first", [True, False])
async def test_an_idle_connection_serves_one_more_request(is_first: bool) -> None:
    async with connected(respond_path) as client:
        if not is_first:
            client.send(GET)
            assert CLOSE not in (await read_response(client)).headers
        replace(client)
        await turns()
        assert not client.is_ended
        client.send(GET + GET)
        response = await read_response(client)
        assert (response.status, response.headers[CLOSE]) == (200, b"close")
        assert await client.ended() == b"", "the second one is left to another worker"


async def test_an_idle_connection_waits_for_five_seconds(log: LogCapture) -> None:
    async with connected(respond_path) as client:
        client.send(GET)
        await read_response(client)
        replace(client)
        await client.advance(LAST_REQUEST - TICK)
        assert not client.is_ended
        await client.advance(2 * TICK)
        assert await client.ended() == b""
        assert not log.problems


@pytest.mark.parametrize("before", [0, 1])
async def test_a_shorter_timeout_stays(before: int) -> None:
    async with connected(respond_path, timeout_keep_alive=2) as client:
        client.send(GET)
        await read_response(client)
        await client.advance(before)
        replace(client)
        await client.advance(2 - before - TICK)
        assert not client.is_ended
        await client.advance(2 * TICK)
        assert await client.ended() == b""


async def test_a_running_request_is_answered_and_ends_the_connection() -> None:
    async with requested(GET) as (client, app, call):
        replace(client)
        await client.advance(60)
        assert not client.is_ended
        await call.respond()
        response = await read_response(client)
        assert response.headers[CLOSE] == b"close"
        call.finish()
        assert await client.ended() == b""
        assert app.calls.empty()


async def test_after_a_response_without_the_header_one_more_request_is_served() -> None:
    async with requested(GET) as (client, app, call):
        await call.send(START)
        await call.send(piece(b"a"))
        assert CLOSE not in (await read_head(client)).headers
        replace(client)
        await call.send(piece(b"b", more=False))
        call.finish()
        assert await read_chunks(client) == [b"a", b"b"]
        await client.advance(LAST_REQUEST - TICK)
        client.send(GET)
        last = await app.called()
        await last.respond()
        last.finish()
        assert (await read_response(client)).headers[CLOSE] == b"close"
        assert await client.ended() == b""


async def test_a_head_that_is_arriving_may_be_completed() -> None:
    async with connected(respond_path) as client:
        client.send(GET[:20])
        replace(client)
        await client.advance(LAST_REQUEST - TICK)
        client.send(GET[20:])
        response = await read_response(client)
        assert (response.status, response.headers[CLOSE]) == (200, b"close")
        assert await client.ended() == b""


async def test_a_head_that_is_not_completed_is_refused() -> None:
    async with connected(respond_path) as client:
        client.send(GET[:20])
        replace(client)
        await client.advance(LAST_REQUEST + TICK)
        assert (await read_response(client)).status == 408
        assert await client.ended() == b""


async def test_the_rest_of_a_body_is_waited_for_as_long() -> None:
    async with connected(respond_path) as client:
        client.send(POST % 10 + b"12345")
        assert (await read_response(client)).status == 200
        replace(client)
        await client.advance(LAST_REQUEST - TICK)
        assert not client.is_ended
        client.send(b"67890")
        await turns()
        await client.advance(LAST_REQUEST - TICK)
        assert not client.is_ended
        client.send(GET)
        assert (await read_response(client)).headers[CLOSE] == b"close"
        assert await client.ended() == b""


async def test_a_body_whose_rest_does_not_arrive() -> None:
    async with connected(respond_path) as client:
        client.send(POST % 10 + b"12345")
        await read_response(client)
        replace(client)
        await client.advance(LAST_REQUEST + TICK)
        assert await client.ended() == b""


async def test_a_connection_that_was_accepted_late_serves_a_request() -> None:
    async with connected(respond_path) as client:
        replace(client)
        late = MemoryClient(client.worker, client.clock)
        late.send(GET)
        assert (await read_response(late)).headers[CLOSE] == b"close"
        assert await late.ended() == b""
        idle = MemoryClient(client.worker, client.clock)
        await client.advance(LAST_REQUEST + TICK)
        assert await idle.ended() == b""
        late.drop()
        idle.drop()
        await turns()


async def test_without_a_replacement_an_idle_connection_is_closed_at_once() -> None:
    async with connected(respond_path) as client:
        client.worker.stopping = True
        for connection in list(client.worker.connections):
            assert isinstance(connection, Connection)
            connection.stop()
        assert await client.ended() == b""


# -- WebSockets ------------------------------------------------------------------------------------


async def test_a_pending_handshake_may_be_accepted_and_is_closed_with_1012() -> None:
    async with peer() as ws:
        await ws.request(rest=text_frame("early"))
        replace(ws.client)
        await turns()
        assert not ws.client.received
        await ws.call.accept()
        assert (await ws.client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert await ws.read_close() == (1012, "service restart")
        assert await ws.call.receive_payloads(1) == ["early"]
        assert await ws.receive_disconnect() == (1012, "service restart")
        ws.client.send(frames.close(1012))
        assert await ws.client.ended() == b""


async def test_a_message_right_after_the_accept_is_sent() -> None:
    async with peer() as ws:
        await ws.request()
        replace(ws.client)
        accepting = asyncio.gather(ws.call.accept(), ws.call.send(text("welcome")))
        assert (await ws.client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert await ws.read_texts(1) == ["welcome"]
        await accepting
        assert await ws.read_close() == (1012, "service restart")


async def test_a_pending_handshake_may_be_refused() -> None:
    async with peer() as ws:
        await ws.request()
        replace(ws.client)
        await ws.call.send({"type": "websocket.close"})
        assert (await read_head(ws.client)).status == 403


async def test_a_handshake_that_is_never_decided_has_its_own_timeout() -> None:
    async with peer(ws_handshake_timeout=7) as ws:
        await ws.request()
        replace(ws.client)
        await ws.client.advance(7 - TICK)
        assert not ws.client.received
        await ws.client.advance(2 * TICK)
        assert (await read_head(ws.client)).status == 503


async def test_a_websocket_that_is_opened_during_the_stop_is_closed_with_1012() -> None:
    async with peer() as ws:
        replace(ws.client)
        await ws.open()
        assert await ws.read_close() == (1012, "service restart")
        assert await ws.receive_disconnect() == (1012, "service restart")


async def test_without_a_replacement_a_handshake_is_refused() -> None:
    async with connected(respond_path) as client:
        client.worker.opens_websockets = False
        client.send(UPGRADE)
        assert (await read_response(client)).status == 503
        assert await client.ended() == b""
