"""Writes of one turn of the loop are one call of the transport."""

import asyncio

import pytest
import websockets

import wsgate.testing
from wsgate.server.joined import FULL, JoinedWrites, joined
from wsgate.types import Receive, Scope, Send


class Transport(asyncio.WriteTransport):
    """A transport that notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.written.append(data)


async def turn() -> None:
    await asyncio.sleep(0)


async def test_writes_of_a_turn_are_one() -> None:
    transport = Transport()
    writes = JoinedWrites(transport, asyncio.get_running_loop())
    for piece in (b"a", b"bc", b"d"):
        writes.write(piece)
    assert (transport.written, len(writes)) == ([], 4)
    await turn()
    assert (transport.written, len(writes)) == ([b"abcd"], 0)
    writes.write(b"e")
    await turn()
    assert transport.written == [b"abcd", b"e"]


async def test_many_bytes_leave_at_once() -> None:
    transport = Transport()
    writes = JoinedWrites(transport, asyncio.get_running_loop())
    writes.write(b"a")
    writes.write(b"b" * (FULL - 1))
    assert transport.written == [b"a" + b"b" * (FULL - 1)]
    writes.write(b"c")
    await turn()
    await turn()
    assert transport.written[1:] == [b"c"]


async def test_what_is_flushed_is_not_written_again() -> None:
    transport = Transport()
    writes = JoinedWrites(transport, asyncio.get_running_loop())
    writes.write(b"a")
    writes.flush()
    writes.flush()
    await turn()
    assert transport.written == [b"a"]


async def test_what_is_cleared_is_written_to_nobody() -> None:
    transport = Transport()
    writes = JoinedWrites(transport, asyncio.get_running_loop())
    writes.write(b"a")
    writes.clear()
    await turn()
    assert transport.written == []


def test_only_transports_of_asyncio_need_it() -> None:
    with asyncio.Runner() as runner:
        assert joined(Transport(), runner.get_loop()) is None


async def burst(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "websocket":
        raise NotImplementedError(scope["type"])
    await receive()
    await send({"type": "websocket.accept"})
    await receive()
    for at in range(100):
        await send({"type": "websocket.send", "text": str(at)})
    await send({"type": "websocket.close"})


def test_a_burst_is_one_write_and_arrives_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    flush = JoinedWrites.flush

    def noted(self: JoinedWrites) -> None:
        flushed.append(len(self))
        flush(self)

    monkeypatch.setattr(JoinedWrites, "flush", noted)

    async def main() -> None:
        async with (
            wsgate.testing.serve(burst) as server,
            websockets.connect(server.ws_url) as client,
        ):
            await client.send("go")
            assert [await client.recv() for _ in range(100)] == [str(at) for at in range(100)]
            await client.wait_closed()
            assert client.close_code == 1000

    with asyncio.Runner() as runner:  # asyncio's own loop
        runner.run(main())
    # 10 numbers of one digit and 90 of two, each behind a header of two octets; and the Close.
    assert 10 * 3 + 90 * 4 + 4 in flushed
