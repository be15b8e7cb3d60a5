"""Hubs on a Unix socket in the process of the test, and the workers that connect to them."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.harness.waiting import soon, until
from wsgate.brokers.local import worker_socket
from wsgate.brokers.local.broker import LocalBroker
from wsgate.brokers.local.frame_connection import FrameConnection
from wsgate.brokers.local.hub_process import HubServer
from wsgate.brokers.local.peer import Peer
from wsgate.topics.hub import Hub
from wsgate.topics.messages import VERSION, Hello, Message, Welcome
from wsgate.topics.presence import Change
from wsgate.topics.publication import Publication
from wsgate.topics.rules import PLAIN, RuleBook, Rules

Data = str | bytes
SETTLE = 0.05  # seconds until a hub that follows another one gives places
_M = TypeVar("_M")


class FakeWorker:
    """A Receiver that keeps what it gets.

    delivered: topic, data and excluded socket of each publication. losses: the topics that were
    lost. changes: members who have joined or left.
    """

    def __init__(self) -> None:
        self.rules = RuleBook()
        self.rules.add("room*", Rules(history=100))
        self.rules.add("short*", Rules(history=1))
        self.publications: list[Publication] = []
        self.delivered: list[tuple[str, Data, object]] = []
        self.losses: list[str] = []
        self.changes: list[Change] = []
        self.drops: list[str] = []
        self.counts: dict[str, int] = {}

    def deliver(self, publication: Publication, excluded: object | None) -> None:
        """Keep a publication."""
        self.publications.append(publication)
        self.delivered.append((publication.topic, publication.data, excluded))

    def texts(self, topic: str) -> list[Data]:
        """Return what was delivered of a topic."""
        return [data for name, data, _ in self.delivered if name == topic]

    def change(self, change: Change) -> None:
        """Keep a change."""
        self.changes.append(change)

    def subscribers(self, topic: str) -> int:
        """Return what the test has set."""
        return self.counts.get(topic, 0)

    def lost(self, topic: str) -> None:
        """Keep the topic."""
        self.losses.append(topic)

    def count_dropped(self, cause: str) -> None:
        """Keep the cause."""
        self.drops.append(cause)

    def rules_of(self, topic: str) -> Rules:
        """Return the rules of a topic."""
        return self.rules.find(topic) or PLAIN

    def rule_entries(self) -> Sequence[tuple[str, Rules]]:
        """Return all rules."""
        return self.rules.entries


class Own:
    """A worker with its broker."""

    def __init__(self, path: Path, timeout: float, max_bytes: int) -> None:
        self.worker = FakeWorker()
        self.broker = LocalBroker(lambda: str(path), timeout, max_bytes)

    async def publish(
        self,
        topic: str,
        data: Data,
        id: str | None = None,
        *,
        excluded: object | None = None,
        is_kept: bool = True,
    ) -> Publication:
        """Publish a message and return it."""
        publication = Publication(topic, data, id)
        rules = self.worker.rules_of(topic)
        await self.broker.publish(publication, rules, excluded, is_kept=is_kept)
        return publication

    async def connected(self) -> None:
        """Wait until there is a connection."""
        await until(lambda: self.broker._link.connection is not None)

    @property
    def name(self) -> str:
        """The name by which other workers know it."""
        return self.broker._mesh.name

    @property
    def peers(self) -> list[Peer]:
        """The other workers, as it sees them."""
        return list(self.broker._mesh.peers.values())

    @property
    def pairs(self) -> list[FrameConnection]:
        """Its connections to other workers."""
        return [peer.connection for peer in self.peers if peer.connection is not None]

    def freeze(self) -> None:
        """Read nothing more of other workers, as a process that is stopped."""
        for pair in self.pairs:
            assert pair._transport is not None
            pair._transport.pause_reading()

    def run_on(self) -> None:
        """Read again."""
        for pair in self.pairs:
            assert pair._transport is not None
            pair._transport.resume_reading()

    def cut(self) -> None:
        """Cut the connection."""
        connection = self.broker._link.connection
        assert connection is not None
        connection.abort()

    async def knows(self, count: int) -> None:
        """Wait until it knows so many other workers."""
        await until(lambda: len(self.peers) == count)

    async def gets(self, topic: str, text: Data) -> None:
        """Wait until a message of a topic was delivered, whatever else was."""
        await until(lambda: text in self.worker.texts(topic))

    async def has(self, topic: str, *texts: Data) -> None:
        """Wait until exactly these messages of a topic were delivered, in order."""
        await until(lambda: len(self.worker.texts(topic)) >= len(texts))
        assert self.worker.texts(topic) == list(texts)


class Machine:
    """The workers of one machine, and their hub.

    Attributes:
        hub: The server of the hub that runs.
        reports: What the hubs have reported.
    """

    hub: HubServer

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reports: list[str] = []
        self._starts = 1_000_000
        self._owns: list[Own] = []

    async def start_hub(self, max_bytes: int = 10**9) -> None:
        """Start a hub, at the place of the one before."""
        is_successor = hasattr(self, "hub")
        self._starts += 1_000_000
        settled_at = asyncio.get_running_loop().time() + SETTLE if is_successor else 0.0
        hub = Hub(max_bytes, self._starts, settled_at)
        self.hub = HubServer(hub, self.reports.append)
        await self.hub.start(listen(self.path))

    async def stop_hub(self) -> None:
        """End the hub: what it has in memory is lost."""
        await self.hub.stop()
        await until(lambda: not any(own.broker._link.connection for own in self._owns))
        self.path.unlink(missing_ok=True)

    def file_of(self, own: Own) -> Path:
        """Return the path of a worker's own socket."""
        return Path(worker_socket.path_of(str(self.path), own.name))

    async def synced(self) -> None:
        """Wait until each worker is connected to all others, and knows what they have attached."""

        def is_synced(own: Own) -> bool:
            is_complete = len(own.peers) == len(self._owns) - 1
            return is_complete and all(peer.is_synced for peer in own.peers)

        await until(lambda: all(map(is_synced, self._owns)))

    async def replace_hub(self) -> None:
        """End the hub, and start another one."""
        await self.stop_hub()
        await self.start_hub()

    async def worker(self, *topics: str, timeout: float = 10.0, max_bytes: int = 10**9) -> Own:
        """Start a worker that has attached these topics."""
        own = Own(self.path, timeout, max_bytes)
        self._owns.append(own)
        await own.broker.start(own.worker)
        for topic in topics:
            await soon(own.broker.attach(topic))
        return own

    async def stop(self) -> None:
        """Stop all."""
        for own in self._owns:
            await own.broker.stop()
        if hasattr(self, "hub"):
            await self.stop_hub()
        await asyncio.sleep(0)


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at a path."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


@contextlib.asynccontextmanager
async def machine(folder: Path, *, has_hub: bool = True) -> AsyncIterator[Machine]:
    """Run a hub, and stop it and all workers at the end."""
    made = Machine(folder / "hub.sock")
    if has_hub:
        await made.start_hub()
    try:
        yield made
    finally:
        await made.stop()


class ScriptedHub:
    """A hub that says what the test tells it to.

    said: what workers have said after their Hello. connection: the last one.
    """

    connection: FrameConnection

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[Any] = []
        self.connections: list[FrameConnection] = []
        self.start = 2_000_000
        self.peers: list[str] = []
        self.answers_hello = True

    async def serve(self) -> asyncio.Server:
        """Accept connections."""
        loop = asyncio.get_running_loop()
        return await loop.create_unix_server(self._new, sock=listen(self.path))

    def _new(self) -> FrameConnection:
        return FrameConnection(self._begin, self._take, lambda _: None)

    def _begin(self, connection: FrameConnection) -> None:
        self.connection = connection
        self.connections.append(connection)

    def _take(self, connection: FrameConnection, message: Message) -> None:
        if not isinstance(message, Hello):
            self.said.append(message)
        elif self.answers_hello:
            connection.send(Welcome(VERSION, self.start, self.start, self.peers, True))

    async def hears(self, kind: type[_M], where: Callable[[_M], bool] = lambda _: True) -> _M:
        """Wait for a message of a class, and return the last one."""

        def found() -> list[_M]:
            return [one for one in self.said if isinstance(one, kind) and where(one)]

        await until(found)
        return found()[-1]

    def say(self, *messages: Message) -> None:
        """Send messages to the worker."""
        for message in messages:
            self.connection.send(message)


@contextlib.asynccontextmanager
async def scripted(folder: Path, timeout: float = 10.0) -> AsyncIterator[tuple[ScriptedHub, Own]]:
    """Run a scripted hub, and one worker that is connected to it."""
    hub = ScriptedHub(folder / "hub.sock")
    server = await hub.serve()
    own = Own(hub.path, timeout, 10**9)
    await own.broker.start(own.worker)
    try:
        await own.connected()
        yield hub, own
    finally:
        await own.broker.stop()
        server.close()
        for connection in hub.connections:
            connection.abort()
        await asyncio.sleep(0)
