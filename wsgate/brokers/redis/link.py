"""What both connections to a server have in common: they are kept up."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from wsgate import loggers
from wsgate.brokers.redis.connection import ConnectionLost, RedisConnection
from wsgate.brokers.redis.health import Health

Connect = Callable[[], Awaitable[RedisConnection]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds.

    ping_interval: between two Pings, 0 for none. ping_timeout: for the answer; then the connection
    is given up. backoff_min, backoff_max: the bounds of the wait before a connection is tried
    again; the wait is chosen at random up to a limit that doubles with each failure.
    """

    ping_interval: float = 3.0
    ping_timeout: float = 5.0
    backoff_min: float = 0.1
    backoff_max: float = 5.0


TIMING = Timing()


class Link:
    """One connection that is opened again whenever it has ended.

    Args:
        name: Of the server, for the log.
        connect: Opens a connection; raises ConnectionLost.
        timing: Its intervals and deadlines.
        health: Gets to know when it is up and down.

    Attributes:
        is_up: There is a connection, and it was set up.
        is_away: The connection has ended, or could not be opened; at first False.
        reason: Why, in one line; "" while it is not away.
        read_count: How many replies and messages were read.
        on_down: Called each time that a connection has ended or could not be opened.
    """

    def __init__(self, name: str, connect: Connect, timing: Timing, health: Health) -> None:
        self.name = name
        self.is_up = self.is_away = False
        self.reason = ""
        self.read_count = 0
        self.on_down: Callable[[], object] = _do_nothing
        self._connect = connect
        self._timing = timing
        self._health = health
        self._task: asyncio.Task[None] | None = None
        self._failures = 0

    def start(self) -> None:
        """Connect, and stay connected."""
        self._health.expect(self)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Close the connection and open no other."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                await self._connect_and_serve()
            except ConnectionLost as error:
                self.reason = str(error)
            except Exception as error:  # noqa: BLE001  # a link that ends would never come back
                loggers.error.exception("Redis %s: the connection has failed", self.name)
                self.reason = type(error).__name__
            self._failures += 1
            self.is_away = True
            self._health.note_down(self, self.reason)
            self.on_down()
            await asyncio.sleep(self._backoff())

    def _backoff(self) -> float:
        timing = self._timing
        limit = min(timing.backoff_min * 2 ** min(self._failures, 20), timing.backoff_max)
        return random.uniform(timing.backoff_min / 2, limit)  # noqa: S311  # jitter, no secret

    async def _connect_and_serve(self) -> None:
        connection = await self._connect()
        try:
            async with asyncio.timeout(self._timing.ping_timeout):
                await self.set_up(connection)
            self._failures = 0
            self.is_up, self.is_away, self.reason = True, False, ""
            self._health.note_up(self)
            self.note_up()
            watch = [self._watch()] if self._timing.ping_interval else []
            await run_together(*self.parts(connection), *watch)
        except TimeoutError:
            raise ConnectionLost(f"no answer in {self._timing.ping_timeout:g} s") from None
        finally:
            self.is_up = False
            self.tear_down()
            await connection.close()

    async def _watch(self) -> None:
        """Ping at intervals. A connection may be lost without any sign of it.

        Whatever is read is a sign of life: the answer to the Ping may come after much else.
        """
        timeout, time = self._timing.ping_timeout, asyncio.get_running_loop().time
        while True:
            sent_at = time()
            ping = asyncio.ensure_future(self.ping())
            try:
                while not ping.done():
                    read = self.read_count
                    await asyncio.wait([ping], timeout=timeout)
                    if not ping.done() and read == self.read_count:
                        raise ConnectionLost(f"no answer in {timeout:g} s")
                await ping
                self._health.lag = time() - sent_at
            finally:
                ping.cancel()
            await asyncio.sleep(self._timing.ping_interval)

    async def set_up(self, connection: RedisConnection) -> None:
        """Prepare a new connection, before anything else is sent."""

    def note_up(self) -> None:
        """Act on a connection that can be used now."""

    def tear_down(self) -> None:
        """Forget what was expected of a connection that has ended."""

    def parts(self, connection: RedisConnection) -> list[Coroutine[Any, Any, None]]:
        """Return what runs while there is a connection: it reads and writes."""
        raise NotImplementedError

    async def ping(self) -> None:
        """Send a Ping, and wait for the answer."""
        raise NotImplementedError


async def run_together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run coroutines until the first one ends; cancel the others, and raise its exception."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        if task in done:
            task.result()


def _do_nothing() -> None:
    """Stand in for a callback."""
