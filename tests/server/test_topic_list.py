"""The list of topics: which are in it, their order, and what it costs the event loop."""

import asyncio
from typing import Any, cast

import pytest

from tests.harness.topics import hall, own_rules
from tests.harness.waiting import turns
from wsgate.metrics.activity import WINDOW, TopicActivity
from wsgate.server.iteration import AT_ONCE
from wsgate.server.topic_list import PAGE, TopicList
from wsgate.server.topic_service import LocalTopic

__all__ = ["own_rules"]


class Topics:
    """The topics of a worker. numbers: of the subscribers, by name."""

    def __init__(self, numbers: dict[str, int]) -> None:
        self.local_topics = [topic_with(name, number) for name, number in numbers.items()]


class Worker:
    """A worker with topics."""

    def __init__(self, numbers: dict[str, int]) -> None:
        self.topics = Topics(numbers)
        self.meter: Any = None


class Meter:
    def __init__(self) -> None:
        self.activity = TopicActivity()


def topic_with(name: str, number: int) -> LocalTopic:
    topic = LocalTopic(name)
    topic.subscribers = cast("Any", range(number))
    return topic


async def read(
    worker: Worker, pattern: str | None = None, limit: int = 50
) -> tuple[TopicList, list[tuple[str, int]]]:
    """Return the list, and the names with the numbers that are in it."""
    found = TopicList()
    await found.read(cast("Any", worker), pattern, limit)
    pages = list(found.pages(cast("Any", worker)))
    return found, [(one["topic"], one["subscribers"]) for page in pages for one in page]


async def test_those_with_the_most_subscribers_come_first() -> None:
    found, topics = await read(Worker({"a": 1, "d": 7, "c": 1, "b": 1, "e": 9, "none": 0}), limit=3)
    assert topics == [("e", 9), ("d", 7), ("a", 1)]
    assert (found.total, found.subscriptions, found.listed) == (5, 19, 3)


async def test_a_pattern_chooses() -> None:
    found, topics = await read(Worker({"room:1": 1, "Room:2": 2, "room:3": 3}), "room:*")
    assert topics == [("room:3", 3), ("room:1", 1)]
    assert (found.total, found.subscriptions) == (2, 4)


@pytest.mark.parametrize("count", [0, 1, AT_ONCE, 3 * AT_ONCE + 1])
async def test_any_number_of_topics(count: int) -> None:
    numbers = {f"{number}": number % 77 + 1 for number in range(count)}
    found, topics = await read(Worker(numbers), limit=120)
    assert topics == sorted(numbers.items(), key=lambda item: (-item[1], item[0]))[:120]
    assert (found.total, found.subscriptions) == (count, sum(numbers.values()))


async def test_the_pages() -> None:
    found = TopicList()
    worker = cast("Any", Worker(dict.fromkeys(map(str, range(2 * PAGE + 1)), 1)))
    await found.read(worker, None, 2 * PAGE + 1)
    assert [len(page) for page in found.pages(worker)] == [PAGE, PAGE, 1]


async def test_the_event_loop_runs_in_between() -> None:
    worker, steps = Worker(dict.fromkeys(map(str, range(10 * AT_ONCE)), 1)), 0

    async def count() -> None:
        nonlocal steps
        while True:
            steps += 1
            await turns(1)

    counting = asyncio.create_task(count())
    await read(worker, "/none")
    counting.cancel()
    assert steps >= 9


async def rates_of(worker: Worker) -> dict[str, tuple[float | None, float | None]]:
    found = TopicList()
    await found.read(cast("Any", worker), None, 50)
    (items,) = found.pages(cast("Any", worker))
    return {one["topic"]: (one["publishes_rate"], one["deliveries_rate"]) for one in items}


async def test_what_is_published_is_known_with_metrics() -> None:
    worker = Worker({"a": 1, "b": 2})
    assert await rates_of(worker) == {"a": (None, None), "b": (None, None)}
    worker.meter = meter = Meter()
    meter.activity.rotate(100.0)
    meter.activity.add("a", 3)
    meter.activity.rotate(100.0 + WINDOW)
    assert await rates_of(worker) == {"a": (0.2, 0.6), "b": (0.0, 0.0)}


@pytest.mark.usefixtures("own_rules")
async def test_listeners_count() -> None:
    async with hall() as here:
        ada = await here.subscribed("room")
        bob = await here.subscribed("room")
        async with bob.topics.listen("other"), ada.topics.listen("room"):
            _, topics = await read(cast("Any", here.worker))
            assert topics == [("room", 3), ("other", 1)]
        await ada.leave()
        assert (await read(cast("Any", here.worker)))[1] == [("room", 1)]
