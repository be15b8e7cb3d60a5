"""Presence: who is in which topic, and who has joined and left."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

GRACE = 3.0  # seconds in which a member may come back without having left


@dataclass(frozen=True, slots=True)
class Change:
    """A member has joined a topic, or left it."""

    topic: str
    member: str
    has_joined: bool


class _Membership:
    """A member of one topic. connections: how many it has. left_at: when the last one ended."""

    __slots__ = ("connections", "left_at")

    def __init__(self) -> None:
        self.connections = 0
        self.left_at: float | None = None


class Presence:
    """The members of all topics. A member may have many connections."""

    def __init__(self) -> None:
        self._topics: dict[str, dict[str, _Membership]] = {}
        self._leaving: list[tuple[float, str, str]] = []  # a heap: when a member will have left

    def __len__(self) -> int:
        return len(self._topics)

    def members(self, topic: str) -> dict[str, int]:
        """Return the number of connections of each member that has any."""
        members = self._topics.get(topic, {})
        return {name: one.connections for name, one in members.items() if one.connections}

    def join(self, topic: str, member: str) -> Change | None:
        """Count a connection; returns the change if it is the member's first one."""
        members = self._topics.setdefault(topic, {})
        is_new = member not in members
        one = members.setdefault(member, _Membership())
        one.connections += 1
        one.left_at = None
        return Change(topic, member, has_joined=True) if is_new else None

    def leave(self, topic: str, member: str, now: float) -> None:
        """Count the end of a connection. The member has left GRACE seconds after the last one."""
        one = self._topics[topic][member]
        one.connections -= 1
        if not one.connections:
            one.left_at = now
            heapq.heappush(self._leaving, (now + GRACE, topic, member))

    @property
    def next_due(self) -> float | None:
        """When `take_left` has something to return at the earliest, in seconds; None for never."""
        return self._leaving[0][0] if self._leaving else None

    def take_left(self, now: float) -> Iterable[Change]:
        """Forget the members who have left by now, and return the changes."""
        changes = []
        while self._leaving and self._leaving[0][0] <= now:
            left_at, topic, member = heapq.heappop(self._leaving)
            one = self._topics.get(topic, {}).get(member)
            # A member who came back and left again is due later.
            if one is None or one.left_at is None or one.left_at + GRACE > left_at:
                continue
            del self._topics[topic][member]
            if not self._topics[topic]:
                del self._topics[topic]
            changes.append(Change(topic, member, has_joined=False))
        return changes
