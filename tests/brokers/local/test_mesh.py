"""Plain topics: workers that send publications to each other, over real sockets."""

import asyncio
import math
import socket
from pathlib import Path

import pytest

from tests.harness import hubs
from tests.harness.hubs import Machine, Own, machine, scripted
from tests.harness.log import capture_log
from tests.harness.loops import LOOPS
from tests.harness.waiting import nothing_left, soon, start_task, turns, until
from wsgate.brokers.local import mesh as mesh_module, peer as peer_module, waiting_frames
from wsgate.brokers.local.frame_connection import FrameConnection
from wsgate.topics.messages import (
    AllWanted,
    Attach,
    Attached,
    Delivered,
    Joined,
    Message,
    Noted,
    PeerHello,
    Seen,
    Sync,
)
from wsgate.topics.wire_format import encode

__all__ = ["LOOPS"]

FIRST, LAST = "0-00000000", "z-00000000"  # names before and after those of all workers


async def pair(own: Machine, *topics: str) -> tuple[Own, Own]:
    """Start two workers; the first one is the one that connects."""
    workers = [await own.worker(*topics) for _ in range(2)]
    await own.synced()
    first, second = sorted(workers, key=lambda one: one.name)
    return first, second


def files_in(folder: Path) -> set[Path]:
    """Return the files of a folder."""
    return set(folder.iterdir())


def waiting_at(path: str) -> socket.socket:
    """Return a socket at which nobody accepts."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    return sock


# -- publications ----------------------------------------------------------------------------------


async def test_a_plain_message_goes_to_the_workers_that_subscribe(tmp_path: Path) -> None:
    async with nothing_left(), machine(tmp_path) as own:
        first, second = await own.worker("plain"), await own.worker("plain", "other")
        third = await own.worker("other")
        await own.synced()
        by_name = {peer.name: peer for peer in first.peers}
        assert by_name[second.name].wants("plain")
        assert not by_name[third.name].wants("plain")
        excluded = object()
        await first.publish("plain", "x", excluded=excluded)
        assert first.worker.delivered == [("plain", "x", excluded)]  # at once
        await first.publish("other", b"y")
        await second.has("other", b"y")
        await third.has("other", b"y")
        assert second.worker.delivered == [("plain", "x", None), ("other", b"y", None)]


async def test_each_pair_of_workers_has_one_connection(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        workers = [await own.worker() for _ in range(4)]
        await own.synced()
        await own.replace_hub()
        for worker in workers:
            await worker.connected()
        await own.synced()
        connections = [len(one.broker._mesh._peer_of) for one in workers]
        assert connections == [3] * 4


async def test_what_is_published_after_a_subscribe_arrives(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        old = await own.worker()
        for number in range(5):
            topic = f"plain {number}"
            new = await own.worker()  # it is not connected yet
            publishes = start_task(new.publish(topic, "too early, or not"))
            await soon(old.broker.attach(topic))
            await soon(publishes)
            await new.publish(topic, "to the old one")
            await old.gets(topic, "to the old one")
            await soon(new.broker.attach(topic))
            await old.publish(topic, "to the new one")
            await new.gets(topic, "to the new one")


async def test_a_new_worker_finds_one_that_the_hub_does_not_know(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        first = await own.worker("plain")
        await first.broker._link.stop()  # as if it did not run when another hub has started
        await until(lambda: not own.hub._by_number)
        second = await own.worker()
        await second.connected()
        await second.publish("plain", "x")
        first.broker._link.start()
        await first.has("plain", "x")


@pytest.mark.parametrize("stops_first", [True, False])
async def test_a_worker_that_stops_sends_first_what_it_has_published(
    tmp_path: Path, stops_first: bool
) -> None:
    texts = [f"{number}" * 150_000 for number in range(6)]  # more than a socket holds
    async with nothing_left(), machine(tmp_path) as own:
        one, other = await pair(own, "plain")
        publisher, reader = (one, other) if stops_first else (other, one)
        reader.freeze()
        for text in texts:
            await publisher.publish("plain", text)
        stopping = start_task(publisher.broker.stop())
        await asyncio.sleep(0)
        reader.run_on()
        await soon(stopping)
        await reader.has("plain", *texts)


async def test_a_worker_that_was_blocked_reads_before_it_publishes(tmp_path: Path) -> None:
    async with nothing_left(), machine(tmp_path) as own:
        first, second = await pair(own, "before")
        first.broker._mesh._read_at = -math.inf  # as after a blocked loop
        attaching = start_task(second.broker.attach("room"))
        await turns(2)  # it has asked for the topic, and nobody has read it
        (peer,) = first.peers
        assert not peer.wants("room")
        await first.publish("room", "arrives")
        await second.has("room", "arrives")
        await soon(attaching)


async def test_nothing_of_a_detached_topic_arrives(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        first, second = await pair(own, "plain", "other")
        second.broker.detach("plain")
        await first.publish("plain", "x")  # it may be under way before the Detach has arrived
        await first.publish("other", "y")
        await second.has("other", "y")
        assert not second.worker.texts("plain")
        assert not first.peers[0].wants("plain")


async def test_plain_topics_need_no_hub(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        first, second = await pair(own, "plain")
        await own.stop_hub()
        await first.publish("plain", "1")
        await second.has("plain", "1")
        attaching = start_task(second.broker.attach("new"))
        await until(lambda: first.peers[0].wants("new"))
        await first.publish("new", "2")
        await second.has("new", "2")
        await own.start_hub()
        await soon(attaching)
        await first.publish("plain", "3")
        await second.has("plain", "1", "3")


async def test_what_is_published_before_there_is_a_hub_waits_within_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(encode(Delivered(0, "plain", None, 0, 0, "0")))
    monkeypatch.setattr(waiting_frames, "MAX_WAITING", 4 * size)
    monkeypatch.setattr(hubs, "SETTLE", 10.0)  # the first one has time to connect again
    async with machine(tmp_path) as own:
        first = await own.worker("plain")
        await own.stop_hub()
        second = await own.worker()
        for number in range(6):
            await second.publish("plain", str(number))
        assert second.worker.drops == ["hub", "hub"]
        await own.start_hub()
        await first.has("plain", "2", "3", "4", "5")


# -- workers that do not run -----------------------------------------------------------------------


async def test_a_worker_that_does_not_read_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_module, "PATIENCE", 0.1)
    monkeypatch.setattr(peer_module, "MAX_QUEUE", 2 * 2**20)
    async with machine(tmp_path) as own:
        first, second = await pair(own, "plain")
        third = await own.worker("plain")
        await own.synced()
        second.freeze()
        (peer,) = [peer for peer in first.peers if peer.name == second.name]
        texts = [f"{number:02} {'x' * 200_000}" for number in range(30)]
        for number, text in enumerate(texts):
            await soon(first.publish("plain", text))
            await third.has("plain", *texts[: number + 1])
            if peer.is_stuck:  # it was waited for once, and is not any more
                monkeypatch.setattr(mesh_module, "PATIENCE", 1000.0)
        assert peer.is_stuck
        second.run_on()
        dropped = first.worker.drops
        assert set(dropped) == {"worker"}
        await second.has("plain", *texts[: len(texts) - len(dropped)])
        await first.publish("plain", "end")
        await second.gets("plain", "end")
        assert len(second.worker.texts("plain")) + len(dropped) == len(texts) + 1
        assert not peer.is_stuck


async def test_publishers_keep_the_pace_of_a_worker_that_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_module, "MAX_QUEUE", 2 * 2**20)
    async with machine(tmp_path) as own:
        first, second = await pair(own, "plain")
        for _ in range(100):  # no call suspends unless it waits for the other worker
            await first.publish("plain", bytes(100_000))
        await until(lambda: len(second.worker.delivered) == 100)
        assert not first.worker.drops


async def test_a_subscribe_waits_once_for_a_worker_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_module, "PATIENCE", 0.1)
    async with machine(tmp_path) as own:
        first, second = await pair(own)
        second.freeze()
        await soon(first.broker.attach("room"))  # what has history waits for no worker
        assert not first.peers[0].is_silent
        await soon(first.broker.attach("plain 1"))
        (peer,) = first.peers
        assert peer.is_silent
        monkeypatch.setattr(mesh_module, "PATIENCE", 1000.0)
        await soon(first.broker.attach("plain 2"))
        second.run_on()
        await until(lambda: not peer.is_silent)
        await second.publish("plain 2", "x")
        await first.has("plain 2", "x")


async def test_a_worker_that_does_not_answer_from_the_start_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_module, "PATIENCE", 0.05)
    monkeypatch.setattr(mesh_module, "CHECK_INTERVAL", 0.01)
    monkeypatch.setattr(waiting_frames, "MAX_WAITING", 1000)
    async with scripted(tmp_path) as (hub, own):
        socks = [waiting_at(f"{hub.path}.{name}") for name in (FIRST, LAST)]
        hub.say(Joined(FIRST), Joined(LAST))
        await until(lambda: len(own.pairs) == 1)  # to the one that has to be connected to
        attaching = start_task(own.broker.attach("plain"))
        asked = await hub.hears(Attach)
        hub.say(Attached(asked.request, asked.topic, Sync.CURRENT, hub.start))
        await soon(attaching)
        assert [peer.is_silent for peer in own.peers] == [True, True]
        for number in range(10):
            await own.publish("plain", f"{number} {'x' * 200}")
        assert own.worker.drops.count("worker") >= 10
        for sock in socks:
            sock.close()
        await until(lambda: not own.peers)


# -- workers that come and go ----------------------------------------------------------------------


@pytest.mark.parametrize("end", [0, 1])
async def test_what_is_published_while_a_connection_is_cut_waits(tmp_path: Path, end: int) -> None:
    async with machine(tmp_path) as own:
        workers = await pair(own, "plain")
        (connection,) = workers[end].pairs
        connection.abort()
        await until(lambda: not workers[0].pairs and not workers[1].pairs)
        for number, worker in enumerate(workers):
            await worker.publish("plain", f"of {number}")
        await workers[0].has("plain", "of 0", "of 1")
        await workers[1].has("plain", "of 1", "of 0")
        await own.synced()
        for number, worker in enumerate(workers):
            await worker.publish("plain", f"again {number}")
        for worker in workers:
            for number in range(2):
                await worker.gets("plain", f"again {number}")
            assert len(worker.worker.texts("plain")) == 4


async def test_a_worker_that_stops_is_forgotten(tmp_path: Path) -> None:
    async with nothing_left(), machine(tmp_path) as own:
        first, second, third = [await own.worker("plain") for _ in range(3)]
        await own.synced()
        await second.broker.stop()
        for worker, other in ((first, third), (third, first)):
            await worker.knows(1)
            await worker.publish("plain", worker.name)
            await other.gets("plain", worker.name)
        assert files_in(tmp_path) == {own.path, *(own.file_of(one) for one in (first, third))}


async def test_a_worker_that_is_gone_already_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_module, "CHECK_INTERVAL", 0.01)
    async with scripted(tmp_path) as (hub, own):
        hub.peers = [FIRST, LAST]
        hub.connection.abort()
        await until(lambda: len(hub.connections) == 2)
        await own.connected()
        await own.publish("plain", "x")
        await until(lambda: not own.peers)
        assert not own.broker._mesh._links
        assert not own.broker._mesh._checks


async def test_many_topics_are_named_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_module, "PART_TOPICS", 2)
    topics = [str(number) for number in range(5)]
    async with machine(tmp_path) as own:
        first, second = await own.worker(*topics), await own.worker()
        await own.synced()
        assert second.peers[0]._wanted == set(topics)
        for topic in topics:
            await second.publish(topic, "x")
            await first.has(topic, "x")


# -- what does not keep to the rules ---------------------------------------------------------------


class Stranger:
    """A connection to a worker. received: what the worker has sent."""

    def __init__(self) -> None:
        self.received: list[Message] = []
        self.has_ended = asyncio.Event()
        self.connection: FrameConnection

    async def connect(self, own: Machine, worker: Own) -> None:
        """Connect, without a word."""

        def new() -> FrameConnection:
            return FrameConnection(
                lambda _: None,
                lambda _, message: self.received.append(message),
                lambda _: self.has_ended.set(),
            )

        loop = asyncio.get_running_loop()
        path = str(own.file_of(worker))
        _, self.connection = await loop.create_unix_connection(new, path)


async def test_who_says_something_else_is_closed(tmp_path: Path) -> None:
    with capture_log() as log:
        async with machine(tmp_path) as own:
            worker = await own.worker()
            await worker.connected()
            first, second = Stranger(), Stranger()
            await first.connect(own, worker)
            first.connection.send(Seen(1))
            await soon(first.has_ended.wait())
            await second.connect(own, worker)
            second.connection.send(PeerHello(FIRST))
            second.connection.send(AllWanted(0))
            await until(lambda: Noted(0) in second.received)
            second.connection.send(Seen(1))
            await soon(second.has_ended.wait())
            assert not worker.peers  # nobody listens there
    assert log.errors == ["A connection of topics is closed: Seen is out of place"] * 2


async def test_a_new_connection_of_a_worker_replaces_the_former_one(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        worker = await own.worker()
        await worker.connected()
        first, second = Stranger(), Stranger()
        for stranger in (first, second):
            await stranger.connect(own, worker)
            stranger.connection.send(PeerHello(FIRST))
            await until(lambda: len(worker.peers) == 1)
        await soon(first.has_ended.wait())
        assert [peer.name for peer in worker.peers] == [FIRST]
        second.connection.close()
        await until(lambda: not worker.peers)
