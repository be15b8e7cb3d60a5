"""Who is in which topic over all machines, and how many: what this worker adds, and what all have.

Each worker stores its own numbers with a lease that it renews. A script removes what a worker has
left whose lease is over. All that is stored are numbers, not changes: so it can be stored again.
Who has left is given to one worker, and forgotten when that has confirmed that it was announced.
"""

import asyncio
import functools
import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from wsgate import loggers
from wsgate.brokers.redis import presence_scripts as scripts
from wsgate.brokers.redis.commands import TooManyCalls
from wsgate.brokers.redis.connection import ReplyError
from wsgate.brokers.redis.keys import PARTITIONS, partition_of, partition_prefix
from wsgate.brokers.redis.servers import Servers
from wsgate.topics.presence import GRACE, Change

MAX_NUMBERS = 500  # of one script
FLUSH_PAUSE = 0.02  # seconds
_SWEPT = 2  # UPDATE: others have removed this worker's entries; they took it for dead
_MARGIN = 0.01  # seconds added to the grace of a member, because clocks differ

Entry = tuple[str, str]  # topic and member; no member for the number of the topic's subscribers


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceTiming:
    """Seconds.

    lease: after which a worker counts as dead if it neither renews its lease nor confirms its
    announcements of members who left. interval: between two renewals, and between two removals of
    the entries of dead workers. grace: in which a member may come back.
    """

    lease: float = 8.0
    interval: float = 2.5
    grace: float = GRACE


class RedisPresence:
    """The members and the numbers of subscribers.

    Args:
        servers: Where they are.
        worker: The name of this worker: 8 bytes.
        timing: The lease and the intervals.
        on_change: Called with each change that this worker is to announce.
        count: Returns the number of a topic's subscribers on this worker.
    """

    def __init__(
        self,
        servers: Servers,
        worker: bytes,
        timing: PresenceTiming,
        on_change: Callable[[Change], object],
        count: Callable[[str], int],
    ) -> None:
        self._servers = servers
        self._worker = worker.hex()
        self._timing = timing
        self._on_change = on_change
        self._count = count
        self._members: dict[Entry, int] = {}
        # What is not zero, by partition.
        self._present: dict[int, dict[Entry, None]] = {n: {} for n in range(PARTITIONS)}
        self._stored: set[Entry] = set()  # those that were sent, and are not zero since
        self._announced: set[Entry] = set()
        self._tokens: dict[Entry, str] = {}  # of members that were sent, until the reply
        self._numbers = itertools.count()
        self._registered: set[int] = set()  # partitions in which this worker has a lease
        self._changed: dict[Entry, None] = {}
        self._has_changed = asyncio.Event()
        self._due: list[tuple[float, int]] = []  # a heap: when a member of a partition has left
        self._renewed_at = 0.0
        # Of each partition the members who were announced as left, with their tokens, until Redis
        # has noted that they were.
        self._unconfirmed: dict[int, dict[bytes, str]] = {}
        self._is_stopping = False

    # -- what changes here -------------------------------------------------------------------------

    def change(self, topic: str, member: str, change: int) -> None:
        """Add to the number of connections of a member."""
        entry = (topic, member)
        number = self._members.get(entry, 0) + change
        if number > 0:
            self._members[entry] = number
        else:
            self._members.pop(entry, None)
            self._announced.discard(entry)
        self._note_number(entry)

    def note_count(self, topic: str) -> None:
        """Notice that the number of subscribers has changed."""
        self._note_number((topic, ""))

    def _note_number(self, entry: Entry) -> None:
        present = self._present[partition_of(entry[0])]
        if self._number(entry):
            present[entry] = None
        else:
            present.pop(entry, None)
        self._note(entry)

    def _note(self, entry: Entry) -> None:
        if self._number(entry) or entry in self._stored:
            self._changed[entry] = None
            self._has_changed.set()
        else:
            self._changed.pop(entry, None)  # it has come and gone without being stored

    def _number(self, entry: Entry) -> int:
        topic, member = entry
        return self._members.get(entry, 0) if member else self._count(topic)

    # -- storing -----------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what has changed. Commands that are sent later see it."""
        changed, self._changed = self._changed, {}
        self._has_changed.clear()
        groups: dict[int, list[Entry]] = {}
        for entry in changed:
            groups.setdefault(partition_of(entry[0]), []).append(entry)
        for partition, entries in groups.items():
            for start in range(0, len(entries), MAX_NUMBERS):
                self._store(partition, entries[start : start + MAX_NUMBERS])

    def _store(self, partition: int, entries: list[Entry]) -> None:
        numbers: list[str | int] = []
        tokens = {entry: self._token(entry) for entry in entries}
        for topic, member in entries:
            number = self._number((topic, member))
            numbers += (topic, member, number, tokens[topic, member])
            if number:
                self._stored.add((topic, member))
        lease = int(self._timing.lease * 1000)
        try:
            reply = self._call(scripts.UPDATE, partition, self._worker, lease, *numbers)
        except TooManyCalls:
            self._changed.update(dict.fromkeys(entries))
            return
        reply.add_done_callback(functools.partial(self._note_stored, partition, tokens))

    def _token(self, entry: Entry) -> str:
        if not entry[1]:
            return ""
        return self._tokens.setdefault(entry, f"{self._worker}{next(self._numbers)}")

    def _call(
        self, script: Any, partition: int, *arguments: str | bytes | float
    ) -> "asyncio.Future[Any]":
        prefix = partition_prefix(partition)
        return self._servers.find(partition).commands.call_script(
            script,
            (f"{prefix}leases",),
            prefix,
            int(self._timing.grace * 1000),
            *arguments,
            partition=partition,
        )

    def _note_stored(
        self, partition: int, tokens: dict[Entry, str], reply: "asyncio.Future[Any]"
    ) -> None:
        if reply.cancelled():
            return
        if isinstance(error := reply.exception(), ReplyError):
            loggers.error.error("Presence cannot be stored in Redis: %s", error)
            self._changed.update(dict.fromkeys(tokens))  # tried again with the next renewal
            return
        if error is not None:
            for entry in tokens:
                self._note(entry)
            return
        state, news = reply.result()
        if state and partition in self._registered:
            self._store_again(partition, is_swept=state == _SWEPT)
        self._registered.add(partition)
        for (entry, token), is_new in zip(tokens.items(), news, strict=True):
            # Of two replies with the same token, the first one announces.
            is_first = self._tokens.get(entry) == token
            if is_first:
                del self._tokens[entry]
            self._note_entry(entry, is_new=bool(is_new) and is_first)

    def _note_entry(self, entry: Entry, *, is_new: bool) -> None:
        topic, member = entry
        number = self._number(entry)
        if not number:
            self._stored.discard(entry)
            if member:
                self._plan_sweep(partition_of(topic))
        if not member:
            return
        if is_new and entry not in self._announced:
            self._on_change(Change(topic, member, has_joined=True))
        if number:
            self._announced.add(entry)

    def _store_again(self, partition: int, *, is_swept: bool) -> None:
        """Store all numbers of a partition: Redis has lost them, or others have removed them.

        Those who were removed have left, as others have announced or will: they join anew.
        """
        for entry in self._present[partition]:
            if is_swept:
                self._announced.discard(entry)
            self._note(entry)

    # -- looking at intervals ----------------------------------------------------------------------

    async def run(self) -> None:
        """Store changes, renew the leases, and announce members who have left."""
        time = asyncio.get_running_loop().time
        while True:
            try:
                async with asyncio.timeout_at(self._next_due()):
                    await self._has_changed.wait()
            except TimeoutError:
                pass
            self.flush()
            await asyncio.sleep(FLUSH_PAUSE)  # what changes meanwhile is stored together
            now = time()
            while self._due and self._due[0][0] <= now:
                self._sweep(heapq.heappop(self._due)[1])
            if now >= self._renewed_at + self._timing.interval:
                self._renewed_at = now
                self.renew(self._registered)
                for partition in range(PARTITIONS):
                    self._sweep(partition)

    def _next_due(self) -> float:
        at = self._renewed_at + self._timing.interval
        return min(at, self._due[0][0]) if self._due else at

    def renew(self, partitions: Iterable[int]) -> None:
        """Renew the leases of partitions, as far as this worker has any."""
        for partition in self._registered.intersection(partitions):
            if self._servers.find(partition).commands.is_up:
                self._store(partition, [])

    def _plan_sweep(self, partition: int) -> None:
        at = asyncio.get_running_loop().time() + self._timing.grace + _MARGIN
        heapq.heappush(self._due, (at, partition))
        self._has_changed.set()

    def _sweep(self, partition: int) -> None:
        """Ask for members who have left, and confirm those that this worker has announced."""
        if not self._servers.find(partition).commands.is_up:
            return
        time = asyncio.get_running_loop().time
        token = f"{self._worker}{next(self._numbers)}"
        confirmed = list(self._unconfirmed.get(partition, {}).items())[:MAX_NUMBERS]
        claim = int(self._timing.lease * 1000)
        pairs: list[str | bytes] = [text for pair in confirmed for text in pair]
        expires_at = time() + self._timing.lease
        try:
            reply = self._call(scripts.SWEEP, partition, token, claim, *pairs)
        except TooManyCalls:
            return  # tried again with the next renewal

        def take(reply: "asyncio.Future[Any]") -> None:
            if reply.cancelled() or reply.exception() is not None or self._is_stopping:
                return  # those who have left are given to another worker later
            if time() < expires_at:  # else they may have been
                self._take_swept(partition, token, dict(confirmed), *reply.result())

        reply.add_done_callback(take)

    def _take_swept(
        self,
        partition: int,
        token: str,
        confirmed: dict[bytes, str],
        left: list[bytes],
        back: list[bytes],
    ) -> None:
        unconfirmed = self._unconfirmed.get(partition, {})
        for key, its_token in confirmed.items():
            is_first = unconfirmed.get(key) == its_token  # of two replies to the same
            if is_first:
                del unconfirmed[key]
            if is_first and key in back:
                self._on_change(Change(*_topic_and_member(key), has_joined=True))
        for key in left:
            self._on_change(Change(*_topic_and_member(key), has_joined=False))
        if left:
            self._unconfirmed.setdefault(partition, unconfirmed).update(dict.fromkeys(left, token))
            self._sweep(partition)  # confirms it
        elif not unconfirmed:
            self._unconfirmed.pop(partition, None)

    # -- asking ------------------------------------------------------------------------------------

    async def members(self, topic: str) -> dict[str, int]:
        """Return the number of connections of each member on all workers."""
        self.flush()
        found = await self._call(scripts.MEMBERS, partition_of(topic), topic)
        names = (name.decode() for name in found[::2])
        return dict(zip(names, found[1::2], strict=True))

    async def count_others(self, topic: str) -> int:
        """Return the number of subscribers on all other workers."""
        reply = self._call(scripts.COUNT, partition_of(topic), topic, self._worker)
        return int(await reply)

    def clear(self) -> None:
        """Have nothing stored: this worker stops."""
        self._is_stopping = True
        self._members.clear()
        self._count = _nobody
        for entry in list(self._stored):
            self._note(entry)
        self.flush()


def _topic_and_member(key: bytes) -> tuple[str, str]:
    """Return what the scripts have joined: the size of the topic, a colon, topic and member."""
    size, _, rest = key.partition(b":")
    return rest[: int(size)].decode(), rest[int(size) :].decode()


def _nobody(topic: str) -> int:
    del topic
    return 0
