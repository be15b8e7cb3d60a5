"""What runs in the process of the topics hub: serves it until the process that started it ends."""

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import time
from dataclasses import asdict, dataclass

from wsgate import streams
from wsgate.brokers.local.hub_process import HubServer
from wsgate.process import event_loop
from wsgate.process.channel import Channel
from wsgate.topics.hub import Hub

NAME = "topics-hub"  # in its command line
# A terminal and a service manager send these to all processes. The hub ends after the workers.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SETTLE_SECONDS = 1.0  # for the workers to connect, after an earlier hub has died
_LONGEST = 65_536  # bytes of the assignment


@dataclass(frozen=True, slots=True)
class HubAssignment:
    """The settings of the hub, which it reads at its start.

    sock: the descriptor of its listening socket. folder: what it removes if the process that
    started it was killed; None for nothing. max_bytes: of all kept messages. is_successor: an
    earlier hub has died.
    """

    sock: int
    folder: str | None
    max_bytes: int
    is_successor: bool

    def pack(self) -> bytes:
        """Return it as a line."""
        return json.dumps(asdict(self)).encode() + b"\n"


def main(descriptor: int) -> None:
    """Serve until the other end of the channel is closed.

    Args:
        descriptor: Of the channel to the process that started this one.
    """
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)  # they were blocked until here
    streams.open_missing()
    event_loop.raise_file_limit()
    with socket.socket(fileno=descriptor) as sock:
        assignment = _receive(sock)
        if assignment is not None:
            with event_loop.opened(event_loop.factory("auto")) as loop:
                loop.run_until_complete(_serve(assignment, sock))


def _receive(sock: socket.socket) -> HubAssignment | None:
    """Return the assignment; None if the process that started this one has ended."""
    line = b""
    while not line.endswith(b"\n") and len(line) < _LONGEST:
        piece = sock.recv(1)
        if not piece:
            return None
        line += piece
    return HubAssignment(**json.loads(line))


async def _serve(assignment: HubAssignment, sock: socket.socket) -> None:
    channel = await Channel.open(sock.dup())
    settled_at = asyncio.get_running_loop().time() + SETTLE_SECONDS
    hub = Hub(
        assignment.max_bytes,
        start=time.time_ns() // 1000,
        settled_at=settled_at if assignment.is_successor else 0.0,
    )
    server = HubServer(hub, lambda text: channel.send({"warning": text}))
    await server.start(socket.socket(fileno=assignment.sock))
    async for _ in channel.lines():
        pass  # the other end says nothing more: it closes the channel
    await server.stop()
    channel.close()
    if assignment.folder is not None:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(shutil.rmtree, assignment.folder)
