"""Follows one topic with history: every publication once, in order, and every gap noticed."""

import asyncio
import bisect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from wsgate.brokers.redis.format import Frame

MAX_HELD = 10_000  # publications that wait until a gap is closed
MAX_HELD_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a history is, and what it has after a place.

    epoch, place: of the newest message. chain: the earlier epochs that this one continues, with the
    last place of each. dropped: place of the newest message that was kept and is not any more.
    frames: the kept messages after the place that was asked for.
    """

    epoch: bytes
    place: int
    chain: Mapping[bytes, int]
    dropped: int
    frames: list[Frame]


class Follower:
    """How far this worker has delivered one topic.

    Args:
        deliver: Called with each publication, in order.
        on_gap: Called when publications are missing: `close_gap` is to be called.
        on_lost: Called when a gap cannot be closed, before anything after it is delivered.

    Attributes:
        place: Of the last publication that was delivered; None before the first `close_gap`.
        is_synced: No publication is missing up to `place`, and what is published arrives.
    """

    __slots__ = (
        *("_deliver", "_held", "_held_bytes", "_on_gap", "_on_lost", "_synced", "_waiting"),
        *("epoch", "is_synced", "place"),
    )

    def __init__(
        self,
        deliver: Callable[[Frame], object],
        on_gap: Callable[[], object],
        on_lost: Callable[[], object],
    ) -> None:
        self._deliver = deliver
        self._on_gap = on_gap
        self._on_lost = on_lost
        self.epoch = b""
        self.place: int | None = None
        self.is_synced = False
        self._held: list[Frame] = []
        self._held_bytes = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._synced: asyncio.Future[None] | None = None

    def receive(self, frame: Frame) -> None:
        """Take a publication as it arrives: deliver it, or hold it until the gap is closed."""
        if not self.is_synced:
            self._hold(frame)
        elif frame.epoch != self.epoch or frame.place > self._next:
            self._hold(frame)
            self.lose_sync()
        elif frame.place == self._next:
            self._pass(frame)

    def receive_own(self, frame: Frame) -> None:
        """Take a publication of this worker whose place is known; it arrives later as well."""
        if self.is_synced and frame.epoch == self.epoch and frame.place == self._next:
            self._pass(frame)

    @property
    def _next(self) -> int:
        return (self.place or 0) + 1

    def _pass(self, frame: Frame) -> None:
        self.place = frame.place
        self._deliver(frame)
        self._wake()

    def _hold(self, frame: Frame) -> None:
        self._held.append(frame)
        self._held_bytes += len(frame.data)
        if len(self._held) > MAX_HELD or self._held_bytes > MAX_HELD_BYTES:
            self._drop_held()  # the stream has them

    def _drop_held(self) -> None:
        self._held, self._held_bytes = [], 0

    def lose_sync(self) -> None:
        """Notice that publications may be missing."""
        self.is_synced = False
        self._on_gap()

    def begin_sync(self) -> int | None:
        """Hold what arrives until `close_gap`; returns the place after which to read."""
        self.is_synced = False
        return self.place

    def close_gap(self, reached: Reached) -> None:
        """Deliver what was missed, and what was held.

        Args:
            reached: The history after `place`, read while the channel was subscribed.
        """
        if self.place is None:
            pass  # nothing was followed before
        elif self._is_complete(self.place, reached):
            for frame in reached.frames:
                if frame.place >= self._next:
                    self._pass(frame)
        else:
            self._on_lost()
        self.epoch, self.place = reached.epoch, reached.place
        self.is_synced = True
        self._wake()
        held = self._held
        self._drop_held()
        for frame in held:
            if frame.epoch != self.epoch or frame.place > reached.place:
                self.receive(frame)
        if self._synced is not None:
            self._synced.set_result(None)
            self._synced = None

    def _is_complete(self, place: int, reached: Reached) -> bool:
        if place < reached.dropped:
            return False
        if self.epoch == reached.epoch:
            return place <= reached.place
        return place <= reached.chain.get(self.epoch, -1)

    # -- waiting calls -----------------------------------------------------------------------------

    async def wait_until_synced(self) -> None:
        """Wait until `close_gap` was called, or the topic is not followed any more.

        The caller has a deadline.
        """
        if not self.is_synced:
            if self._synced is None:
                self._synced = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._synced)

    async def wait_for(self, place: int) -> None:
        """Wait until what has a place was delivered. The caller has a deadline."""
        if self.place is not None and self.is_synced and self.place >= place:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (place, future)
        bisect.insort(self._waiting, entry, key=lambda one: one[0])
        try:
            await future
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= (self.place or 0):
            _complete([self._waiting.pop(0)])

    def end(self) -> None:
        """Release all who wait: the topic is not followed any more."""
        waiting, self._waiting = self._waiting, []
        _complete(waiting)
        if self._synced is not None:
            self._synced.set_result(None)
            self._synced = None


def _complete(waiting: Iterable[tuple[int, "asyncio.Future[None]"]]) -> None:
    for _, future in waiting:
        if not future.done():
            future.set_result(None)
