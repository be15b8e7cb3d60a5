"""Writes of one loop iteration become one call of each transport."""

import asyncio

import pytest
import websockets

import wsgate.testing
from tests.harness import loops
from wsgate.server.write_batch import FULL, Outbox
from wsgate.types import Receive, Scope, Send


class Transport(asyncio.WriteTransport):
    """A transport that notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.breaks = False
        self.unsent = 0

    def write(self, data: object) -> None:
        assert isinstance(data, (bytes, bytearray))
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.breaks

    def get_write_buffer_size(self) -> int:
        return self.unsent


def outbox() -> Outbox:
    return Outbox(asyncio.get_running_loop().call_soon, lambda write, data: write(data))


async def turn() -> None:
    await asyncio.sleep(0)


async def test_writes_of_one_loop_iteration_are_one_write_per_connection() -> None:
    one, other, box = Transport(), Transport(), outbox()
    for piece in (b"a", b"bc", b"d"):
        assert box.put(one, piece)
        assert box.put(other, piece * 2)
    assert (one.written, other.written) == ([], [])
    assert set(box.waiting) == {one, other}
    await turn()
    assert (one.written, other.written) == ([b"abcd"], [b"aabcbcdd"])
    assert not box.waiting
    assert box.put(one, b"e")
    await turn()
    assert one.written == [b"abcd", b"e"]


async def test_many_bytes_are_written_immediately_after_earlier_data() -> None:
    transport, box = Transport(), outbox()
    box.put(transport, b"a")
    assert box.put(transport, b"b" * (FULL - 1))
    assert transport.written == [b"a" + b"b" * (FULL - 1)]
    assert box.put(transport, b"c" * FULL)
    assert transport.written[1:] == [b"c" * FULL]
    box.put(transport, b"d")
    await turn()
    await turn()
    assert transport.written[2:] == [b"d"]


async def test_a_transport_that_buffers_is_written_immediately() -> None:
    transport, box = Transport(), outbox()
    box.put(transport, b"a")
    transport.unsent = 1
    assert box.put(transport, b"b")
    assert transport.written == [b"ab"]


async def test_a_broken_transport_is_reported() -> None:
    class Breaking(Transport):
        def write(self, data: object) -> None:
            self.breaks = True

    transport, box = Breaking(), outbox()
    assert not box.put(transport, b"b" * FULL)
    assert not box.put(transport, b"a")
    assert not box.waiting


async def test_flushed_data_is_not_written_again() -> None:
    transport, box = Transport(), outbox()
    box.put(transport, b"a")
    box.flush(transport)
    box.flush(transport)
    await turn()
    assert transport.written == [b"a"]


async def test_nothing_is_written_to_a_closed_or_removed_connection() -> None:
    gone, forgotten, other, box = Transport(), Transport(), Transport(), outbox()
    for transport in (gone, forgotten, other):
        box.put(transport, b"a")
    gone.breaks = True
    box.forget(forgotten)
    box.forget(forgotten)
    await turn()
    assert (gone.written, forgotten.written, other.written) == ([], [], [b"a"])
    box.put(other, b"b")
    other.breaks = True
    box.flush(other)
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
    flush = Outbox._flush

    def noted(self: Outbox) -> None:
        flushed.extend(map(len, self.waiting.values()))
        flush(self)

    monkeypatch.setattr(Outbox, "_flush", noted)
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
