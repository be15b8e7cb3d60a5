"""The connection in memory and its clock."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from wsgate.server import deadlines
from wsgate.server.connection import Connection
from wsgate.testing import ManualClock, MemoryClient, connect, memory

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(autouse=True)
async def _no_tasks_left() -> AsyncIterator[None]:
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"date", b"now")]})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


async def hang(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.get_running_loop().create_future()


async def test_request_and_response() -> None:
    async with connect(answer, server_header=False) as client:
        client.send(GET)
        head = b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 1\r\n\r\n"
        assert await client.until(b"\r\n\r\n") == head
        assert await client.exactly(1) == b"/"
        assert not client.received
        assert not client.is_ended


async def test_ended_returns_what_was_received_before() -> None:
    async with connect(answer) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await client.ended()).endswith(b"/")
        assert client.is_ended
        assert not client.is_lost, "only the server's half is closed"


async def test_waiting_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_TIMEOUT", 0.01)
    async with connect(answer) as client:
        client.send(GET)
        for waiting in (client.until(b"never"), client.exactly(9_999), client.ended()):
            with pytest.raises(AssertionError, match="timeout; received: b'HTTP/1"):
                await waiting


def test_clock_does_not_advance_by_itself() -> None:
    clock = ManualClock()
    assert clock() == clock() == clock.now


async def test_advance_moves_the_clock() -> None:
    async with connect(answer) as client:
        start = client.clock()
        await client.advance(0.7)
        assert client.clock() == pytest.approx(start + 0.7)
        assert client.worker.clock() == client.clock()


async def test_advance_lets_deadlines_expire() -> None:
    async with connect(answer, ws_handshake_timeout=3) as client:
        await client.advance(2)
        assert not client.is_ended
        await client.advance(2)
        assert await client.ended() == b""


async def test_advance_lets_the_deadlines_of_all_connections_expire(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deadlines, "_MAX_CHECKS", 1)
    async with connect(answer, ws_handshake_timeout=3) as client:
        others = [MemoryClient(client.worker, client.clock) for _ in range(5)]
        await client.advance(3 + deadlines.TICK)
        for other in others:
            assert other.is_ended
            other.drop()


async def test_client_that_does_not_read() -> None:
    async with connect(answer) as client:
        client.stall()
        client.send(GET)
        await settle()
        assert not client.received
        assert client.transport.get_write_buffer_size() > 0
        client.read_some(8)
        assert await client.exactly(8) == b"HTTP/1.1"
        assert not client.received
        client.read_on()
        assert (await client.until(b"\r\n\r\n")).startswith(b" 200 OK")
        assert client.transport.get_write_buffer_size() == 0


async def test_half_close_comes_after_buffered_data() -> None:
    async with connect(answer) as client:
        client.stall()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        await settle()
        assert not client.is_ended
        client.read_some(10)
        assert not client.is_ended
        client.read_on()
        assert (await client.ended()).endswith(b"\r\n\r\n/")


async def test_close_comes_after_buffered_data() -> None:
    async with connect(answer) as client:
        client.stall()
        client.send(GET)
        client.eof()
        await settle()
        assert client.transport.is_closing()
        assert not client.is_lost
        client.read_on()
        assert (await client.ended()).endswith(b"/")
        assert client.is_lost


async def test_write_buffer_limits() -> None:
    async with bare() as (client, connection):
        transport = client.transport
        client.stall()
        for limits, high, low in (
            ({}, 65_536, 16_384),
            ({"high": 100}, 100, 25),
            ({"high": 100, "low": 50}, 100, 50),
        ):
            transport.set_write_buffer_limits(**limits)
            transport.write(b"x" * high)
            assert not connection.gate.is_shut, "at the limit it is open"
            transport.write(b"x")
            transport.write(b"x")
            assert is_writing_paused(connection)
            client.read_some(high + 1 - low)
            assert is_writing_paused(connection)
            client.read_some(1)
            assert not is_writing_paused(connection)
            client.read_some(low)


def is_writing_paused(connection: Connection) -> bool:
    return connection.gate.is_shut


async def test_data_waits_while_reading_is_paused() -> None:
    async with bare() as (client, _):
        client.transport.pause_reading()
        client.send(GET[:9])
        client.send(GET[9:])
        client.eof()
        await settle()
        assert not client.received
        client.transport.resume_reading()
        assert (await client.ended()).endswith(b"/")


async def test_write_after_write_eof_raises() -> None:
    """As asyncio's transports do."""
    async with bare() as (client, _):
        assert client.transport.can_write_eof()
        client.transport.write_eof()
        with pytest.raises(RuntimeError, match="after write_eof"):
            client.transport.write(b"late")


async def test_nothing_is_sent_or_received_after_close() -> None:
    async with bare() as (client, connection):
        client.transport.close()
        client.transport.close()
        client.transport.write(b"late")
        client.send(GET)
        client.eof()
        assert await client.ended() == b""
        client.drop()
        client.send(GET)
        await settle()
        assert connection.is_lost
        assert not client.worker.tasks


async def test_drop_loses_buffered_data() -> None:
    async with connect(answer) as client:
        client.stall()
        client.send(GET)
        await settle()
        client.drop()
        assert await client.ended() == b""
        assert client.is_lost


async def test_extra_info_and_protocol() -> None:
    async with bare() as (client, connection):
        assert client.transport.get_extra_info("peername") == ("127.0.0.1", 50_000)
        assert client.transport.get_extra_info("sockname") == ("127.0.0.1", 8_000)
        assert client.transport.get_extra_info("socket") is None
        assert client.transport.get_protocol() is connection


async def test_context_ends_the_connection_and_calls_of_the_app() -> None:
    async with connect(hang) as client:
        client.send(GET)
        await settle()
        assert (len(client.worker.connections), len(client.worker.tasks)) == (1, 1)
    assert client.is_lost
    assert not client.worker.connections
    assert not client.worker.tasks


async def test_exception_ends_the_connection_and_calls_of_the_app() -> None:
    leaving = connect(hang)
    client = await leaving.__aenter__()
    client.send(GET)
    await settle()
    assert not await leaving.__aexit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert not client.worker.connections
    assert not client.worker.tasks


@contextlib.asynccontextmanager
async def bare() -> AsyncIterator[tuple[MemoryClient, Connection]]:
    """Connect a client; return it and the server's protocol."""
    async with connect(answer) as client:
        connection = client.transport.get_protocol()
        assert isinstance(connection, Connection)
        yield client, connection


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)
