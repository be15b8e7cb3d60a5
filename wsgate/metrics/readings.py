"""Numbers that are read when they are asked for: gauges, and counters that other parts keep."""

from wsgate.metrics.families import Family
from wsgate.metrics.samples import Labels, Samples, samples_of


class Readings:
    """Collects numbers by family, and returns them as samples."""

    def __init__(self) -> None:
        self._values: dict[Family, list[tuple[Labels, float]]] = {}

    def set(self, family: Family, value: float, **labels: str) -> None:
        """Set a number."""
        self._values.setdefault(family, []).append((labels, value))

    def samples(self) -> list[Samples]:
        """Return the samples."""
        return [samples_of(family, values) for family, values in self._values.items()]
