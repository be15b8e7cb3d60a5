"""The meter of the supervisor: counts how its workers end."""

from typing import Literal

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from wsgate.metrics import families as f
from wsgate.metrics.exposition import read
from wsgate.metrics.samples import Samples

Reason = Literal["replaced", "failed", "killed"]
_REASONS: tuple[Reason, ...] = ("replaced", "failed", "killed")


class SupervisorMeter:
    """Counts how workers end."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._restarts = Counter(
            f.RESTARTS.name, f.RESTARTS.help, f.RESTARTS.labels, registry=self._registry
        )
        for reason in _REASONS:
            self._restarts.labels(reason)
        self._stop_time = Histogram(
            f.STOP_TIME.name,
            f.STOP_TIME.help,
            buckets=f.STOP_TIME.bounds,
            registry=self._registry,
        )

    def count_end(self, reason: Reason, stopped_for: float | None) -> None:
        """Count the end of a worker.

        Args:
            reason: Why it has ended.
            stopped_for: Seconds since it was asked to stop; None if it was not.
        """
        self._restarts.labels(reason).inc()
        if stopped_for is not None:
            self._stop_time.observe(stopped_for)

    def samples(self) -> list[Samples]:
        """Return what was counted."""
        return read(self._registry, with_created=False)

    def process_samples(self) -> list[Samples]:
        """Return the samples of this process."""
        return read(REGISTRY)
