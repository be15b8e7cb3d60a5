"""All deadlines of a worker, kept in coarse time buckets and checked by one sweep."""

import math
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

from wsgate.observe.throttled_log import throttled

NEVER = math.inf
TICK = 0.25  # seconds that a bucket spans; a deadline is enforced at most that late
LINGER = 2.0  # seconds to wait for a client to close after our half is closed
MAX_PAUSE = 1.0  # seconds between two sweeps, even if nothing is due
_MARGIN = 0.002  # seconds: timers of event loops may be a millisecond early
_MAX_CHECKS = 100  # items that one sweep checks before it yields to the event loop


class Checked(Protocol):
    """Something that has deadlines.

    bucket: the number of its time bucket, None while no check is scheduled; set by `Deadlines`.
    """

    bucket: int | None

    def check(self, now: float) -> float:
        """Enforce the deadlines that have passed.

        Args:
            now: Time of the worker's clock in seconds.

        Returns:
            When to check again, infinity for never.
        """


class Deadlines:
    """Schedules checks of items, in time buckets.

    Moving a deadline to a later time costs nothing. The item stays in its bucket and is checked
    early; its `check` then returns the later time.

    A process that wakes does so with cold caches, which costs as much as some ten checks. So while
    nothing is due, sweeps are up to MAX_PAUSE apart.

    Attributes:
        hasten: Called when a check is scheduled before the next sweep, as planned by `plan_sweep`;
            it is to plan it anew.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, tuple[int, set[Checked]]] = {}
        self._planned: float = -math.inf  # the last bucket of the next sweep, if it is planned
        self.hasten: Callable[[], object] = do_nothing

    def schedule(self, item: Checked, at: float) -> None:
        """Schedule a check of `item` at the given time or earlier; it is at most `TICK` s late.

        Args:
            item: What to check.
            at: Time of the worker's clock in seconds, infinity for never.
        """
        current = item.bucket
        if current is not None:
            if at > (current - 1) * TICK:
                return  # the scheduled check is early enough, and returns the next time
            self.cancel(item)
        elif at == NEVER:
            return
        bucket = math.ceil(at / TICK)
        entry = self._buckets.get(bucket)
        if entry is None:
            entry = self._buckets[bucket] = (bucket, set())
        item.bucket, items = entry  # all items share one int object
        items.add(item)
        if bucket < self._planned:
            self.hasten()

    def cancel(self, item: Checked) -> None:
        """Cancel the scheduled check of `item`, if there is one."""
        if item.bucket is None:
            return
        self._buckets[item.bucket][1].discard(item)
        item.bucket = None

    def sweep(self, now: float) -> bool:
        """Check the items whose time has come, at most `_MAX_CHECKS` of them.

        Args:
            now: Time of the worker's clock in seconds.

        Returns:
            Whether some are left for the next iteration of the event loop.
        """
        self._planned = -math.inf
        last = math.floor(now / TICK)
        soon = (last + 1) * TICK  # a later bucket, so that no item is checked twice in one sweep
        room = _MAX_CHECKS
        for bucket in sorted(b for b in self._buckets if b <= last):
            _, items = self._buckets[bucket]
            while items:
                if not room:
                    return True
                room -= 1
                item = items.pop()
                item.bucket = None
                self._check(item, now, soon)
            del self._buckets[bucket]
        return False

    def _check(self, item: Checked, now: float, soon: float) -> None:
        """Check an item and schedule its next check, `soon` at the earliest, also if it raises.

        An item that is not checked again would never time out.
        """
        at = soon
        try:
            at = max(item.check(now), soon)
        except Exception:  # noqa: BLE001  # the other connections must be served
            throttled.exception("A deadline could not be processed; it is tried again")
        finally:
            self.schedule(item, at)

    def plan_sweep(self, now: float) -> float:
        """Return the seconds until the next sweep is needed, at most MAX_PAUSE."""
        latest = now + MAX_PAUSE
        at = min(min(self._buckets, default=math.inf) * TICK + _MARGIN, latest)
        self._planned = math.floor(at / TICK)
        return max(at - now, 0.0)


def do_nothing() -> None:
    """Stand in for a timer."""
