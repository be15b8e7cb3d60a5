"""The program of the hub: its connections, their queues, and time."""

import asyncio
from pathlib import Path

import pytest

from tests.harness.hubs import Machine, machine
from tests.harness.log import capture_log
from tests.harness.loops import LOOPS
from tests.harness.waiting import nothing_left, soon, until
from wsgate.brokers.local import hub_process
from wsgate.brokers.local.frame_connection import FrameConnection
from wsgate.topics.messages import VERSION, Attach, Hello, Message, Seen, Welcome

__all__ = ["LOOPS"]


class Client:
    """A connection to a hub. received: what the hub has sent."""

    def __init__(self) -> None:
        self.received: list[Message] = []
        self.has_ended = asyncio.Event()
        self.connection: FrameConnection

    async def connect(self, own: Machine) -> None:
        """Connect, without a Hello."""
        loop = asyncio.get_running_loop()
        _, self.connection = await loop.create_unix_connection(self._new, str(own.path))

    def _new(self) -> FrameConnection:
        return FrameConnection(
            lambda _: None,
            lambda _, message: self.received.append(message),
            lambda _: self.has_ended.set(),
        )

    async def greet(self, *topics: str) -> None:
        """Say Hello, and attach topics."""
        self.connection.send(Hello(VERSION, worker="a-00000000", rules_version=0, rules=[]))
        for topic in topics:
            self.connection.send(Attach(1, topic, 0, 0, 0))
        await until(lambda: len(self.received) > len(topics))


async def test_who_does_not_read_is_dropped_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_process, "MAX_QUEUE", 2**20)
    async with nothing_left(), machine(tmp_path) as own:
        stopped, worker = Client(), await own.worker("room")
        await stopped.connect(own)
        await stopped.greet("room")
        assert stopped.connection._transport is not None
        stopped.connection._transport.pause_reading()
        publisher = await own.worker()
        for number in range(100):
            await publisher.publish("room", bytes(100_000))
            await worker.has("room", *[bytes(100_000)] * (number + 1))
        assert len(own.reports) == 1
        assert "does not read its topics" in own.reports[0]
        stopped.connection._transport.resume_reading()
        await soon(stopped.has_ended.wait())


async def test_a_message_of_any_size_goes_to_who_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_process, "MAX_QUEUE", 1000)
    async with machine(tmp_path) as own:
        worker, publisher = await own.worker("room"), await own.worker()
        await publisher.publish("room", bytes(10 * 2**20))
        await until(lambda: worker.worker.delivered)
        assert not own.reports


async def test_connections_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_process, "MAX_CONNECTIONS", 1)
    async with machine(tmp_path) as own:
        first, second = Client(), Client()
        await first.connect(own)
        await first.greet()
        await second.connect(own)
        await soon(second.has_ended.wait())
        first.connection.close()
        await soon(first.has_ended.wait())
        third = Client()
        await third.connect(own)
        await third.greet()
        third.connection.close()


async def test_who_breaks_the_rules_is_closed(tmp_path: Path) -> None:
    with capture_log() as log:
        async with machine(tmp_path) as own:
            client = Client()
            await client.connect(own)
            client.connection.send(Seen(1))
            await soon(client.has_ended.wait())
    assert log.errors == ["A connection of topics is closed: Seen is out of place"]


async def test_a_fault_of_the_hub_ends_one_connection(tmp_path: Path) -> None:
    with capture_log() as log:
        async with machine(tmp_path) as own:
            first, second = Client(), Client()
            for client in (first, second):
                await client.connect(own)
                await client.greet()
            del own.hub._hub._handlers[Attach]
            own.hub._hub._handlers[Attach] = lambda *_: 1 / 0  # type: ignore[assignment]
            first.connection.send(Attach(1, "t", 0, 0, 0))
            await soon(first.has_ended.wait())
            assert not second.has_ended.is_set()
            second.connection.close()
    assert log.errors == ["The topics hub cannot handle a message"]


async def test_workers_learn_how_far_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsgate.topics.hub.SEEN_INTERVAL", 0.01)
    async with machine(tmp_path) as own:
        client = Client()
        await client.connect(own)
        await client.greet()
        assert isinstance(client.received[0], Welcome)
        await until(lambda: client.received.count(Seen(2_000_000)) > 2)
        client.connection.close()
