"""The meter of the supervisor: counts how its workers end."""

from typing import Literal

from wsgate.metrics import families as f
from wsgate.metrics.histogram import Histogram
from wsgate.metrics.samples import Samples, histogram_samples, samples_of

Reason = Literal["replaced", "failed", "killed"]


class SupervisorMeter:
    """Counts how workers end."""

    def __init__(self) -> None:
        self._ends: dict[Reason, int] = {"replaced": 0, "failed": 0, "killed": 0}
        self._stop_time = Histogram(f.STOP_TIME.bounds)

    def count_end(self, reason: Reason, stopped_for: float | None) -> None:
        """Count the end of a worker.

        Args:
            reason: Why it has ended.
            stopped_for: Seconds since it was asked to stop; None if it was not.
        """
        self._ends[reason] += 1
        if stopped_for is not None:
            self._stop_time.observe(stopped_for)

    def samples(self) -> list[Samples]:
        """Return what was counted."""
        ends = [({"reason": str(reason)}, count) for reason, count in self._ends.items()]
        return [
            samples_of(f.RESTARTS, ends),
            histogram_samples(f.STOP_TIME, [({}, self._stop_time.snapshot())]),
        ]
