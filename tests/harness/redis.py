"""Redis servers: started on free ports, killed, stopped and started again."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from tests.harness.programs import find_program
from tests.harness.waiting import pause
from wsgate.brokers.redis.connection import ConnectionLost, RedisConnection, connect
from wsgate.brokers.redis.url import parse_redis_url

START = 30.0  # seconds for a server to start on a loaded machine


def redis_program() -> str:
    """Return the path of redis-server; skip the test if it is not installed."""
    return find_program("redis", "redis-server", "valkey-server")


class RedisServer:
    """A Redis server in a process of its own.

    Attributes:
        port: On which it listens, also when it is started again.
        url: Its URL.
    """

    def __init__(self, folder: Path, port: int, options: Sequence[str]) -> None:
        self.port = port
        self.url = f"redis://127.0.0.1:{port}"
        self._folder = folder
        self._options = options
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self._folder / f"{self.port}.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(START):
            while not await self._answers():
                assert self._process.returncode is None, "redis-server has ended: see its log"
                await pause(0.02)

    def _command(self) -> list[str]:
        where = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder))
        return [redis_program(), *where, "--save", "", *self._options]

    async def _answers(self) -> bool:
        try:
            return bool(await self.call("PING") == b"PONG")
        except ConnectionLost:
            return False

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """Kill it by -9, and wait until it is gone."""
        if self._process is not None and self._process.returncode is None:
            self.signal(signal.SIGKILL)
            await self._process.wait()

    async def call(self, *command: str | bytes | float) -> Any:
        """Send a command over a connection of its own; return the reply."""
        async with self.connected() as connection:
            return await connection.call(*command)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[RedisConnection]:
        """Yield a connection."""
        connection = await connect(parse_redis_url(self.url), ("127.0.0.1", self.port))
        try:
            yield connection
        finally:
            await connection.close()

    async def is_replica(self) -> None:
        """Wait until it has the data of its master."""
        async with self.connected() as connection, asyncio.timeout(START):
            while b"master_link_status:up" not in await connection.call("INFO", "replication"):
                await pause(0.02)

    async def cut(self, kind: str) -> None:
        """End all connections of a kind: normal or pubsub."""
        await self.call("CLIENT", "KILL", "TYPE", kind)


class Sentinel(RedisServer):
    """A Sentinel, whose configuration is in its folder."""

    def _command(self) -> list[str]:
        path = str(self._folder / "sentinel.conf")
        return [redis_program(), path, "--sentinel", "--port", str(self.port)]


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, nor on those that are 10,000 higher.

    A server of a cluster listens on both. All are below those that the kernel gives to clients.
    Each process of a test run begins elsewhere.
    """
    ports: list[int] = []
    start = os.getpid() * 37 % 9_000
    with contextlib.ExitStack() as opened:
        for offset in range(start, start + 9_000):
            port = 11_000 + offset % 9_000
            if is_free(port, opened) and is_free(port + 10_000, opened):
                ports.append(port)
            if len(ports) == count:
                return ports
    raise AssertionError("no port is free")


def is_free(port: int, opened: contextlib.ExitStack) -> bool:
    """Return whether a port is free; it is taken until the stack is closed."""
    sock = opened.enter_context(socket.socket())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


@contextlib.asynccontextmanager
async def redis_server(folder: Path, *options: str) -> AsyncIterator[RedisServer]:
    """Run a server on a free port; kill it at the end."""
    server = RedisServer(folder, free_ports(1)[0], options)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()


@contextlib.asynccontextmanager
async def redis_cluster(folder: Path) -> AsyncIterator[list[RedisServer]]:
    """Run three servers as a cluster without replicas; kill them at the end."""
    servers = []
    async with contextlib.AsyncExitStack() as stack:
        ports = free_ports(3)
        for port in ports:
            (folder / str(port)).mkdir()
            options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
            durable = ("--appendonly", "yes", "--appendfsync", "always")
            more = ("--cluster-require-full-coverage", "no")
            server = RedisServer(folder / str(port), port, (*options, *durable, *more))
            stack.push_async_callback(server.kill)
            await server.start()
            servers.append(server)
        for number, server in enumerate(servers):
            slots = (16384 * number // 3, 16384 * (number + 1) // 3 - 1)
            await server.call("CLUSTER", "ADDSLOTSRANGE", *slots)
            for other in ports:
                await server.call("CLUSTER", "MEET", "127.0.0.1", other)
        for server in servers:
            await knows_cluster(server, len(servers))
        yield servers


async def knows_cluster(server: RedisServer, size: int) -> None:
    """Wait until a server knows which of so many has which slot."""
    async with server.connected() as connection, asyncio.timeout(START):
        while len(await connection.call("CLUSTER", "SLOTS")) < size or (
            b"cluster_state:ok" not in await connection.call("CLUSTER", "INFO")
        ):
            await pause(0.05)


@contextlib.asynccontextmanager
async def sentinels(folder: Path, master: RedisServer, count: int = 1) -> AsyncIterator[str]:
    """Run Sentinels that watch a master as `main`; yield the URL with them."""
    ports = free_ports(count)
    async with contextlib.AsyncExitStack() as stack:
        for port in ports:
            own = folder / f"sentinel{port}"
            own.mkdir()
            (own / "sentinel.conf").write_text(
                f"sentinel monitor main 127.0.0.1 {master.port} {count // 2 + 1}\n"
                "sentinel down-after-milliseconds main 500\n"
                "sentinel failover-timeout main 3000\n"
            )
            sentinel = Sentinel(own, port, ())
            stack.push_async_callback(sentinel.kill)
            await sentinel.start()
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
        yield f"redis+sentinel://{addresses}/main"
