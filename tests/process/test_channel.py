"""Lines between the supervisor and a worker: cut, too long, or no lines at all."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given, strategies as st

from tests.harness import loops
from tests.harness.waiting import nothing_left, pause, soon
from wsgate.errors import StartupFailed
from wsgate.process import channel as module
from wsgate.process.channel import Channel, Line, failure_line, failure_of

LOOPS = loops.LOOPS


@pytest.fixture(autouse=True)
async def _nothing_left() -> AsyncIterator[None]:
    async with nothing_left():
        yield


@pytest.fixture
def other() -> Iterator[socket.socket]:
    """Return the other end of the channel of a test."""
    ends.clear()
    ends.extend(socket.socketpair())
    with ends[1]:
        yield ends[1]


ends: list[socket.socket] = []


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Channel]:
    channel = await Channel.open(ends[0])
    try:
        yield channel
    finally:
        channel.close()
        await asyncio.sleep(0)


async def lines(data: bytes, other: socket.socket) -> list[Line]:
    """Return the lines that are read when the other end sends some bytes and ends."""
    async with opened() as channel:
        other.sendall(data)
        other.close()
        return [line async for line in channel.lines()]


async def test_lines_both_ways(other: socket.socket) -> None:
    async with opened() as channel:
        reading = channel.lines()
        other.sendall(Channel.encode({"ready": ["a\nb", "\u20ac"]}))
        assert await soon(anext(reading)) == {"ready": ["a\nb", "\u20ac"]}
        channel.send({"n": 1})
        other.setblocking(False)
        data = await soon(asyncio.get_running_loop().sock_recv(other, 100))
        assert data == b'{"n": 1}\n'
        other.sendall(Channel.encode({}))
        assert await soon(anext(reading)) == {}
        await reading.aclose()


async def test_nothing_is_sent_to_an_end_that_is_gone(other: socket.socket) -> None:
    async with opened() as channel:
        other.close()
        assert [line async for line in channel.lines()] == []
        channel.send({"n": 1})
        channel.send({"n": 2})
        async with asyncio.timeout(10):
            while channel.is_readable:
                await pause(0.01)
        await asyncio.sleep(0)
        channel.send({"n": 3})


@pytest.mark.parametrize("cut", [b"", b"{", b'{"n": 2}'], ids=["end", "part", "no end of line"])
async def test_a_line_that_is_cut_is_left_out(other: socket.socket, cut: bytes) -> None:
    assert await lines(b'{"n": 1}\n' + cut, other) == [{"n": 1}]


async def test_an_end_with_unread_data(other: socket.socket) -> None:
    async with opened() as channel:
        channel.send({"n": 1})
        await asyncio.sleep(0)
        other.close()  # which has not read it: the connection is reset
        assert [line async for line in channel.lines()] == []


@pytest.mark.parametrize(
    "garbage",
    [
        *(b"\n", b"hello\n", b"\xff\xfe\n", b"{'n': 2}\n"),
        *(b"5\n", b"[1]\n", b"null\n", b'"a"\n', b"[" * 200_000 + b"\n"),
    ],
    ids=lambda data: repr(data[:9]),
)
async def test_what_is_no_line_ends_it(other: socket.socket, garbage: bytes) -> None:
    data = b'{"n": 1}\n' + garbage + b'{"n": 2}\n'
    sending = asyncio.create_task(asyncio.to_thread(send_all, other, data))
    async with opened() as channel:
        assert [line async for line in channel.lines()] == [{"n": 1}]
    await sending


def send_all(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.sendall(data)
    sock.close()


async def test_a_line_that_is_too_long_ends_it(
    other: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LONGEST_LINE", 100)
    short, long = Channel.encode({"t": "x" * 80}), Channel.encode({"t": "x" * 100})
    assert await lines(short + long + short, other) == [json.loads(short)]


async def test_a_reader_that_is_cancelled(other: socket.socket) -> None:
    async with opened() as channel:
        reading = asyncio.ensure_future(anext(channel.lines()))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        other.sendall(b"{}\n")
        assert [await soon(anext(channel.lines()))] == [{}]


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text()))
def test_an_encoded_line_is_one_line(line: Line) -> None:
    encoded = Channel.encode(line)
    assert encoded.count(b"\n") == 1
    assert json.loads(encoded) == line


@pytest.mark.parametrize("character", ["x", "\u20ac", "\U0001f600"])
async def test_a_very_long_reason_arrives_in_part(other: socket.socket, character: str) -> None:
    async with opened() as channel:
        line = failure_line(StartupFailed(character * 2**20))
        sending = asyncio.get_running_loop().run_in_executor(
            None, other.sendall, Channel.encode(line)
        )
        assert str(failure_of(await soon(anext(channel.lines())))) == character * 2**16
        await sending
