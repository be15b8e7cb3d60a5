"""Which topics are busy now: publications and deliveries of the last seconds."""

import heapq
from typing import NamedTuple

WINDOW = 5.0  # seconds that are counted together
MOST_TOPICS = 10_000  # that are counted in a window; further ones are left out


class BusyTopic(NamedTuple):
    """A topic and what is published in it, per second."""

    topic: str
    publishes: float
    deliveries: float


class TopicActivity:
    """Counts publications by topic for one window after the other."""

    def __init__(self) -> None:
        self._began_at = 0.0
        self._current: dict[str, tuple[int, int]] = {}
        self._latest: dict[str, tuple[int, int]] = {}
        self._length = WINDOW  # of the latest window

    def add(self, topic: str, deliveries: int) -> None:
        """Count a publication."""
        publishes, delivered = self._current.get(topic, (0, 0))
        if publishes or len(self._current) < MOST_TOPICS:
            self._current[topic] = (publishes + 1, delivered + deliveries)

    def rotate(self, now: float) -> None:
        """Begin a new window if the present one has its length. now: seconds of any clock."""
        length = now - self._began_at
        if length >= WINDOW:
            self._latest, self._current = self._current, {}
            self._began_at, self._length = now, length

    def busiest(self, count: int) -> list[BusyTopic]:
        """Return the topics with the most deliveries of the latest window, the first one first."""
        most = heapq.nlargest(count, self._latest.items(), key=_weight)
        return [
            BusyTopic(topic, publishes / self._length, deliveries / self._length)
            for topic, (publishes, deliveries) in most
        ]

    def rates_of(self, topic: str) -> tuple[float, float] | None:
        """Return publications and deliveries per second of the latest window; None if not known."""
        found = self._latest.get(topic)
        if found is None:
            return (0.0, 0.0) if len(self._latest) < MOST_TOPICS else None
        publishes, deliveries = found
        return publishes / self._length, deliveries / self._length


def _weight(item: tuple[str, tuple[int, int]]) -> tuple[int, int]:
    publishes, deliveries = item[1]
    return deliveries, publishes
