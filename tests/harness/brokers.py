"""Brokers over Redis in tests, each with a receiver that records what it gets."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence

from tests.harness.waiting import until
from wsgate.brokers.redis.broker import RedisBroker
from wsgate.brokers.redis.link import Timing
from wsgate.brokers.redis.presence import PresenceTiming
from wsgate.brokers.redis.url import parse_redis_url
from wsgate.topics.presence import Change
from wsgate.topics.publication import Publication
from wsgate.topics.rules import PLAIN, Rules, Slow

KEPT = Rules(history=100, history_seconds=60.0, slow=Slow.CLOSE)
QUICK = Timing(ping_interval=0.1, backoff_min=0.01, backoff_max=0.05)
PRESENCE = PresenceTiming(lease=60.0, interval=0.05, grace=0.2)
PATIENCE = 30.0  # seconds for what must happen, on a loaded machine


class Recorder:
    """A receiver. Topics whose name begins with h have history.

    Attributes:
        delivered: The publications of each topic.
        excluded: The sockets that did not get them, in the same order.
    """

    def __init__(self, kept: Rules = KEPT) -> None:
        self.kept = kept
        self.delivered: dict[str, list[Publication]] = {}
        self.excluded: list[object] = []
        self.changes: list[Change] = []
        self.losses: list[str] = []
        self.dropped: Counter[str] = Counter()
        self.counts: dict[str, int] = {}

    def deliver(self, publication: Publication, excluded: object | None) -> None:
        self.delivered.setdefault(publication.topic, []).append(publication)
        self.excluded.append(excluded)

    def change(self, change: Change) -> None:
        self.changes.append(change)

    def subscribers(self, topic: str) -> int:
        return self.counts.get(topic, 0)

    def rules_of(self, topic: str) -> Rules:
        return self.kept if topic.startswith("h") else PLAIN

    def rule_entries(self) -> Sequence[tuple[str, Rules]]:
        return [("h*", self.kept)]

    def lost(self, topic: str) -> None:
        self.losses.append(topic)

    def count_dropped(self, cause: str) -> None:
        self.dropped[cause] += 1

    def data(self, topic: str) -> list[str | bytes]:
        """Return what was delivered of a topic."""
        return [one.data for one in self.delivered.get(topic, ())]

    async def has(self, topic: str, *data: str | bytes) -> None:
        """Wait until exactly these messages were delivered."""
        try:
            await until(lambda: len(self.data(topic)) >= len(data), PATIENCE)
        finally:
            assert self.data(topic) == list(data)


class Node:
    """A broker with its recorder, as one worker has it."""

    def __init__(self, broker: RedisBroker, recorder: Recorder) -> None:
        self.broker = broker
        self.recorder = recorder

    async def publish(
        self,
        topic: str,
        data: str | bytes,
        id: str | None = None,
        *,
        excluded: object | None = None,
        is_kept: bool = True,
    ) -> Publication:
        publication = Publication(topic, data, id)
        rules = self.recorder.rules_of(topic)
        await self.broker.publish(publication, rules, excluded, is_kept=is_kept)
        return publication

    async def is_up(self) -> None:
        """Wait until all of its connections are there."""
        servers = self.broker._servers

        def is_up() -> bool:
            links = [link for one in servers.all for link in (one.commands, one.subscriptions)]
            return bool(links) and all(link.is_up for link in links)

        await until(is_up, PATIENCE)

    async def is_down(self) -> None:
        """Wait until all of its connections have ended."""
        servers = self.broker._servers

        def is_down() -> bool:
            links = [link for one in servers.all for link in (one.commands, one.subscriptions)]
            return not any(link.is_up for link in links)

        await until(is_down, PATIENCE)


@contextlib.asynccontextmanager
async def node(
    url: str,
    *,
    publish_timeout: float = PATIENCE,
    max_bytes: int = 2**20,
    timing: Timing = QUICK,
    kept: Rules = KEPT,
    presence: PresenceTiming = PRESENCE,
) -> AsyncIterator[Node]:
    """Run a broker."""
    broker = RedisBroker(
        parse_redis_url(url),
        publish_timeout=publish_timeout,
        max_bytes=max_bytes,
        timing=timing,
        presence=presence,
    )
    one = Node(broker, Recorder(kept))
    await broker.start(one.recorder)
    try:
        yield one
    finally:
        async with asyncio.timeout(PATIENCE):
            await broker.stop()
