"""A Redis server for a load: killed by -9, and started again with what it has kept."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 20.0
AWAY_SECONDS = 2.0
DURABLE = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")


class NoRedis(Exception):
    """The message is one line that says why."""


class RedisServer:
    """A server on a port of 127.0.0.1, which keeps all that it has answered."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            raise NoRedis("needs redis-server")
        where = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder))
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, *where, *DURABLE], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise NoRedis("redis-server does not start")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
                sock.sendall(b"PING\r\n")
                return sock.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def kill(self) -> None:
        """Kill it by -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def restart(self) -> None:
        """Kill it, and start it again after a while."""
        self.kill()
        await asyncio.sleep(AWAY_SECONDS)
        await asyncio.to_thread(self.start)


@contextlib.contextmanager
def run_redis(port: int, folder: Path) -> Iterator[RedisServer]:
    """Run a server; kill it at the end."""
    server = RedisServer(port, folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
