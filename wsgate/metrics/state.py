"""What a worker is at one moment: gauges, and what its other parts have counted."""

from collections.abc import Sequence
from itertools import accumulate

from wsgate.metrics.families import Family
from wsgate.metrics.histogram import HistogramSnapshot
from wsgate.metrics.samples import Labels, Samples


class State:
    """What a worker is at one moment: gauges, and what its other parts have counted."""

    def __init__(self) -> None:
        self._values: dict[Family, list[tuple[Labels, float]]] = {}

    def set(self, family: Family, value: float, **labels: str) -> None:
        """Set a number."""
        self._values.setdefault(family, []).append((labels, value))

    def samples(self) -> list[Samples]:
        """Return the samples."""
        return [samples_of(family, values) for family, values in self._values.items()]


def samples_of(family: Family, values: Sequence[tuple[Labels, float]]) -> Samples:
    """Return the samples of a counter or a gauge: labels and value of each."""
    name = family.name.removesuffix("_total")
    found = [(family.name, labels, value) for labels, value in values]
    return Samples(name, family.kind, family.help, "", found)


def histogram_samples(
    family: Family, values: Sequence[tuple[Labels, HistogramSnapshot]]
) -> Samples:
    """Return the samples of a histogram: labels and buckets of each."""
    found: list[tuple[str, Labels, float]] = []
    for labels, one in values:
        bounds = [*map(str, family.bounds), "+Inf"]
        for bound, count in zip(bounds, accumulate(one.counts), strict=True):
            found.append((f"{family.name}_bucket", {**labels, "le": bound}, count))
        found.append((f"{family.name}_count", labels, sum(one.counts)))
        found.append((f"{family.name}_sum", labels, one.sum))
    return Samples(family.name, family.kind, family.help, "", found)
