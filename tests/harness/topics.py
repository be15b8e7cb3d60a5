"""Several WebSockets in memory that share one worker, with their topics."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.harness.app import ScriptedApp, text
from tests.harness.client import GET
from tests.harness.log import LogCapture, capture_log
from tests.harness.memory import Peer
from tests.harness.waiting import turns, until
from wsgate import topics
from wsgate.brokers.memory import MemoryBroker
from wsgate.server.topic_service import TopicService
from wsgate.server.websocket import WebSocket
from wsgate.testing import MemoryClient, connect
from wsgate.topics import Topics, process
from wsgate.topics.rules import RuleBook

LARGE = "x" * 100_000  # above the mark of the write buffer


class Member(Peer):
    """A WebSocket in memory, with its topics."""

    @property
    def topics(self) -> Topics:
        """What its app uses."""
        return topics.of(self.call.scope)

    @property
    def websocket(self) -> WebSocket:
        """The server's object."""
        socket = self.topics.extension.socket
        assert isinstance(socket, WebSocket)
        return socket

    async def stall(self) -> None:
        """Stop reading, with the write buffer above its mark; LARGE is on its way."""
        self.client.stall()
        self.call.start_send(text(LARGE))
        await until(lambda: self.websocket.gate.is_shut)

    async def read_on(self) -> list[str]:
        """Read on; return the texts after the large one."""
        self.client.read_on()
        assert (await self.read_texts(1))[0] == LARGE
        return await self.read_all()

    async def read_all(self) -> list[str]:
        """Return all texts that the server has sent."""
        await turns()
        texts = []
        while self.client.received:
            texts += await self.read_texts(1)
        return texts

    async def leave(self) -> None:
        """Break the connection, and wait until the server knows."""
        self.client.drop()
        await until(lambda: not self.websocket.session.can_send)


class Caller(Peer):
    """The client of a request in memory."""

    @property
    def topics(self) -> Topics:
        """What its app uses."""
        return topics.of(self.call.scope)

    async def leave(self) -> None:
        """Break the connection, and wait until the server knows."""
        self.client.drop()
        await until(lambda: self.client.is_lost)


class Hall:
    """A worker whose WebSockets and requests the test opens."""

    def __init__(self, client: MemoryClient, log: LogCapture) -> None:
        self.client = client
        self.worker = client.worker
        self.log = log
        self.app = client.worker.app
        self.members: list[Peer] = []

    @property
    def service(self) -> TopicService:
        """The topics of the worker."""
        return self.worker.topics

    @property
    def broker(self) -> MemoryBroker:
        """The broker of the worker."""
        broker = self.service._broker
        assert isinstance(broker, MemoryBroker)
        return broker

    @property
    def counts(self) -> dict[str, Any]:
        """The counters of the worker."""
        return self.service.counts.as_dict()

    def arrive(self) -> Member:
        """Connect a client."""
        assert isinstance(self.app, ScriptedApp)
        member = Member(MemoryClient(self.worker, self.client.clock), self.app, self.log)
        self.members.append(member)
        return member

    async def open(self, *headers: str) -> Member:
        """Open a WebSocket."""
        member = self.arrive()
        await member.open(*headers)
        return member

    async def subscribed(self, topic: str, *headers: str) -> Member:
        """Open a WebSocket and subscribe it."""
        member = await self.open(*headers)
        await member.topics.subscribe(topic)
        return member

    async def request(self) -> Caller:
        """Send a request, and wait for the call of the app."""
        assert isinstance(self.app, ScriptedApp)
        caller = Caller(MemoryClient(self.worker, self.client.clock), self.app, self.log)
        self.members.append(caller)
        caller.client.send(GET)
        await caller.wait_for_call()
        return caller

    async def advance(self, seconds: float) -> None:
        """Move the clock."""
        await self.client.advance(seconds)

    def assert_empty(self) -> None:
        """Check that nothing is left of any topic without a history."""
        service = self.service
        assert (service._topics, service._sockets, service._listeners) == ({}, {}, {})


@contextlib.asynccontextmanager
async def hall(**options: Any) -> AsyncIterator[Hall]:
    """Run a worker; check that nothing is left at its end."""
    options = {"access_log": False, "ws_ping_interval": None, **options}
    with capture_log() as log:
        async with asyncio.timeout(60), connect(ScriptedApp(), **options) as client:
            here = Hall(client, log)
            try:
                yield here
            finally:
                for member in here.members:
                    member.client.drop()
                await turns()
        assert not client.worker.tasks
        assert not client.worker.connections
        here.assert_empty()


class Held:
    """Calls of a method of the broker, which wait until the test lets them go on."""

    def __init__(self) -> None:
        self.calls = 0
        self.released = asyncio.Event()
        self.error: Exception | None = None

    async def called(self, count: int = 1) -> None:
        """Wait until the method was called so many times."""
        await until(lambda: self.calls >= count)


def hold(monkeypatch: pytest.MonkeyPatch, here: Hall, name: str) -> Held:
    """Have the calls of an asynchronous method of the broker wait."""
    held, method = Held(), getattr(here.broker, name)

    async def holding(*args: Any, **options: Any) -> Any:
        held.calls += 1
        await held.released.wait()
        if held.error is not None:
            raise held.error
        return await method(*args, **options)

    monkeypatch.setattr(here.broker, name, holding)
    return held


@pytest.fixture
def own_rules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget at the end what the test has configured."""
    with monkeypatch.context() as patch:
        patch.setattr(process, "configured", RuleBook())
        yield
