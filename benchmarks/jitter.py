"""Clients that lose their network while messages are published and servers are restarted.

Each client joins a room, is there for a while, loses its network for some seconds, and joins again
with the id of the last message that it has. The network is lost in two ways: the socket is reset,
or it is silent: it is never read again, and the server gets no FIN. The servers are jitter_app.py.

Messages are numbers. A first one is there before all others, so that each client has an id from the
start; a last one tells that everything before it has arrived. Neither is counted.
"""

import asyncio
import contextlib
import math
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from benchmarks import restarts
from benchmarks.jitter_connection import ANSWER_SECONDS, Connection, connect
from benchmarks.readiness import serving_pids
from benchmarks.redis_server import RedisServer

# What the app sends beside messages.
COMPLETE, INCOMPLETE = "complete", "incomplete"
OK, UNAVAILABLE = "ok", "unavailable"
RETURN_SECONDS = (0.1, 1.0)  # until a client comes back that was closed or refused by the server
JOIN_AT_ONCE = 50  # handshakes at the beginning
END_SECONDS = 60.0  # from the last message until all clients have it

# The columns of the table, by the key in the results.
COLUMNS = {
    "delivered_percent": "Delivered, %",
    "missing": "Missing",
    "twice": "Twice",
    "incomplete": "Told that it is incomplete",
    "reconnects": "Reconnects",
    "repeated": "Publishes repeated",
}

Event = Callable[[], Awaitable[None]]
Events = Mapping[int, Event]  # by the number of the message that is published at that moment


@dataclass(frozen=True)
class Plan:
    """What happens.

    Attributes:
        clients: How many there are.
        messages: How many are published.
        interval: Seconds between two of them.
        up: The least and the most seconds from a client's arrival to the loss of its network.
        down: The least and the most seconds for which it is lost.
        seed: Of the random numbers.
    """

    clients: int
    messages: int
    interval: float = 0.5
    up: tuple[float, float] = (2.0, 12.0)
    down: tuple[float, float] = (1.0, 5.0)
    seed: int = 14


class Client:
    """One client. What it gets is held until it knows whether that is complete.

    Attributes:
        last: The number of its newest message, None before the first one.
    """

    def __init__(self, room: "Room") -> None:
        self.last: int | None = None
        self._room = room
        self._held: list[int] | None = []

    async def run(self) -> None:
        """Join, and lose the network, again and again, until it is cancelled."""
        room, random = self._room, self._room.random
        while True:
            down = RETURN_SECONDS
            with contextlib.suppress(OSError):
                connection = await self._join()
                if not await self._is_ended(connection):
                    self._lose_network(connection)
                    down = room.plan.down
            await asyncio.sleep(random.uniform(*down))
            room.reconnects += 1

    async def _join(self) -> Connection:
        self._held = []
        query = "" if self.last is None else f"?after={self.last}"
        async with self._room.handshakes:
            connection = await connect(self._room.next_port(), f"/join{query}", self._take)
        self._room.opened.append(connection)
        return connection

    async def _is_ended(self, connection: Connection) -> bool:
        """Wait until the server ends the connection, or it is time to lose the network."""
        room = self._room
        while not connection.ended.done():
            await asyncio.wait([connection.ended], timeout=room.random.uniform(*room.plan.up))
            if room.is_stormy and not connection.ended.done():
                return False
        return True

    def _lose_network(self, connection: Connection) -> None:
        if self._room.random.random() < 0.5:
            connection.reset()
        else:
            connection.fall_silent()

    def _take(self, text: str) -> None:
        if text not in (COMPLETE, INCOMPLETE):
            if self._held is None:
                self._count(int(text))
            else:
                self._held.append(int(text))
            return
        self._room.incomplete += text == INCOMPLETE
        held, self._held = self._held or [], None
        for number in held:
            self._count(number)

    def _count(self, number: int) -> None:
        if self.last is not None and number <= self.last:
            self._room.twice += 1
            return
        if self.last is not None:
            self._room.count(self.last, number)
        self.last = number
        self._room.arrived(number)


class Room:
    """All clients, and what was counted.

    Attributes:
        is_stormy: The clients lose their network.
        opened: All connections of clients.
    """

    def __init__(self, plan: Plan, ports: Sequence[int]) -> None:
        self.plan = plan
        self.random = Random(plan.seed)
        self.is_stormy = False
        self.opened: list[Connection] = []
        self.handshakes = asyncio.Semaphore(JOIN_AT_ONCE)
        self.delivered = self.missing = self.twice = self.incomplete = 0
        self.reconnects = self.repeated = 0
        self._ports = ports
        self._arrivals: dict[int, int] = {}
        self._grown = asyncio.Event()
        self._clients = [Client(self) for _ in range(plan.clients)]

    def next_port(self) -> int:
        """Return the port of a server, as a load balancer chooses one."""
        return self.random.choice(self._ports)

    def count(self, last: int, number: int) -> None:
        """Count a message that has come after another one, and those between them as missing."""
        self.missing += number - last - 1
        self.delivered += number <= self.plan.messages

    def arrived(self, number: int) -> None:
        """Notice that a client has a message."""
        self._arrivals[number] = self._arrivals.get(number, 0) + 1
        if self._arrivals[number] == self.plan.clients:
            self._grown.set()

    async def all_have(self, number: int) -> None:
        """Wait until all clients have a message."""
        while self._arrivals.get(number, 0) < self.plan.clients:
            self._grown.clear()
            await self._grown.wait()

    async def run(self, events: Events) -> dict[str, Any]:
        """Run everything; return the figures."""
        publisher = Publisher(self)
        await publisher.publish(0)
        tasks = [asyncio.create_task(client.run()) for client in self._clients]
        try:
            async with asyncio.timeout(END_SECONDS):
                await self.all_have(0)
            self.is_stormy = True
            await self._publish_all(publisher, events)
            self.is_stormy = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await self.all_have(self.plan.messages + 1)
        finally:
            await self._stop(publisher, tasks)
        return self._figures()

    async def _publish_all(self, publisher: "Publisher", events: Events) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(1, self.plan.messages + 1):
                if number in events:
                    group.create_task(_call(events[number]))
                await publisher.publish(number)
                await asyncio.sleep(self.plan.interval)
        await publisher.publish(self.plan.messages + 1)

    async def _stop(self, publisher: "Publisher", tasks: "list[asyncio.Task[None]]") -> None:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        publisher.close()
        for connection in self.opened:
            connection.reset()
        await asyncio.sleep(0)  # the transports close

    def _figures(self) -> dict[str, Any]:
        end = self.plan.messages
        self.missing += sum(end - min(client.last or 0, end) for client in self._clients)
        whole = self.plan.clients * end
        return {
            "failures": self.missing + self.twice + self.incomplete,
            "delivered_percent": math.floor(self.delivered / whole * 10_000) / 100,
            **{key: getattr(self, key) for key in COLUMNS if key != "delivered_percent"},
        }


async def _call(event: Event) -> None:
    await event()


class Publisher:
    """Publishes through a WebSocket, again and again until a message has its place."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._connection: Connection | None = None
        self._answer: asyncio.Future[str]

    async def publish(self, number: int) -> None:
        """Publish a message."""
        while not await self._try(str(number)):
            self._room.repeated += 1
            self.close()
            await asyncio.sleep(self._room.random.uniform(*RETURN_SECONDS))

    async def _try(self, text: str) -> bool:
        self._answer = asyncio.get_running_loop().create_future()
        try:
            if self._connection is None or self._connection.ended.done():
                self._connection = await connect(self._room.next_port(), "/publish", self._take)
            self._connection.send(text)
            waiting: list[asyncio.Future[Any]] = [self._answer, self._connection.ended]
            await asyncio.wait(waiting, timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            return False
        return self._answer.done() and self._answer.result() == OK

    def _take(self, text: str) -> None:
        if not self._answer.done():
            self._answer.set_result(text)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.forget()
            self._connection.transport.abort()
            self._connection = None


async def run(plan: Plan, ports: Sequence[int], events: Events) -> dict[str, Any]:
    """Run the clients against servers.

    Args:
        plan: What happens.
        ports: Of the servers.
        events: What happens to the servers: called when the message with this number is published,
            and not waited for until all are.

    Returns:
        The figures: those of COLUMNS, and their failures together.
    """
    return await Room(plan, ports).run(events)


@dataclass(frozen=True)
class Machine:
    """A server. pid: of the process that gets SIGHUP. workers: how many processes serve."""

    port: int
    pid: int
    workers: int


def measure(plan: Plan, machines: Sequence[Machine], redis: RedisServer | None) -> dict[str, Any]:
    """Run the clients, restart the servers after a third of the messages and Redis after two.

    Raises:
        NotRestarted, NoRedis: A restart has failed.
        TimeoutError: The clients cannot all join.
    """
    events: dict[int, Event] = {plan.messages // 3: partial(_restart_all, machines)}
    if redis is not None:
        events[2 * plan.messages // 3] = redis.restart
    ports = [machine.port for machine in machines]
    try:
        return asyncio.run(run(plan, ports, events))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


async def _restart_all(machines: Sequence[Machine]) -> None:
    """Restart the workers of one server after the other."""
    for machine in machines:
        before = await asyncio.to_thread(serving_pids, machine.port)
        if len(before) != machine.workers:
            raise restarts.NotRestarted(f"{len(before)} of {machine.workers} workers answer")
        os.kill(machine.pid, signal.SIGHUP)
        await restarts.wait(
            f"a restart does not end within {restarts.RESTART_SECONDS:.0f} s",
            partial(_have_ended, before),
        )


def _have_ended(pids: set[int]) -> bool:
    return not any(map(restarts.is_running, pids))
