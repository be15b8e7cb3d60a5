"""Deadlines of an HTTP connection, in memory, with a clock set by the test."""

import asyncio

import pytest

from tests.harness.app import START, piece, respond_path
from tests.harness.client import GET, POST
from tests.harness.log import LogCapture
from tests.harness.memory import connected, read_head, read_response, requested
from tests.harness.waiting import start_task, turns
from wsgate.errors import ClientDisconnected
from wsgate.server.connection import HIGH_WATER
from wsgate.server.deadlines import LINGER, TICK
from wsgate.server.http1_driver import Http1Driver

pytestmark = pytest.mark.usefixtures("http_parser", "log", "no_task_left")


async def test_a_connection_without_a_request_is_closed_silently(log: LogCapture) -> None:
    async with connected(respond_path, ws_handshake_timeout=10) as client:
        await client.advance(9)
        assert not client.is_ended
        await client.advance(1 + TICK)
        assert await client.ended() == b""
        assert not log.records


async def test_a_slow_head_is_refused(log: LogCapture) -> None:
    async with connected(respond_path, ws_handshake_timeout=10) as client:
        client.send(b"GET / HTTP/1.1\r\n")
        await client.advance(5)
        client.send(b"Host: x\r\n")
        await client.advance(4)
        assert not client.received
        await client.advance(1 + TICK)
        assert (await read_response(client)).status == 408
        assert await client.ended() == b""
        assert len(log.warnings) == 1


async def test_the_timeout_of_the_next_head_starts_at_its_first_byte() -> None:
    async with connected(respond_path, ws_handshake_timeout=10, timeout_keep_alive=5) as client:
        client.send(GET)
        await read_response(client)
        await client.advance(4)
        client.send(b"GET / ")
        await client.advance(9)
        assert not client.received
        await client.advance(1 + TICK)
        assert (await read_response(client)).status == 408


async def test_a_partial_pipelined_head_has_the_same_timeout() -> None:
    async with connected(respond_path, ws_handshake_timeout=10) as client:
        client.send(GET + b"GET / ")
        await read_response(client)
        await client.advance(9)
        assert not client.is_ended
        await client.advance(1 + TICK)
        assert (await read_response(client)).status == 408


async def test_a_deadline_that_is_set_during_a_check_is_enforced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def end_exchange(driver: Http1Driver) -> None:
        monkeypatch.undo()
        driver._await_next_request()

    async with connected(respond_path, ws_handshake_timeout=10, timeout_keep_alive=5) as client:
        monkeypatch.setattr(Http1Driver, "_end_slow_request", end_exchange)
        await client.advance(10 + TICK)
        await client.advance(4)
        assert not client.is_ended
        await client.advance(1 + TICK)
        assert await client.ended() == b""


async def test_an_idle_connection_is_closed_silently_after_keep_alive(log: LogCapture) -> None:
    async with connected(respond_path, timeout_keep_alive=5) as client:
        for _ in range(2):
            client.send(GET)
            await read_response(client)
            await client.advance(4)
            assert not client.is_ended
        await client.advance(1 + TICK)
        assert await client.ended() == b""
        assert not log.warnings


async def test_a_slow_body_is_refused() -> None:
    async with requested(POST % 4, timeout_request_body=60) as (client, _, call):
        coming = call.start_receive()
        await client.advance(59)
        client.send(b"a")
        assert (await coming)["body"] == b"a"
        await client.advance(100)
        coming = call.start_receive()
        await client.advance(59)
        assert not coming.done(), "its timeout starts again"
        await client.advance(1 + 2 * TICK)
        assert await coming == {"type": "http.disconnect"}
        assert (await read_response(client)).status == 408
        await call.send_raises(START, ClientDisconnected, "left")
        assert await client.ended() == b""


async def test_a_slow_body_truncates_a_started_response() -> None:
    async with requested(POST % 4) as (client, _, call):
        await call.send(START)
        await call.send(piece(b"a"))
        coming = call.start_receive()
        await client.advance(60 + TICK)
        assert await coming == {"type": "http.disconnect"}
        await read_head(client)
        assert await client.ended() == b"1\r\na\r\n"


async def test_the_body_timeout_is_suspended_while_the_app_does_not_receive() -> None:
    async with requested(POST % 4) as (client, _, call):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await call.receive()
        await client.advance(200)
        client.send(b"abcd")
        assert (await call.receive())["body"] == b"abcd"
        await call.respond(b"fine")
        assert (await read_response(client)).body == b"fine"


async def test_the_app_has_no_timeout() -> None:
    async with requested(POST % 2 + b"ab") as (client, _, call):
        await call.receive()
        waiting = call.start_receive()
        await client.advance(1_000)
        assert not waiting.done()
        await call.respond(b"at last")
        assert (await read_response(client)).body == b"at last"
        await waiting


async def test_keep_alive_starts_after_the_response_is_read() -> None:
    async with requested(GET, timeout_keep_alive=5, ws_send_timeout=60) as (client, _, call):
        client.stall()
        sending = start_task(call.respond(b"x" * 2 * HIGH_WATER))
        await client.advance(30)
        assert not client.is_lost, "it is reading, not idle"
        client.read_on()
        await sending
        assert len((await read_response(client)).body) == 2 * HIGH_WATER
        await client.advance(31)
        assert await client.ended() == b""


async def test_a_client_that_does_not_close_its_half_is_aborted() -> None:
    async with connected(respond_path) as client:
        client.send(b"nonsense\r\n\r\n")
        await client.ended()
        client.send(b"more of it" * 1_000)
        await client.advance(LINGER - TICK)
        assert not client.is_lost
        await client.advance(2 * TICK)
        assert client.is_lost


async def test_a_client_that_closes_its_half_is_closed_immediately() -> None:
    async with connected(respond_path) as client:
        client.send(b"nonsense\r\n\r\n")
        await client.ended()
        client.eof()
        await turns()
        assert client.is_lost


async def test_the_last_response_may_be_read_slowly() -> None:
    async with requested(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")) as (
        client,
        _,
        call,
    ):
        client.stall()
        sending = start_task(call.respond(b"x" * 2 * HIGH_WATER))
        await client.advance(50)
        assert not client.is_lost
        client.read_on()
        await sending
        assert len((await read_response(client)).body) == 2 * HIGH_WATER
        assert await client.ended() == b""
        await client.advance(LINGER - TICK)
        assert not client.is_lost, "its time to close began when all had left"
        await client.advance(LINGER + 2 * TICK)
        assert client.is_lost


async def test_the_last_response_has_a_send_timeout() -> None:
    async with requested(GET.replace(b"1.1", b"1.0"), ws_send_timeout=20) as (client, _, call):
        client.stall()
        await call.respond(b"x" * 1_000)
        await client.advance(19)
        assert not client.is_lost
        await client.advance(1 + LINGER + TICK)
        assert client.is_lost
