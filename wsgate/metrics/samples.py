"""Samples as plain data: made from numbers and histograms, and sent to the supervisor as JSON."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from wsgate.metrics.families import Family
from wsgate.metrics.histogram import HistogramSnapshot

Labels = dict[str, str]
LARGEST_PART = 262_144  # characters of JSON


class Samples(NamedTuple):
    """The samples of one metric family.

    name: of the family, without the `_total` of a counter. kind, help, unit: as prometheus-client
    has them. values: name, labels and value of each.
    """

    name: str
    kind: str
    help: str
    unit: str
    values: list[tuple[str, Labels, float]]


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


def json_parts(families: Iterable[Samples]) -> Iterator[list[Any]]:
    """Yield families as JSON values, in parts that fit into a line; large ones are split."""
    part: list[Any] = []
    size = 0
    for family in families:
        head = (family.name, family.kind, family.help, family.unit)
        values: list[Any] = []
        for value in family.values:
            values.append(value)
            size += len(json.dumps(value))
            if size >= LARGEST_PART:
                yield [*part, [*head, values]]
                part, values, size = [], [], 0
        part.append([*head, values])
        size += len(json.dumps(head))
        if size >= LARGEST_PART:  # the heads of thousands of families without values are long, too
            yield part
            part, size = [], 0
    yield part


def read_part(part: Iterable[Any]) -> list[Samples]:
    """Return the families of a part."""
    return [
        Samples(name, kind, text, unit, [(one, labels, value) for one, labels, value in values])
        for name, kind, text, unit, values in part
    ]
