"""Connections that carry messages."""

import asyncio
import socket

from tests.harness.log import capture_log
from tests.harness.loops import LOOPS
from tests.harness.waiting import is_waiting, soon, start_task, until
from wsgate.brokers.local.frame_connection import HIGH_WATER, FrameConnection
from wsgate.topics.messages import Delivered, Detach, Message
from wsgate.topics.wire_format import encode

__all__ = ["LOOPS"]


class End:
    """One end of a connection. received: what the other end has sent."""

    def __init__(self) -> None:
        self.received: list[Message] = []
        self.has_ended = False

    def _take(self, _: FrameConnection, message: Message) -> None:
        self.received.append(message)

    def _end(self, _: FrameConnection) -> None:
        self.has_ended = True

    async def open(self, sock: socket.socket) -> FrameConnection:
        """Connect it to a socket."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(
            lambda: FrameConnection(lambda _: None, self._take, self._end), sock=sock
        )
        return connection


async def test_messages_of_one_iteration_leave_in_one_write() -> None:
    own, other = socket.socketpair()
    with other:
        connection = await End().open(own)
        messages = [Detach(str(number)) for number in range(3)]
        for message in messages:
            connection.send(message)
        assert connection.waiting == sum(len(encode(message)) for message in messages)
        frames = b"".join(map(encode, messages))
        loop = asyncio.get_running_loop()
        other.setblocking(False)
        assert await soon(loop.sock_recv(other, 1000)) == frames
        connection.send(Detach("last"))
        connection.close()
        assert await soon(loop.sock_recv(other, 1000)) == encode(Detach("last"))
        assert await soon(loop.sock_recv(other, 1000)) == b""
        connection.send(Detach("too late"))
        assert not connection.waiting


async def test_drain_waits_for_the_other_end() -> None:
    own, other = socket.socketpair()
    end = End()
    connection = await end.open(own)
    connection.send(Delivered(0, "t", None, 0, 0, bytes(3 * HIGH_WATER)))
    assert connection.is_full  # so that whoever sends in a loop can wait
    draining = start_task(connection.drain())
    assert await is_waiting(draining)
    reader = End()
    reading = await reader.open(other)
    await soon(draining)
    await until(lambda: not connection.is_full)
    reading.abort()
    await until(lambda: end.has_ended)
    await soon(connection.drain())
    assert connection.is_closing


async def test_what_is_no_frame_ends_the_connection() -> None:
    own, other = socket.socketpair()
    with capture_log() as log, other:
        end = End()
        await end.open(own)
        other.send(encode(Detach("x")) + b"\0\0\0\1\0")
        await until(lambda: end.has_ended)
    assert not end.received  # they came in one piece
    assert log.errors == ["A connection of topics is closed: a message of the unknown class 0"]
