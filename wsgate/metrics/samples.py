"""The samples of processes as plain data, and how those of several processes become one.

A worker sends its samples to the supervisor as JSON, in parts.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from wsgate.metrics.families import FAMILIES, WORKER

Labels = dict[str, str]
LARGEST_PART = 262_144  # characters of JSON

_ADDED = {"counter", "histogram", "summary"}
_CREATED = "_created"  # when a series began: of several processes the first one counts
_OF_PROCESSES = ("process_", "python_")
_BY_WORKER = {family.name.removesuffix("_total") for family in FAMILIES if family.is_by_worker}


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


def parts_of(families: Iterable[Samples]) -> Iterator[list[Any]]:
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
    yield part


def read_part(part: Iterable[Any]) -> list[Samples]:
    """Return the families of a part."""
    return [
        Samples(name, kind, text, unit, [(one, labels, value) for one, labels, value in values])
        for name, kind, text, unit, values in part
    ]


class Totals:
    """The samples of several processes as those of one.

    Counters and histograms are added. A gauge of each worker gets a label with its number, and so
    does what the table of families says to be of each worker, and what describes a process.
    """

    def __init__(self) -> None:
        self._families: dict[str, Samples] = {}
        self._values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}

    def add(self, families: Iterable[Samples], worker: int) -> None:
        """Add the samples of a worker that runs."""
        for family in families:
            label = None if _is_added(family) else str(worker)
            self._add(family, label)

    def add_ended(self, families: Iterable[Samples]) -> None:
        """Add what a worker that has ended has counted; of its own series nothing is left."""
        for family in families:
            if _is_added(family):
                self._add(family, None)

    def _add(self, family: Samples, worker: str | None) -> None:
        known = self._families.setdefault(family.name, family._replace(values=[]))
        if known.kind != family.kind:
            return  # two workers have different apps during a restart: the first one counts
        values = self._values.setdefault(family.name, {})
        for name, labels, value in family.values:
            if worker is not None:
                labels = {WORKER: worker, **labels}  # noqa: PLW2901  # the sample's own are kept
            key = (name, tuple(labels.items()))
            if key not in values:
                values[key] = value
            elif name.endswith(_CREATED):
                values[key] = min(values[key], value)
            else:
                values[key] += value

    def families(self) -> list[Samples]:
        """Return the families."""
        return [
            family._replace(
                values=[
                    (sample, dict(labels), value)
                    for (sample, labels), value in self._values[name].items()
                ]
            )
            for name, family in self._families.items()
        ]


def _is_added(family: Samples) -> bool:
    if family.name in _BY_WORKER or family.name.startswith(_OF_PROCESSES):
        return False
    return family.kind in _ADDED
