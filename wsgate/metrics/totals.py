"""The samples of several processes as those of one."""

from collections.abc import Iterable

from wsgate.metrics.families import FAMILIES, WORKER
from wsgate.metrics.samples import Samples

_ADDED = {"counter", "histogram", "summary"}
_CREATED = "_created"  # when a series began: of several processes the first one counts
_OF_PROCESSES = ("process_", "python_")
_BY_WORKER = {family.name.removesuffix("_total") for family in FAMILIES if family.is_by_worker}


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
