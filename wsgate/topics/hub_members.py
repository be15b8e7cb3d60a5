"""The members that each connection of a hub has, and which worker announces a change."""

from collections import deque
from collections.abc import Iterable

from wsgate.topics.messages import Announce, SetMember
from wsgate.topics.presence import Change, Presence

MAX_WAITING = 100_000  # changes that wait for a worker; of more the oldest are not announced


class HubMembers:
    """Counts the members of all connections, and has each change announced by one worker."""

    def __init__(self) -> None:
        self._presence = Presence()
        self._by_connection: dict[int, dict[tuple[str, str], int]] = {}
        self._workers: dict[int, None] = {}
        self._waiting: deque[Change] = deque(maxlen=MAX_WAITING)

    def add(self, connection: int, *, is_worker: bool) -> Iterable[tuple[int, Announce]]:
        """Add a connection; returns what it announces if it is the first worker."""
        self._by_connection[connection] = {}
        if not is_worker:
            return ()
        self._workers[connection] = None
        waiting = list(self._waiting)
        self._waiting.clear()
        return self._announcements(waiting, connection)

    def remove(self, connection: int, now: float) -> None:
        """Remove a connection: its members have left, unless they return in time."""
        self._workers.pop(connection, None)
        for (topic, member), count in self._by_connection.pop(connection).items():
            self._leave(topic, member, count, now)

    def set(
        self, connection: int, message: SetMember, now: float
    ) -> Iterable[tuple[int, Announce]]:
        """Set how many connections a member has; returns what is announced."""
        own, key = self._by_connection[connection], (message.topic, message.member)
        former = own.pop(key, 0)
        if message.connections:
            own[key] = message.connections
        changes = [
            change
            for _ in range(message.connections - former)
            if (change := self._presence.join(*key)) is not None
        ]
        self._leave(*key, former - message.connections, now)
        return () if message.is_known else self._announcements(changes, connection)

    def _leave(self, topic: str, member: str, count: int, now: float) -> None:
        for _ in range(count):
            self._presence.leave(topic, member, now)

    def members(self, topic: str) -> dict[str, int]:
        """Return the number of connections of each member."""
        return self._presence.members(topic)

    @property
    def next_due(self) -> float | None:
        """When `expire` has something to do at the earliest, in seconds; None for never."""
        return self._presence.next_due

    def expire(self, now: float) -> Iterable[tuple[int, Announce]]:
        """Return the announcements of those who have left by now."""
        return self._announcements(self._presence.take_left(now), None)

    def _announcements(
        self, changes: Iterable[Change], connection: int | None
    ) -> list[tuple[int, Announce]]:
        """Return the announcements of changes: by this worker, else by the newest one."""
        if connection not in self._workers:
            connection = next(reversed(self._workers), None)
        if connection is None:
            self._waiting.extend(changes)
            return []
        return [(connection, Announce(one.topic, one.member, one.has_joined)) for one in changes]
