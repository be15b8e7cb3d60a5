"""Writes of one loop iteration are one system call for each connection."""

import asyncio
from typing import Any

import pytest
import websockets

import wsgate.testing
from tests.harness import loops
from wsgate.server.connection import Connection as RealConnection
from wsgate.server.fast_path import MAX_DELAYED, NONE
from wsgate.server.write_batch import WriteBatch
from wsgate.types import Receive, Scope, Send


class Transport(asyncio.Transport):
    """A transport that notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_broken = False
        self.unsent = 0

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.is_broken

    def get_write_buffer_size(self) -> int:
        return self.unsent


Stream: Any = RealConnection.__mro__[1]  # the compiled one, where there was a compiler


class Connection(Stream):  # type: ignore[misc]  # it is one of the twins
    """A connection that has no more than its transport."""

    def __init__(self, batch: WriteBatch, transport: Transport | None = None) -> None:
        self.batch = batch
        self.transport = transport or Transport()

    @property
    def written(self) -> list[bytes]:
        assert isinstance(self.transport, Transport)
        return self.transport.written

    def find_descriptor(self) -> int:
        return NONE


def new_batch() -> WriteBatch:
    return WriteBatch(asyncio.get_running_loop().call_soon, lambda write, data: write(data))


async def test_writes_of_an_iteration_are_one_for_each_connection() -> None:
    batch = new_batch()
    one, other = Connection(batch), Connection(batch)
    for piece in (b"a", b"bc", b"d"):
        assert batch.put(one, piece)
        assert batch.put(other, piece * 2)
    assert (one.written, other.written) == ([], [])
    assert batch.streams == [one, other]
    await asyncio.sleep(0)
    assert (one.written, other.written) == ([b"abcd"], [b"aabcbcdd"])
    assert not batch.streams
    assert batch.put(one, b"e")
    await asyncio.sleep(0)
    assert one.written == [b"abcd", b"e"]


async def test_many_bytes_leave_at_once_after_those_pending() -> None:
    batch = new_batch()
    connection = Connection(batch)
    batch.put(connection, b"a")
    assert batch.put(connection, b"b" * (MAX_DELAYED - 1))
    assert connection.written == [b"a" + b"b" * (MAX_DELAYED - 1)]
    assert batch.put(connection, b"c" * MAX_DELAYED)
    assert connection.written[1:] == [b"c" * MAX_DELAYED]
    batch.put(connection, b"d")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert connection.written[2:] == [b"d"]


async def test_bytes_leave_at_once_if_the_transport_has_unsent_ones() -> None:
    batch, transport = new_batch(), Transport()
    connection = Connection(batch, transport)
    batch.put(connection, b"a")
    transport.unsent = 1
    assert batch.put(connection, b"b")
    assert connection.written == [b"ab"]


async def test_a_broken_transport_is_reported() -> None:
    class Breaking(Transport):
        def write(self, data: Any) -> None:
            self.is_broken = True

    batch = new_batch()
    connection = Connection(batch, Breaking())
    assert not batch.put(connection, b"b" * MAX_DELAYED)
    assert batch.put(connection, b"a")  # the first bytes of an iteration: the flush asks
    assert not batch.put(connection, b"a")
    await asyncio.sleep(0)
    assert (connection.pending, connection.written) == (None, [])


async def test_flushed_bytes_are_not_written_again() -> None:
    batch = new_batch()
    connection = Connection(batch)
    batch.put(connection, b"a")
    batch.flush_stream(connection)
    batch.flush_stream(connection)
    batch.put(connection, b"b")
    await asyncio.sleep(0)
    assert connection.written == [b"a", b"b"]


async def test_nothing_is_written_to_a_closed_transport_or_after_a_drop() -> None:
    batch, transport, last = new_batch(), Transport(), Transport()
    gone, dropped, other = Connection(batch, transport), Connection(batch), Connection(batch, last)
    for connection in (gone, dropped, other):
        batch.put(connection, b"a")
    transport.is_broken = True
    dropped.pending = None
    await asyncio.sleep(0)
    assert (gone.written, dropped.written, other.written) == ([], [], [b"a"])
    batch.put(other, b"b")
    last.is_broken = True
    batch.flush_stream(other)
    assert other.written == [b"a"]


async def burst(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "websocket":
        raise NotImplementedError(scope["type"])
    await receive()
    await send({"type": "websocket.accept"})
    await receive()
    for at in range(100):
        await send({"type": "websocket.send", "text": str(at)})
    await send({"type": "websocket.close"})


LOOPS = loops.LOOPS


async def test_a_burst_is_one_write_and_arrives_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []

    class Noting(WriteBatch):
        def flush(self) -> None:
            flushed.extend(len(stream.pending or b"") for stream in self.streams)
            super().flush()

    monkeypatch.setattr("wsgate.server.worker.WriteBatch", Noting)
    async with (
        wsgate.testing.serve(burst) as server,
        websockets.connect(server.ws_url) as client,
    ):
        await client.send("go")
        assert [await client.recv() for _ in range(100)] == [str(at) for at in range(100)]
        await client.wait_closed()
        assert client.close_code == 1000
    # 10 numbers of one digit and 90 of two, each after a header of two octets; and the Close.
    assert 10 * 3 + 90 * 4 + 4 in flushed
