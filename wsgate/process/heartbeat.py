"""What a worker reports at intervals: its loop runs, its lag, whether it reaches its broker."""

import asyncio
from collections.abc import Callable

from wsgate.process.row import Row

SHORTEST, LONGEST = 0.05, 1.0  # seconds between two beats
_PER_TIMEOUT = 4  # beats in --timeout-worker-healthcheck


def interval_of(timeout: float) -> float:
    """Return the seconds between two beats, for a timeout of so many seconds."""
    return min(max(timeout / _PER_TIMEOUT, SHORTEST), LONGEST)


class Heartbeat:
    """Writes to a worker's row at intervals.

    Args:
        row: The row.
        interval: Seconds between two beats.
        broker_away_since: Returns since when the broker is away, None while it is there.
    """

    def __init__(
        self, row: Row, interval: float, broker_away_since: Callable[[], float | None]
    ) -> None:
        self._row = row
        self._broker_away_since = broker_away_since
        self._interval = interval
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, in the running event loop."""
        loop = asyncio.get_running_loop()
        self._beat(loop, loop.time())

    def _beat(self, loop: asyncio.AbstractEventLoop, planned: float) -> None:
        now = loop.time()
        self._row.report_beat(max(now - planned, 0.0))
        self._row.report_broker(self._broker_away_since())
        planned = now + self._interval
        self._timer = loop.call_at(planned, self._beat, loop, planned)

    def stop(self) -> None:
        """Write nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
