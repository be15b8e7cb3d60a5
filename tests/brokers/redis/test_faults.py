"""Faults under load: nothing in a wrong topic, nothing twice, order kept, every gap reported."""

import asyncio
import contextlib
import functools
import signal
from collections.abc import Awaitable, Callable, Sequence

import pytest

from tests.harness.brokers import PATIENCE, Node, Recorder, node
from tests.harness.redis import RedisServer
from tests.harness.waiting import until
from wsgate.brokers.redis.link import Timing
from wsgate.topics.errors import Unavailable
from wsgate.topics.publication import Publication
from wsgate.topics.rules import Rules, Slow

TIMING = Timing(ping_interval=0.05, ping_timeout=0.5, backoff_min=0.01, backoff_max=0.05)
KEPT_TOPICS = ["h1", "h2", "h3"]
PLAIN_TOPICS = ["room1", "room2"]
COUNT = 60  # messages of each publisher in each topic
# The history has all of them: on a loaded machine one node may be away for many.
ALL = Rules(history=3 * COUNT, history_seconds=60.0, slow=Slow.CLOSE)

Fault = Callable[[RedisServer, Sequence[Node]], Awaitable[None]]


class Segments(Recorder):
    """Keeps what was delivered of each topic in parts, each between two reported losses."""

    def __init__(self) -> None:
        super().__init__(ALL)
        self.segments: dict[str, list[list[Publication]]] = {}

    def deliver(self, publication: Publication, excluded: object | None) -> None:
        super().deliver(publication, excluded)
        self.segments.setdefault(publication.topic, [[]])[-1].append(publication)

    def lost(self, topic: str) -> None:
        super().lost(topic)
        self.segments.setdefault(topic, [[]]).append([])


async def cut_commands(redis: RedisServer, nodes: Sequence[Node]) -> None:
    del nodes
    await redis.cut("normal")


async def cut_subscriptions(redis: RedisServer, nodes: Sequence[Node]) -> None:
    del nodes
    await redis.cut("pubsub")


async def pause_it(redis: RedisServer, nodes: Sequence[Node]) -> None:
    redis.signal(signal.SIGSTOP)
    try:
        for one in nodes:
            await one.is_down()
    finally:
        redis.signal(signal.SIGCONT)


async def restart(redis: RedisServer, nodes: Sequence[Node]) -> None:
    del nodes
    await redis.kill()
    await redis.start()


FAULTS: list[Fault] = [cut_subscriptions, restart, cut_commands, pause_it, restart]


async def publish_all(one: Node, name: str, turn: asyncio.Condition, sent: list[str]) -> None:
    """Publish to all topics in turn; what has failed is published again with the same id."""
    for number in range(COUNT):
        for topic in (*KEPT_TOPICS, *PLAIN_TOPICS):
            text = f"{topic} {name} {number}"
            while True:
                with contextlib.suppress(Unavailable):
                    await one.publish(topic, text, text if topic in KEPT_TOPICS else None)
                    break
        async with turn:
            sent.append(name)
            turn.notify_all()


async def run_with_faults(redis: RedisServer, nodes: Sequence[Node]) -> None:
    for one in nodes:
        one.broker._receiver = one.recorder = Segments()
        for topic in (*KEPT_TOPICS, *PLAIN_TOPICS):
            await one.broker.attach(topic)
    turn, sent = asyncio.Condition(), list[str]()
    publishing = [
        asyncio.create_task(publish_all(one, f"{number}", turn, sent))
        for number, one in enumerate(nodes)
    ]
    total = COUNT * len(nodes)
    for number, fault in enumerate(FAULTS, 1):
        async with asyncio.timeout(PATIENCE), turn:
            at = total * number // (len(FAULTS) + 1)
            await turn.wait_for(functools.partial(has_reached, sent, at))
        await fault(redis, nodes)
    async with asyncio.timeout(2 * PATIENCE):
        await asyncio.gather(*publishing)
    for one in nodes:
        await one.is_up()


def has_reached(sent: list[str], count: int) -> bool:
    return len(sent) >= count


async def has_count(recorder: Recorder, topic: str, count: int) -> None:
    await until(lambda: len(recorder.data(topic)) >= count, PATIENCE)


async def ends_with(recorder: Recorder, topic: str, text: str) -> None:
    await until(lambda: recorder.data(topic)[-1] == text, PATIENCE)


def check_plain(nodes: Sequence[Node]) -> None:
    """Check that each publisher's messages came once, in order, and in their topic."""
    for one in nodes:
        for topic in PLAIN_TOPICS:
            data = [str(text).split() for text in one.recorder.data(topic)]
            assert {words[0] for words in data} <= {topic}
            for name in map(str, range(len(nodes))):
                numbers = [int(words[2]) for words in data if words[1] == name]
                assert numbers == sorted(set(numbers))


async def test_with_a_file_nothing_is_lost(durable: RedisServer) -> None:
    async with (
        node(durable.url, timing=TIMING) as one,
        node(durable.url, timing=TIMING) as other,
        node(durable.url, timing=TIMING) as third,
    ):
        nodes = (one, other, third)
        await run_with_faults(durable, nodes)
        check_plain(nodes)
        for topic in KEPT_TOPICS:
            for worker in nodes:
                recorder = worker.recorder
                await has_count(recorder, topic, 3 * COUNT)
                places = [publication.place for publication in recorder.delivered[topic]]
                assert places == list(range(1, 3 * COUNT + 1))
                assert recorder.data(topic) == one.recorder.data(topic)
            assert set(one.recorder.data(topic)) == {
                f"{topic} {name} {number}" for name in range(3) for number in range(COUNT)
            }
        assert [worker.recorder.losses for worker in nodes] == [[], [], []]


async def test_without_a_file_every_gap_is_reported(redis: RedisServer) -> None:
    async with node(redis.url, timing=TIMING) as one, node(redis.url, timing=TIMING) as other:
        nodes = (one, other)
        await run_with_faults(redis, nodes)
        check_plain(nodes)
        for topic in KEPT_TOPICS:
            last = await one.publish(topic, f"{topic} end", "end")
            for worker in nodes:
                recorder = worker.recorder
                assert isinstance(recorder, Segments)
                await ends_with(recorder, topic, f"{topic} end")
                check_segments(topic, recorder.segments[topic])
                assert topic in recorder.losses
                assert recorder.delivered[topic][-1].place == last.place


def check_segments(topic: str, segments: list[list[Publication]]) -> None:
    """Check that between two reported losses nothing is missing and nothing comes twice."""
    for segment in segments:
        places = [publication.place for publication in segment]
        assert places == list(range(places[0], places[0] + len(places))) if places else True
        texts = [publication.data for publication in segment]
        assert len(texts) == len(set(texts))
        assert all(str(text).startswith(f"{topic} ") for text in texts)


@pytest.mark.parametrize("size", [1, 100_000])
async def test_large_messages_survive_a_cut(
    redis: RedisServer, one: Node, other: Node, size: int
) -> None:
    await other.broker.attach("h")
    texts = [f"{number}" + "x" * size for number in range(8)]
    for number, text in enumerate(texts):
        if number == 4:
            await redis.cut("pubsub")
        await one.publish("h", text)
    await other.recorder.has("h", *texts)
