"""All deadlines of a worker in coarse buckets, looked at by one sweep."""

import math
from itertools import islice
from typing import Protocol

NEVER = math.inf
TICK = 0.25  # seconds that a bucket spans, so a deadline is late by at most that
LINGER = 2.0  # seconds for a client to close after we have closed our half of the connection
_TURN = 100  # connections that one sweep looks at before the loop gets its turn


class Checked(Protocol):
    """Something that has deadlines.

    bucket: where it is filed, None while it is not; kept by `Deadlines`.
    """

    bucket: int | None

    def check(self, now: float) -> float:
        """Do what is due at `now` and return when to ask again, infinity for never."""


class Deadlines:
    """Files everything under its earliest deadline; to file it later than it stands is free."""

    def __init__(self) -> None:
        self._buckets: dict[int, tuple[int, set[Checked]]] = {}

    def arm(self, item: Checked, at: float) -> None:
        """See that `item` is checked at `at`, or earlier."""
        filed = item.bucket
        if filed is not None:
            if at > (filed - 1) * TICK:
                return  # it is looked at before, or then, and says itself when next
            self.disarm(item)
        elif at == NEVER:
            return
        bucket = math.ceil(at / TICK)
        place = self._buckets.get(bucket)
        if place is None:
            place = self._buckets[bucket] = (bucket, set())
        item.bucket, items = place  # one number for all of them
        items.add(item)

    def disarm(self, item: Checked) -> None:
        """Forget `item`."""
        if item.bucket is None:
            return
        self._buckets[item.bucket][1].discard(item)
        item.bucket = None

    def sweep(self, now: float) -> bool:
        """Check what is due; True when some of it is left for the loop's next turn."""
        last = math.floor(now / TICK)
        room = _TURN
        for bucket in sorted(b for b in self._buckets if b <= last):
            _, items = self._buckets[bucket]
            for item in list(islice(items, room)):
                if item not in items:
                    continue  # another's check has filed it elsewhere
                items.discard(item)
                item.bucket = None
                self.arm(item, max(item.check(now), now))
                room -= 1
            if items:
                return True
            del self._buckets[bucket]
        return False
