"""How a hub counts the subscribers of a topic: it asks the workers, and adds up their answers."""

import heapq
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from wsgate.topics.messages import AskCount, Count, Message

PATIENCE = 1.0  # seconds for the workers to answer; those that do not are left out
MAX_OPEN = 1000  # questions of one connection


@dataclass(slots=True)
class _Question:
    """A question that not all workers have answered. asked: those that have not."""

    connection: int
    request: int
    asked: set[int]
    total: int = 0


class HubCounts:
    """The open questions of all connections."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._open: dict[int, _Question] = {}
        self._by_connection: dict[int, set[int]] = {}
        self._due: list[tuple[float, int]] = []  # a heap: when a question has waited long enough

    def ask(
        self, connection: int, request: int, topic: str, workers: Iterable[int], now: float
    ) -> list[tuple[int, Message]]:
        """Ask the workers, or answer at once if there are none to ask."""
        asked = set(workers)
        own = self._by_connection.setdefault(connection, set())
        if not asked or len(own) >= MAX_OPEN:
            return [(connection, Count(request, 0))]
        number = next(self._numbers)
        self._open[number] = _Question(connection, request, asked)
        own.add(number)
        heapq.heappush(self._due, (now + PATIENCE, number))
        return [(worker, AskCount(number, topic)) for worker in sorted(asked)]

    def take(self, worker: int, number: int, count: int) -> list[tuple[int, Message]]:
        """Add the answer of a worker; returns the answer of the question if it is complete."""
        question = self._open.get(number)
        if question is None or worker not in question.asked:
            return []  # it is too late
        question.asked.discard(worker)
        question.total += count
        return self._close(number) if not question.asked else []

    def _close(self, number: int) -> list[tuple[int, Message]]:
        question = self._open.pop(number)
        self._by_connection[question.connection].discard(number)
        return [(question.connection, Count(question.request, question.total))]

    def remove(self, connection: int) -> list[tuple[int, Message]]:
        """Drop the questions of a connection, and answer those that waited for it alone."""
        for number in self._by_connection.pop(connection, ()):
            del self._open[number]
        waiting = [number for number, one in self._open.items() if connection in one.asked]
        return [answer for number in waiting for answer in self.take(connection, number, 0)]

    @property
    def next_due(self) -> float | None:
        """When `expire` has something to do at the earliest, in seconds; None for never."""
        while self._due and self._due[0][1] not in self._open:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def expire(self, now: float) -> list[tuple[int, Message]]:
        """Answer the questions that have waited long enough with what has arrived."""
        found: list[tuple[int, Message]] = []
        while (due := self.next_due) is not None and due <= now:
            found += self._close(heapq.heappop(self._due)[1])
        return found
