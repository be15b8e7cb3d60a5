"""The history of topics: which messages are kept, and what a subscriber has missed."""

import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from wsgate.topics.outlet import counted_size
from wsgate.topics.publication import Publication
from wsgate.topics.rules import ID_LIFETIMES, Rules

# Topics of which anything is known, if only the newest id. For one more, that which would expire
# next is forgotten: names may come from clients, and an id is known for long.
MAX_HISTORIES = 1_000_000


@dataclass(frozen=True, slots=True)
class Missed:
    """What a subscriber has missed.

    publications: in order. is_complete: no message is missing between the one that the subscriber
    named and the first of these. place: of the newest message of the topic, kept or not; what comes
    after it is live.
    """

    publications: Sequence[Publication]
    is_complete: bool
    place: int


@dataclass(frozen=True, slots=True)
class _Dropped:
    """What is remembered of a message that is not kept any more: not its payload."""

    id: str
    place: int
    kept_at: float


class History:
    """The kept messages of one topic.

    size: bytes that they count. due_at: when `expire` has something to do, None for never.
    dropped_place, newest_place: of the newest message that is kept no more, and of the newest one
    that was ever kept.

    Args:
        rules: Of the topic.
        dropped_place: Of the newest message of an earlier history that may have been this topic's.
    """

    __slots__ = (
        *("_entries", "_ids", "_latest_dropped", "dropped_place", "newest_place"),
        *("order", "rules", "size"),
    )

    def __init__(self, rules: Rules, dropped_place: int = 0) -> None:
        self.rules = rules
        self.size = 0
        self.dropped_place = self.newest_place = dropped_place
        self.order: int | None = None  # of the store's heaps
        self._entries: deque[Publication] = deque()
        self._ids: dict[str, Publication] = {}
        # The newest message that is not kept any more: a subscriber who had it has missed nothing
        # of what came before the first entry.
        self._latest_dropped: _Dropped | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __bool__(self) -> bool:
        """Return whether anything of the topic is known."""
        return bool(self._entries) or self._latest_dropped is not None

    @property
    def first(self) -> Publication:
        """The oldest message that is kept."""
        return self._entries[0]

    def find(self, id: str) -> Publication | None:
        """Return the message with an id if it is kept."""
        return self._ids.get(id)

    def add(self, publication: Publication, now: float) -> None:
        """Keep a message. Its id is not held yet."""
        assert publication.id is not None
        publication.kept_at = now
        self.newest_place = publication.place
        self._entries.append(publication)
        self._ids[publication.id] = publication
        self.size += counted_size(publication.encoded)
        while len(self._entries) > self.rules.history:
            self.drop_first()

    def drop_first(self) -> None:
        """Drop the oldest message."""
        dropped = self._entries.popleft()
        assert dropped.id is not None
        del self._ids[dropped.id]
        self.size -= counted_size(dropped.encoded)
        self._latest_dropped = _Dropped(dropped.id, dropped.place, dropped.kept_at)
        self.dropped_place = dropped.place

    def clear(self) -> None:
        """Forget all messages and ids."""
        self._entries.clear()
        self._ids.clear()
        self._latest_dropped = None
        self.dropped_place = self.newest_place
        self.size = 0

    def expire(self, now: float) -> None:
        """Drop what is too old."""
        while self._entries and now >= self._entries[0].kept_at + self.rules.history_seconds:
            self.drop_first()
        dropped = self._latest_dropped
        if dropped is not None and now >= dropped.kept_at + self._id_seconds:
            self._latest_dropped = None

    @property
    def due_at(self) -> float | None:
        """When the next of it is too old, in seconds; None if nothing is known."""
        times = []
        if self._entries:
            times.append(self._entries[0].kept_at + self.rules.history_seconds)
        if self._latest_dropped is not None:
            times.append(self._latest_dropped.kept_at + self._id_seconds)
        return min(times, default=None)

    @property
    def _id_seconds(self) -> float:
        return ID_LIFETIMES * self.rules.history_seconds

    def since(self, id: str) -> Sequence[Publication] | None:
        """Return the messages after the one with this id, None if the id is not known."""
        place = self._place_of(id)
        if place is None:
            return None
        return self.after(place)

    def after(self, place: int) -> Sequence[Publication]:
        """Return the kept messages after a place."""
        return [one for one in self._entries if one.place > place]

    def last(self, count: int) -> Sequence[Publication]:
        """Return the newest messages, at most so many."""
        return list(self._entries)[-count:] if count else []

    def _place_of(self, id: str) -> int | None:
        if (known := self._ids.get(id)) is not None:
            return known.place
        dropped = self._latest_dropped
        return dropped.place if dropped is not None and dropped.id == id else None


def missed_of(history: History | None, after: str | None, last: int, place: int) -> Missed:
    """Return what a subscriber has missed.

    Args:
        history: Of the topic; None if nothing is known.
        after: The id of the last message that the subscriber has; None if it has none.
        last: How many of the newest messages it gets if `after` is None or not known.
        place: Of the newest message.
    """
    if after is not None and history is not None:
        since = history.since(after)
        if since is not None:
            return Missed(since, is_complete=True, place=place)
    newest = history.last(last) if history is not None else []
    return Missed(newest, is_complete=after is None, place=place)


class Histories:
    """The histories of all topics of one process, within one limit of their bytes.

    Args:
        max_bytes: Bytes that all messages count; the oldest go first, of whichever topic. A message
            counts its payload, and `MIN_COUNTED` of the outlet at least.

    Attributes:
        forgotten_place: Of the newest message of all topics of which nothing is known any more.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.forgotten_place = 0
        self._histories: dict[str, History] = {}
        self._size = 0
        self._numbers = itertools.count()
        # Each history is at most once in each: its entry is renewed when it comes to the top. So a
        # message costs no entry of its own.
        self._oldest: list[tuple[float, int, History]] = []
        self._due: list[tuple[float, int, str]] = []

    def __len__(self) -> int:
        return len(self._histories)

    @property
    def size(self) -> int:
        """Bytes that all messages count."""
        return self._size

    @property
    def next_due(self) -> float | None:
        """When `expire` has something to do at the earliest, in seconds; None for never."""
        return self._due[0][0] if self._due else None

    def get(self, topic: str, now: float) -> History | None:
        """Return the history of a topic without what is too old; None if nothing is known."""
        history = self._histories.get(topic)
        if history is None:
            return None
        self._shrink(history, now)
        return history or None

    def add(self, publication: Publication, rules: Rules, now: float) -> None:
        """Keep a message, whose id is not held yet, and which is not above `max_bytes`."""
        topic = publication.topic
        history = self._histories.get(topic)
        if history is None:
            if len(self._histories) >= MAX_HISTORIES:
                self._forget_first_due()
            history = self._histories[topic] = History(rules, self.forgotten_place)
            heapq.heappush(self._due, (now + rules.history_seconds, next(self._numbers), topic))
        history.rules = rules
        self._size -= history.size
        history.expire(now)
        history.add(publication, now)
        self._size += history.size
        if history.order is None:
            history.order = next(self._numbers)
            heapq.heappush(self._oldest, (now, history.order, history))
        while self._size > self.max_bytes:
            self._drop_oldest()

    def forget(self, topic: str) -> None:
        """Forget all of a topic that has no history any more: it would be one with gaps."""
        history = self._histories.get(topic)
        if history is not None:
            self._size -= history.size
            history.clear()
            self.forgotten_place = max(self.forgotten_place, history.newest_place)

    def _forget_first_due(self) -> None:
        _, _, topic = heapq.heappop(self._due)
        self.forget(topic)
        self._delete(topic)
        self._tidy()

    def _delete(self, topic: str) -> None:
        history = self._histories.pop(topic)
        self.forgotten_place = max(self.forgotten_place, history.newest_place)

    def _drop_oldest(self) -> None:
        kept_at, order, history = self._oldest[0]
        if not len(history):
            heapq.heappop(self._oldest)
            history.order = None
        elif history.first.kept_at == kept_at:
            self._size -= counted_size(history.first.encoded)
            history.drop_first()
        else:
            heapq.heapreplace(self._oldest, (history.first.kept_at, order, history))

    def _shrink(self, history: History, now: float) -> None:
        self._size -= history.size
        history.expire(now)
        self._size += history.size

    def expire(self, now: float) -> None:
        """Drop all that is too old."""
        while self._due and self._due[0][0] <= now:
            _, number, topic = heapq.heappop(self._due)
            history = self._histories[topic]
            self._shrink(history, now)
            due_at = history.due_at
            if due_at is None:
                self._delete(topic)
            else:
                heapq.heappush(self._due, (due_at, number, topic))
        self._tidy()

    def _tidy(self) -> None:
        """Remove the entries of forgotten histories from a heap, once they are the greater part."""
        if len(self._oldest) > 2 * len(self._histories):
            for _, _, history in self._oldest:
                if not history:
                    history.order = None
            self._oldest = [entry for entry in self._oldest if entry[2]]
            heapq.heapify(self._oldest)
