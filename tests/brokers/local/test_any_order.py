"""The broker of one machine while connections are cut and hubs die, in random order."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.harness.hubs import Machine, Own, machine
from tests.harness.loops import LOOPS
from tests.harness.waiting import soon, turns, until
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
