"""Backpressure of an HTTP exchange in memory, and clients that leave."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.app import END, START, piece, respond_path
from tests.harness.client import GET, POST
from tests.harness.log import LogCapture
from tests.harness.memory import connected, read_chunks, read_head, read_response, requested
from tests.harness.waiting import is_waiting, start_task, turns
from wsgate.errors import ClientDisconnected, IllegalMessage
from wsgate.server.connection import HIGH_WATER
from wsgate.server.deadlines import TICK
from wsgate.server.http1_driver import READ_AHEAD
from wsgate.testing import MemoryClient

pytestmark = pytest.mark.usefixtures("http_parser", "log", "no_task_left")


def is_paused(client: MemoryClient) -> bool:
    """Return whether the server has paused reading."""
    return client.transport.is_paused


# -- backpressure ----------------------------------------------------------------------------------


async def test_send_waits_for_a_client_that_does_not_read() -> None:
    async with requested(GET) as (client, _, call):
        client.stall()
        await call.send(START)
        await call.send(piece(b"x" * 1_000))
        sending = call.start_send(piece(b"y" * HIGH_WATER))
        assert await is_waiting(sending)
        second = call.start_send(piece(b"z", more=False))
        assert await is_waiting(second)
        assert client.transport.get_write_buffer_size() < HIGH_WATER + 2_000
        client.read_on()
        await sending
        await second
        assert len((await read_response(client)).body) == 1_000 + HIGH_WATER + 1


async def test_the_last_send_waits_while_the_next_request_is_served() -> None:
    async with requested(GET * 2) as (client, app, first):
        client.stall()
        sending = start_task(first.respond(b"x" * 2 * HIGH_WATER))
        second = await app.called()
        assert await is_waiting(sending)
        answering = start_task(second.respond(b"next"))
        assert await is_waiting(answering)
        client.read_on()
        await sending
        await answering
        assert len((await read_response(client)).body) == 2 * HIGH_WATER
        assert (await read_response(client)).body == b"next"


@pytest.mark.parametrize("cancelled", ["none", "before", "after"])
async def test_parts_of_several_tasks_are_sent_in_the_order_of_the_calls(cancelled: str) -> None:
    async with requested(GET) as (client, _, call):
        client.stall()
        await call.send(START)
        filling = call.start_send(piece(b"x" * 2 * HIGH_WATER))
        first, second = call.start_send(piece(b"1")), call.start_send(piece(b"2"))
        assert await is_waiting(second)
        if cancelled == "before":
            first.cancel()
        client.read_on()
        if cancelled == "after":
            first.cancel()
        await call.send(piece(b"3"))  # in the iteration in which the gate opens
        await call.send(piece(b"4"))
        await asyncio.gather(filling, first, second, return_exceptions=True)
        assert first.cancelled() is (cancelled != "none")
        await call.send(END)
        await read_head(client)
        sent = [b"1", b"2", b"3", b"4"][cancelled != "none" :]
        assert (await read_chunks(client))[1:] == sent


async def test_a_part_that_is_refused_lets_the_next_one_pass() -> None:
    async with requested(GET) as (client, _, call):
        client.stall()
        await call.send(START)
        filling = call.start_send(piece(b"x" * 2 * HIGH_WATER))
        illegal, legal = call.start_send(START), call.start_send(END)
        assert await is_waiting(legal)
        client.read_on()
        await asyncio.gather(filling, legal)
        with pytest.raises(IllegalMessage):
            await illegal
        assert len((await read_response(client)).body) == 2 * HIGH_WATER


async def test_a_waiting_send_ends_when_the_client_disconnects() -> None:
    async with requested(GET) as (client, _, call):
        client.stall()
        await call.send(START)
        first = call.start_send(piece(b"x" * 2 * HIGH_WATER))
        second = call.start_send(piece(b"y"))
        assert await is_waiting(second)
        client.drop()
        await first
        with pytest.raises(ClientDisconnected):
            await second


async def test_reading_pauses_if_the_app_does_not_receive() -> None:
    async with requested(POST % 1_000_000) as (client, _, call):
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
        await call.respond(b"done")
        assert (await read_response(client)).body == b"done"


async def test_reading_pauses_if_too_many_requests_are_pipelined() -> None:
    async with requested(GET) as (client, app, call):
        count = READ_AHEAD // len(GET) + 1
        client.send(GET * count)
        assert is_paused(client)
        await call.respond()
        await app.called()
        assert not is_paused(client)


async def test_a_client_that_does_not_read_is_aborted() -> None:
    async with requested(GET, ws_send_timeout=20) as (client, _, call):
        client.stall()
        await call.send(START)
        sending = call.start_send(piece(b"x" * 2 * HIGH_WATER))
        await client.advance(19)
        assert await is_waiting(sending)
        await client.advance(1 + 2 * TICK)
        await sending
        assert client.is_lost
        await call.send_raises(END, ClientDisconnected, "left")


async def test_a_client_that_reads_slowly_is_not_aborted() -> None:
    async with requested(GET, ws_send_timeout=20) as (client, _, call):
        client.stall()
        sending = start_task(call.respond(b"x" * 2 * HIGH_WATER))
        for _ in range(10):
            await client.advance(15)
            client.read_some(1_000)
        assert not sending.done()
        await client.advance(40)
        await sending
        assert client.is_lost, "it has stopped to read"
        assert len(client.received) == 10_000


async def test_a_send_that_never_waits_still_detects_a_lost_connection() -> None:
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


async def test_the_app_is_notified_of_a_reset(log: LogCapture) -> None:
    async with requested(GET) as (client, _, call):
        await call.receive()
        coming = call.start_receive()
        assert await is_waiting(coming)
        client.drop()
        assert await coming == {"type": "http.disconnect"}
        assert await call.receive() == {"type": "http.disconnect"}
        await call.send_raises(START, ClientDisconnected, "the client has left")
        with pytest.raises(OSError, match="left"):
            await call.send(START)
        call.finish()
        await turns()
        assert not log.errors
        assert not log.access


async def test_the_app_is_notified_of_a_half_close() -> None:
    async with requested(GET) as (client, _, call):
        await call.receive()
        coming = call.start_receive()
        assert await is_waiting(coming)
        client.eof()
        assert await coming == {"type": "http.disconnect"}
        await call.respond(b"still for you")
        assert (await read_response(client)).body == b"still for you"
        assert await client.ended() == b""
        await turns()
        assert client.is_lost


async def test_a_half_closed_client_gets_all_responses() -> None:
    async with connected(respond_path) as client:
        client.send(GET * 3)
        client.eof()
        for _ in range(3):
            assert (await read_response(client)).status == 200
        assert await client.ended() == b""


async def test_a_half_close_after_the_body_is_noticed() -> None:
    async with requested(POST % 2 + b"ab") as (client, _, call):
        client.eof()
        assert await call.receive() == {"type": "http.request", "body": b"ab", "more_body": False}
        async with asyncio.timeout(5):
            assert await call.receive() == {"type": "http.disconnect"}


async def test_a_half_close_after_a_pipelined_request_is_noticed() -> None:
    async with requested(GET * 2) as (client, app, call):
        await call.receive()
        coming = call.start_receive()
        assert await is_waiting(coming)
        client.eof()
        async with asyncio.timeout(5):
            assert await coming == {"type": "http.disconnect"}
        await call.respond(b"one")
        await (await app.called()).respond(b"two")
        assert (await read_response(client)).body == b"one"
        assert (await read_response(client)).body == b"two"
        assert await client.ended() == b""


async def test_a_truncated_body(log: LogCapture) -> None:
    async with requested(POST % 4 + b"ab") as (client, _, call):
        client.eof()
        assert await call.receive() == {"type": "http.request", "body": b"ab", "more_body": True}
        assert await call.receive() == {"type": "http.disconnect"}
        call.finish()
        assert await client.ended() == b""
        assert not log.errors


async def test_the_client_disconnects_between_requests() -> None:
    async with connected(respond_path) as client:
        client.send(GET)
        await read_response(client)
        client.eof()
        assert await client.ended() == b""


@pytest.mark.parametrize("data", [b"", b"\r\n", b"GET / HT"])
async def test_the_client_disconnects_before_its_request_is_complete(
    data: bytes, log: LogCapture
) -> None:
    async with connected(respond_path) as client:
        client.send(data)
        client.eof()
        assert await client.ended() == b""
        await turns()
        assert client.is_lost
        assert not log.records


async def test_the_client_disconnects_while_its_body_is_drained() -> None:
    async with connected(respond_path) as client:
        client.send(POST % 4 + b"ab")
        assert (await read_response(client)).status == 200
        client.eof()
        assert await client.ended() == b""


async def test_after_the_response_receive_returns_the_disconnect() -> None:
    async with requested(GET) as (client, _, call):
        coming = [call.start_receive(), call.start_receive()]
        await turns()
        await call.respond()
        assert await coming[1] == {"type": "http.disconnect"}
        assert await call.receive() == {"type": "http.disconnect"}
        client.drop()
        await turns()
        await call.send_raises(END, ClientDisconnected, "left")


async def test_an_app_that_stops_after_a_disconnect_is_not_logged(log: LogCapture) -> None:
    async with requested(GET) as (client, _, call):
        await call.send(START)
        await call.send(piece(b"a"))
        client.eof()
        await call.receive()
        assert await call.receive() == {"type": "http.disconnect"}
        call.finish()
        await read_head(client)
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
async def test_a_disconnect_error_that_the_app_does_not_catch_is_not_logged(
    wrapped: Callable[[Exception], BaseException], log: LogCapture
) -> None:
    async with requested(GET) as (client, _, call):
        client.drop()
        await turns()
        with pytest.raises(ClientDisconnected) as raised:
            await call.send(START)
        call.finish(wrapped(raised.value))
        await turns()
        assert not log.records


async def test_other_errors_after_a_disconnect_are_logged(log: LogCapture) -> None:
    async with requested(GET) as (client, _, call):
        client.drop()
        await turns()
        call.finish(ExceptionGroup("tasks", [KeyError("a"), ValueError("mine")]))
        await turns()
        assert log.errors == ["Exception in ASGI application"]
        assert not log.access
