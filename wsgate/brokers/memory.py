"""The broker of one process: `memory:`."""

import math
import secrets
from collections.abc import Callable
from typing import Protocol

from wsgate.brokers.broker import BrokerState, Receiver
from wsgate.topics.errors import LimitReached
from wsgate.topics.history import Histories, Missed, missed_of
from wsgate.topics.outlet import counted_size
from wsgate.topics.presence import Presence
from wsgate.topics.publication import Publication
from wsgate.topics.rules import Rules


class Scheduler(Protocol):
    """Calls `check` of an item later, as the deadlines of a worker do."""

    def schedule(self, item: "MemoryBroker", at: float) -> None:
        """Have the item checked at a time of the clock, in seconds, or a little later."""


class MemoryBroker:
    """Publications, histories and presence of one process.

    Args:
        clock: Returns a monotonic time in seconds.
        scheduler: Calls `check` when something is due.
        max_bytes: Bytes of all kept messages.

    Attributes:
        bucket: Of the scheduler.
    """

    def __init__(self, clock: Callable[[], float], scheduler: Scheduler, max_bytes: int) -> None:
        self._clock = clock
        self._scheduler = scheduler
        self._receiver: Receiver
        self._histories = Histories(max_bytes)
        self._presence = Presence()
        self._epoch = secrets.token_hex(4)
        self._place = 0  # of the newest message of all topics with history
        self.bucket: int | None = None

    async def start(self, receiver: Receiver) -> None:
        """Deliver to this receiver from now on."""
        self._receiver = receiver

    async def stop(self) -> None:
        """Do nothing: nothing outlives the process."""

    def state(self) -> BrokerState:
        """Return that it is always there."""
        return BrokerState()

    async def attach(self, topic: str) -> None:
        """Do nothing: all publications are of this process, and delivered."""

    def detach(self, topic: str) -> None:
        """Do nothing, as in `attach`."""

    async def publish(
        self, publication: Publication, rules: Rules, excluded: object | None, *, is_kept: bool
    ) -> None:
        """Publish a message, and set its id and place."""
        if rules.history:
            if is_kept and self._is_known(publication):
                return
            self._place += 1
            publication.place = self._place
            if is_kept:
                self._keep(publication, rules)
        else:
            self._histories.forget(publication.topic)  # the topic may have had one before
        self._receiver.deliver(publication, excluded)

    def _is_known(self, publication: Publication) -> bool:
        if publication.id is None:
            return False
        history = self._histories.get(publication.topic, self._clock())
        return history is not None and history.find(publication.id) is not None

    def _keep(self, publication: Publication, rules: Rules) -> None:
        size, largest = counted_size(publication.encoded), self._histories.max_bytes
        if size > largest:
            raise LimitReached(
                f"a message of {size:,} bytes is above --topics-history-max-bytes ({largest:,})"
            )
        publication.id = publication.id or f"{self._epoch}-{publication.place}"
        self._histories.add(publication, rules, self._clock())
        self._plan(self._histories.next_due)

    async def missed(self, topic: str, after: str | None, last: int) -> Missed:
        """Return what a subscriber has missed."""
        history = self._histories.get(topic, self._clock())
        return missed_of(history, after, last, self._place)

    async def count(self, topic: str) -> int:
        """Return the number of subscribers and listeners."""
        return self._receiver.subscribers(topic)

    async def members(self, topic: str) -> dict[str, int]:
        """Return the number of connections of each member."""
        return self._presence.members(topic)

    def changed(self, topic: str) -> None:
        """Do nothing: `count` asks the receiver."""

    def join(self, topic: str, member: str) -> None:
        """Count a connection of a member."""
        change = self._presence.join(topic, member)
        if change is not None:
            self._receiver.change(change)

    def leave(self, topic: str, member: str) -> None:
        """Count the end of a connection of a member."""
        self._presence.leave(topic, member, self._clock())
        self._plan(self._presence.next_due)

    def _plan(self, at: float | None) -> None:
        if at is not None:
            self._scheduler.schedule(self, at)

    def check(self, now: float) -> float:
        """Drop old messages and announce members who have left; return when to check again."""
        self._histories.expire(now)
        for change in self._presence.take_left(now):
            self._receiver.change(change)
        due = (self._histories.next_due, self._presence.next_due)
        return min((at for at in due if at is not None), default=math.inf)
