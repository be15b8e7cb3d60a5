"""The broker of one machine while workers and hubs come, stop and go, in random order."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.harness.hubs import Machine, Own, machine
from tests.harness.loops import LOOPS
from tests.harness.waiting import soon, turns, until
from wsgate.brokers.local import mesh, peer
from wsgate.topics.errors import Unavailable

__all__ = ["LOOPS"]

STEPS = 60


class Story:
    """Publishes, cuts connections and replaces the hub, as a generator of random numbers says.

    published: what has its place. workers: each with "room".
    """

    def __init__(self, machine: Machine, workers: list[Own], seed: int) -> None:
        self.workers = workers
        self.published: set[str | bytes] = set()
        self._machine = machine
        self._random = random.Random(seed)
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Take all steps, and wait for what was published."""
        for number in range(STEPS):
            await self._step(number)
        await soon(asyncio.gather(*self._tasks), 30.0)
        for worker in self.workers:
            await worker.connected()
        await soon(self.workers[0].publish("room", "end"))
        await until(lambda: all(one.worker.texts("room")[-1] == "end" for one in self.workers))

    async def _step(self, number: int) -> None:
        choice = self._random.random()
        worker = self._random.choice(self.workers)
        if choice < 0.04:
            await self._machine.replace_hub()
        elif choice < 0.2 and worker.broker._link.connection is not None:
            worker.cut()
        else:
            self._tasks.append(asyncio.create_task(self._publish(worker, str(number))))
        await turns(self._random.randrange(4))

    async def _publish(self, worker: Own, text: str) -> None:
        try:
            await worker.publish("room", text)
        except Unavailable:
            return
        self.published.add(text)


@pytest.mark.parametrize("seed", range(12))
async def test_nothing_comes_twice_and_whatever_is_missing_is_noticed(
    tmp_path: Path, seed: int
) -> None:
    async with machine(tmp_path) as own:
        workers = [await own.worker("room") for _ in range(3)]
        story = Story(own, workers, seed)
        await story.run()
        for worker in workers:
            places = [one.place for one in worker.worker.publications]
            assert places == sorted(set(places))
        complete = [one.worker.texts("room") for one in workers if not one.worker.losses]
        for texts in complete:
            assert story.published <= set(texts)
            assert texts == complete[0]


class PlainStory:
    """Publishes to a plain topic while workers do not run, new ones come and hubs are replaced.

    sent: how many messages each worker has published. since: the same for each worker when it had
    subscribed, so it gets all later ones.
    """

    def __init__(self, machine: Machine, workers: list[Own], seed: int) -> None:
        self.workers = workers
        self.sent = [0 for _ in workers]
        self.since = [[0 for _ in workers] for _ in workers]
        self._machine = machine
        self._random = random.Random(seed)
        self._tasks: list[asyncio.Task[object]] = []

    async def run(self) -> None:
        """Take all steps, and wait until all has arrived."""
        for _ in range(STEPS):
            await self._step()
        for worker in self.workers:
            worker.run_on()
        await soon(asyncio.gather(*self._tasks), 30.0)
        await self._machine.synced()
        await until(lambda: not any(pair.waiting for one in self.workers for pair in one.pairs))
        for worker in self.workers:
            await worker.publish("plain", f"end {worker.name}")
        for worker in self.workers:
            for other in self.workers:
                await worker.gets("plain", f"end {other.name}")

    async def _step(self) -> None:
        choice = self._random.random()
        worker = self._random.choice(self.workers)
        if choice < 0.04:
            await self._machine.replace_hub()
        elif choice < 0.08 and len(self.workers) < 5:
            await self._add()
        elif choice < 0.18:
            worker.freeze()
        elif choice < 0.25:
            worker.run_on()
        else:
            self._publish(self._random.randrange(len(self.workers)))
        await turns(self._random.randrange(4))

    async def _add(self) -> None:
        for worker in self.workers:  # a hub that is settled knows all of them
            await worker.connected()
        self.workers.append(await self._machine.worker("plain"))
        for since in self.since:
            since.append(0)
        self.since.append([*self.sent, 0])
        self.sent.append(0)

    def _publish(self, number: int) -> None:
        text = f"{number} {self.sent[number]} {'x' * 40_000}"
        self.sent[number] += 1
        publishing = self.workers[number].publish("plain", text)
        self._tasks.append(asyncio.create_task(publishing))

    def missing(self, receiver: int, sender: int) -> int:
        """Return how many messages one worker lacks of another one; checks their order."""
        texts = [str(one).split() for one in self.workers[receiver].worker.texts("plain")]
        numbers = [int(words[1]) for words in texts if words[0] == str(sender)]
        assert numbers == sorted(set(numbers))
        wanted = range(self.since[receiver][sender], self.sent[sender])
        return len(set(wanted) - set(numbers))


@pytest.mark.parametrize("seed", range(6))
async def test_plain_messages_come_in_order_and_whatever_is_missing_was_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(mesh, "PATIENCE", 0.01)
    monkeypatch.setattr(peer, "MAX_QUEUE", 100_000)
    async with machine(tmp_path) as own:
        workers = [await own.worker("plain") for _ in range(3)]
        await own.synced()
        story = PlainStory(own, workers, seed)
        await story.run()
        numbers = range(len(story.workers))
        missing = sum(story.missing(one, other) for one in numbers for other in numbers)
        dropped = [cause for one in story.workers for cause in one.worker.drops]
        assert set(dropped) <= {"worker"}
        assert missing <= len(dropped)
        if len(story.workers) == 3:  # else some are dropped that a new worker need not get
            assert missing == len(dropped)
