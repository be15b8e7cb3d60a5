"""The topics of a worker with the most subscribers, as an operator lists them."""

import heapq
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from wsgate.server.iteration import AT_ONCE, each

if TYPE_CHECKING:
    from wsgate.server.worker import Worker

PAGE = 100  # topics in one page

Item = dict[str, Any]


class TopicList:
    """The topics of a worker that match a pattern and have subscribers or listeners.

    Attributes:
        total: How many matched.
        subscriptions: How many subscribers and listeners they have together.
    """

    def __init__(self) -> None:
        self.total = 0
        self.subscriptions = 0
        self._largest: list[tuple[int, str]] = []  # less than 0, so that the smallest come first

    @property
    def listed(self) -> int:
        """How many of them are in the pages."""
        return len(self._largest)

    async def read(self, worker: "Worker", pattern: str | None, limit: int) -> None:
        """Find those with the most subscribers. The event loop runs after every `AT_ONCE`.

        Args:
            worker: The worker.
            pattern: As of `fnmatch`, None for all.
            limit: How many are listed; the others are counted only.
        """
        async for topic in each(worker.topics.local_topics):
            count = len(topic)
            if not count or (pattern is not None and not fnmatchcase(topic.name, pattern)):
                continue
            self.total += 1
            self.subscriptions += count
            self._largest.append((-count, topic.name))
            if len(self._largest) >= limit + AT_ONCE:
                self._largest = heapq.nsmallest(limit, self._largest)
        self._largest = heapq.nsmallest(limit, self._largest)

    def pages(self, worker: "Worker") -> Iterator[list[Item]]:
        """Yield the topics in pages, those with the most subscribers first."""
        for start in range(0, len(self._largest), PAGE):
            page = self._largest[start : start + PAGE]
            yield [_item(worker, name, -count) for count, name in page]


def _item(worker: "Worker", name: str, subscribers: int) -> Item:
    """Return a topic as data; what is published in it is known only with metrics."""
    rates = None if worker.meter is None else worker.meter.activity.rates_of(name)
    publishes, deliveries = (None, None) if rates is None else (round(one, 3) for one in rates)
    return {
        "topic": name,
        "subscribers": subscribers,
        "publishes_rate": publishes,
        "deliveries_rate": deliveries,
    }
