"""Clients that come, stop reading, go, and come back, in any order: no gap, nothing twice."""

import asyncio
import random
from typing import Any

import pytest

from tests.frames import CLOSE, TEXT
from tests.harness.client import DEFLATE
from tests.harness.topics import Hall, Member, hall, own_rules
from tests.harness.waiting import soon, turns
from wsgate import topics
from wsgate.errors import ClientDisconnected
from wsgate.topics import Topics
from wsgate.topics.outlet import MIN_COUNTED

__all__ = ["own_rules"]
pytestmark = pytest.mark.usefixtures("own_rules")

ROOM = "room"
HISTORY = 12
STEPS = 150
LARGE = random.Random(0).randbytes(100_000)  # above the mark, also if it is compressed


class Publisher:
    """Publishes the numbers from 1 on; each number is its id."""

    def __init__(self, here: Hall) -> None:
        self._topics = Topics(here.service.extension(None))
        self.latest = 0

    async def publish(self) -> None:
        self.latest += 1
        await self._topics.publish(ROOM, str(self.latest), id=str(self.latest))


class Visitor:
    """A client with a page: it shows numbers, and comes back with the latest one as `after`."""

    def __init__(self, here: Hall, publisher: Publisher, choose: random.Random) -> None:
        self._here = here
        self._publisher = publisher
        self._choose = choose
        self._member: Member | None = None
        self._task: asyncio.Task[topics.Recovered] | None = None
        self._reads = True
        self.shown: list[int] = []
        self.incomplete = 0

    async def step(self) -> None:
        """Do something."""
        if self._member is None or not self._member.websocket.session.can_send:
            await self._come()
            return
        steps = [self._stall, self._read_on, self._leave, self._return_to_topic, self._cancel]
        await self._choose.choice(steps)()

    async def _come(self) -> None:
        await self._end()
        headers = [DEFLATE] if self._choose.random() < 0.3 else []
        self._member = await self._here.open(*headers)
        self._reads = True
        await self._subscribe()

    async def _subscribe(self) -> None:
        assert self._member is not None
        after = str(self.shown[-1]) if self.shown else None
        self._task = asyncio.create_task(self._member.topics.subscribe(ROOM, after=after))
        await turns(1 + self._choose.randrange(3))  # it has begun

    async def _stall(self) -> None:
        assert self._member is not None
        if self._reads:
            self._member.client.stall()
            self._member.call.start_send({"type": "websocket.send", "bytes": LARGE})
            self._reads = False

    async def _read_on(self) -> None:
        assert self._member is not None
        self._member.client.read_on()
        self._reads = True

    async def _leave(self) -> None:
        """Lose the network: what was not read is lost."""
        await self._end()

    async def _return_to_topic(self) -> None:
        """Unsubscribe, read everything, and subscribe again with the latest number."""
        assert self._member is not None
        await self._member.topics.unsubscribe(ROOM)
        await self._read_all()
        if self._member.websocket.session.can_send:
            await self._subscribe()

    async def _cancel(self) -> None:
        """Cancel the call of `subscribe`, if it is under way."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await self._return_to_topic()

    async def _read_all(self) -> None:
        assert self._member is not None
        await self._read_on()
        await turns()
        numbers = []
        while self._member.client.received:
            frame = await self._member.read_frame()
            if frame.opcode == CLOSE:
                break
            if frame.opcode == TEXT:
                numbers.append(int(frame.payload))
        await self._show(numbers)

    async def _show(self, numbers: list[int]) -> None:
        """Show numbers once it is known whether they are complete, as the page of the docs does."""
        assert numbers == list(range(numbers[0], numbers[-1] + 1) if numbers else []), (
            "a gap, or a number twice"
        )
        task, self._task = self._task, None
        if task is None:
            assert numbers == []
            return
        try:
            back = await task
        except (asyncio.CancelledError, ClientDisconnected, topics.TopicsError):
            return
        if not back.complete:
            self.incomplete += 1
            assert self._publisher.latest - self.shown[-1] > HISTORY
        elif self.shown and numbers:
            assert numbers[0] == self.shown[-1] + 1
        self.shown += numbers

    async def _end(self) -> None:
        if self._member is not None:
            await self._read_all()
            await self._member.leave()
            self._member = None

    async def catch_up(self) -> None:
        """Come back a last time; then nothing is missing."""
        await self._end()
        await self._come()
        assert self._task is not None
        await soon(asyncio.wait([self._task]))
        await self._publisher.publish()
        await self._read_all()
        assert self.shown[-1] == self._publisher.latest
        await self._end()


@pytest.mark.parametrize("seed", range(25))
async def test_no_gap_and_nothing_twice(seed: int) -> None:
    topics.configure(ROOM, history=HISTORY)
    choose = random.Random(seed)
    options: dict[str, Any] = {"topics_max_outlet": choose.choice([1, 5, 30]) * MIN_COUNTED}
    async with hall(**options) as here:
        publisher = Publisher(here)
        visitors = [Visitor(here, publisher, choose) for _ in range(4)]
        for _ in range(STEPS):
            for _ in range(choose.choice([0, 0, 1, 1, 2, 9])):
                await publisher.publish()
            await choose.choice(visitors).step()
            await turns(choose.randrange(3))
        for visitor in visitors:
            await visitor.catch_up()
        recovered = here.counts["recovered"]
        assert recovered > 0
