"""Adds up the topics that workers list; each lists only those with the most subscribers."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from wsgate.process.commands import Part

PAGE = 100  # topics in one part

Item = dict[str, Any]


@dataclass(slots=True)
class _Answer:
    """The answer of one worker. end: its last part, None until it has come."""

    topics: list[Item] = field(default_factory=list)
    end: Part | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all topics of the worker are listed."""
        return self.end is not None and self.end["listed"] == self.end["total"]

    @property
    def least(self) -> int:
        """How many subscribers a topic may have that is not listed."""
        return 0 if self.is_whole or not self.topics else int(self.topics[-1]["subscribers"])


class TopicTotals:
    """The topics of all workers."""

    def __init__(self) -> None:
        self._answers: dict[int, _Answer] = {}  # by worker

    def add(self, part: Part) -> None:
        """Add a part of a worker's answer."""
        answer = self._answers.setdefault(part["worker"], _Answer())
        if "topics" in part:
            answer.topics += part["topics"]
        else:
            answer.end = part

    def parts(self, limit: int, unanswered: list[int]) -> Iterator[Part]:
        """Yield the topics with the most subscribers in pages, and then the totals.

        Args:
            limit: How many are listed.
            unanswered: The workers that are missing.
        """
        merged = self._merge()
        listed = sorted(merged, key=_order)[:limit]
        for start in range(0, len(listed), PAGE):
            yield {"topics": listed[start : start + PAGE]}
        answers = self._answers.values()
        ends = [one.end for one in answers if one.end is not None]
        is_whole = all(one.is_whole for one in answers)
        yield {
            "total": len(merged) if is_whole else sum(end["total"] for end in ends),
            "listed": len(listed),
            "subscriptions": sum(end["subscriptions"] for end in ends),
            "unanswered": unanswered,
        }

    def _merge(self) -> list[Item]:
        """Return each topic once, with the sums over the workers."""
        answers = self._answers.values()
        missing = sum(one.least for one in answers)
        merged: dict[str, Item] = {}
        for answer in answers:
            for item in answer.topics:
                name = item["topic"]
                known = merged.get(name) or {**_NOTHING, "topic": name, "at_most": missing}
                merged[name] = _add(known, item, answer.least)
        return list(merged.values())


_NOTHING: Item = {"subscribers": 0, "publishes_rate": None, "deliveries_rate": None}


def _add(known: Item, item: Item, least: int) -> Item:
    """Return a topic with what one more worker has of it."""
    subscribers = item["subscribers"]
    publishes, deliveries = item["publishes_rate"], item["deliveries_rate"]
    return {
        "topic": known["topic"],
        "subscribers": known["subscribers"] + subscribers,
        "at_most": known["at_most"] + subscribers - least,
        # Each worker with subscribers counts the same publications, and its own deliveries.
        "publishes_rate": _largest(known["publishes_rate"], publishes),
        "deliveries_rate": _sum(known["deliveries_rate"], deliveries),
    }


def _largest(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else max(one, other)


def _sum(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else one + other


def _order(item: Item) -> tuple[int, str]:
    return -item["subscribers"], item["topic"]
