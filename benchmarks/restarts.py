"""Restart a server under load: clients count each handshake and request that fails, by its kind.

The clients are the same for all servers:

- a handshake opens a TCP connection and a WebSocket, waits for the first message, and closes;
- a keep-alive client sends one request after the other on a connection. It opens another one after
  a response with `Connection: close`, and if the server has closed the connection before the
  request was sent. A request that was sent and gets no whole response has failed, whatever the
  reason.

Nothing is sent again. After a failure a client waits RETRY_SECONDS.
"""

import asyncio
import contextlib
import itertools
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

HANDSHAKERS = 4
PAUSES = (0.0, 0.0, 0.01, 0.01)  # seconds between two requests, for each keep-alive client
ANSWER_SECONDS = 10.0
RETRY_SECONDS = 0.01
RESTART_SECONDS = 60.0
CALM_SECONDS = 0.2  # between two restarts
ADDRESSES = 16  # source addresses, so that no address runs out of ports

GET = b"GET /pid HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HANDSHAKE = (
    b"GET /pid HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TEXT = 0x81
CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"  # 1000, with a masking key of zeros

# The kinds of failures, by the key in the results.
KINDS = {
    "refused": "Refused",
    "reset": "Reset",
    "cut": "Closed without a response",
    "silent": f"No response in {ANSWER_SECONDS:.0f} s",
    "rejected": "Other status",
}

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Rejected(Exception):
    """The response has another status than expected."""


FAILURES = (ConnectionError, TimeoutError, EOFError, Rejected)


class NotRestarted(Exception):
    """The message is one line that says why."""


def measure(port: int, pid: int, workers: int, restarts: int) -> dict[str, Any]:
    """Restart a server with SIGHUP, one restart after the other, under load.

    Args:
        port: Of the server.
        pid: The process that gets the signal.
        workers: How many processes serve.
        restarts: How often.

    Returns:
        The figures: restarts, handshakes and requests answered, failures by kind and all of them,
        and the mean seconds of a restart.

    Raises:
        NotRestarted: A restart took too long.
        OSError: There is no such process, or the clients lack files or ports.
    """
    return asyncio.run(_measure(port, pid, workers, restarts))


async def _measure(port: int, pid: int, workers: int, restarts: int) -> dict[str, Any]:
    clients = Clients(port)
    load = asyncio.create_task(clients.run())
    restarting = asyncio.create_task(_restart_all(pid, clients, workers, restarts))
    try:
        # The load ends only by a fault of the clients.
        await asyncio.wait([load, restarting], return_when=asyncio.FIRST_COMPLETED)
        took = await (load if load.done() else restarting)
    finally:
        load.cancel()
        restarting.cancel()
        await asyncio.wait([load, restarting])
    return {
        "restarts": restarts,
        "handshakes": clients.done["handshakes"],
        "requests": clients.done["requests"],
        "failures": clients.failures.total(),
        **{kind: clients.failures[kind] for kind in KINDS},
        "restart_seconds": round(sum(took) / restarts, 2),
    }


async def _restart_all(pid: int, clients: "Clients", workers: int, restarts: int) -> list[float]:
    """Restart again and again; return how many seconds each restart took."""
    await wait("the workers do not all serve", lambda: len(clients.pids) >= workers)
    return [await _restart(pid, clients, workers) for _ in range(restarts)]


async def _restart(pid: int, clients: "Clients", workers: int) -> float:
    """Restart all workers once; return how many seconds it took until only new ones serve."""
    began = time.monotonic()
    before = frozenset(clients.pids)
    clients.pids.clear()
    os.kill(pid, signal.SIGHUP)
    await wait(
        f"a restart does not end within {RESTART_SECONDS:.0f} s",
        lambda: len(clients.pids - before) >= workers and not any(map(is_running, before)),
    )
    clients.pids -= before
    took = time.monotonic() - began
    await asyncio.sleep(CALM_SECONDS)
    return took


async def wait(otherwise: str, is_reached: Callable[[], bool]) -> None:
    """Wait until something is reached.

    Raises:
        NotRestarted: It takes too long; with the text `otherwise`.
    """
    try:
        async with asyncio.timeout(RESTART_SECONDS):
            while not is_reached():  # noqa: ASYNC110  # asks /proc as well
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise NotRestarted(otherwise) from None


def is_running(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


class Clients:
    """Clients that send handshakes and requests until they are cancelled.

    Attributes:
        done: How many handshakes and requests were answered.
        failures: How many failed, by kind.
        pids: The processes that have answered since it was last cleared.
    """

    def __init__(self, port: int) -> None:
        self.done: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.pids: set[int] = set()
        self._port = port
        self._turns = itertools.count()

    async def run(self) -> NoReturn:
        """Send until it is cancelled.

        Raises:
            OSError: The clients lack files or ports, which is not the fault of the server.
        """
        handshakes = [self._repeat(self.shake_hands) for _ in range(HANDSHAKERS)]
        requests = [self._repeat(partial(self.keep_alive, pause)) for pause in PAUSES]
        await asyncio.gather(*handshakes, *requests)
        raise AssertionError("clients never end")

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except FAILURES as failure:
                self.failures[kind_of(failure)] += 1
                await asyncio.sleep(RETRY_SECONDS)

    async def _connect(self) -> Connection:
        address = f"127.0.0.{next(self._turns) % ADDRESSES + 1}"
        async with asyncio.timeout(ANSWER_SECONDS):
            return await asyncio.open_connection("127.0.0.1", self._port, local_addr=(address, 0))

    async def shake_hands(self) -> None:
        """Open a WebSocket, read its first message, and close it."""
        reader, writer = await self._connect()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write(HANDSHAKE)
                await _read_head(reader, b"HTTP/1.1 101")
            self.done["handshakes"] += 1
            # From here on a restart may close the WebSocket, which is no failure.
            with contextlib.suppress(*FAILURES):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._read_pid(reader)
                    writer.write(CLOSE)
                    await reader.read()
        finally:
            writer.close()

    async def _read_pid(self, reader: asyncio.StreamReader) -> None:
        first, length = await reader.readexactly(2)
        payload = await reader.readexactly(length)
        if first == TEXT:
            self.pids.add(int(payload))

    async def keep_alive(self, pause: float) -> None:
        """Send requests on one connection until the server closes it after a response."""
        reader, writer = await self._connect()
        try:
            while not reader.at_eof():
                async with asyncio.timeout(ANSWER_SECONDS):
                    writer.write(GET)
                    is_last = await self._read_response(reader)
                self.done["requests"] += 1
                if is_last:
                    return
                await asyncio.sleep(pause)
        finally:
            writer.close()

    async def _read_response(self, reader: asyncio.StreamReader) -> bool:
        """Read a response; return whether it is the last one of its connection."""
        head = await _read_head(reader, b"HTTP/1.1 200")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if length is None:
            raise Rejected("no Content-Length")
        self.pids.add(int(await reader.readexactly(int(length[1]))))
        return b"\r\nconnection: close" in head.lower()


async def _read_head(reader: asyncio.StreamReader, start: bytes) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(start):
        raise Rejected(head.partition(b"\r\n")[0].decode("latin-1"))
    return head


def kind_of(failure: Exception) -> str:
    """Return the kind of a failure: a key of KINDS."""
    match failure:
        case Rejected():
            return "rejected"
        case TimeoutError():
            return "silent"
        case ConnectionRefusedError():
            return "refused"
        case EOFError():
            return "cut"
        case _:
            return "reset"
