"""Which series and labels an expression of PromQL names. promtool checks its grammar."""

import re
from dataclasses import dataclass

from wsgate.metrics.families import FAMILIES, PROCESS_NAMES, WORKER

TARGET_LABELS = frozenset({"job", "instance"})  # Prometheus adds them
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_RANGE = re.compile(r"\[[^\]]*\]")
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_NAME = re.compile(r"(?<![\w.])([A-Za-z_:][\w:]*)\s*(?:\{([^}]*)\}|(\())?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_OPERATORS = {"and", "or", "unless", "bool", "offset"}


@dataclass(frozen=True, slots=True)
class Names:
    """What an expression names.

    series: each series with the labels of its matchers. kept: the labels that are named to stay
    (`by`, `on`). removed: those that are named to go (`without`, `ignoring`).
    """

    series: tuple[tuple[str, frozenset[str]], ...]
    kept: frozenset[str]
    removed: frozenset[str]


def names_in(expression: str) -> Names:
    """Return what an expression names."""
    text = _RANGE.sub("", _STRING.sub('""', expression))
    kept: set[str] = set()
    removed: set[str] = set()
    for kind, labels in _GROUPING.findall(text):
        goal = removed if kind in ("without", "ignoring") else kept
        goal.update(re.findall(r"\w+", labels))
    series = tuple(
        (name, frozenset(_LABEL.findall(matchers)))
        for name, matchers, call in _NAME.findall(_GROUPING.sub("", text))
        if not call and name not in _OPERATORS
    )
    return Names(series, frozenset(kept), frozenset(removed))


def _labels_by_series() -> dict[str, frozenset[str]]:
    found = {name: TARGET_LABELS | {WORKER} for name in PROCESS_NAMES}
    for family in FAMILIES:
        for name in family.series_names:
            bucket = {"le"} if name.endswith("_bucket") else set()
            found[name] = TARGET_LABELS | set(family.labels) | bucket
    return {**found, "up": TARGET_LABELS}


LABELS = _labels_by_series()
"""The labels of each series that exists, by its name."""


def faults(expression: str) -> list[str]:
    """Return the names in an expression that do not exist, as sentences."""
    names = names_in(expression)
    if not names.series:
        return ["no series is named"]
    unknown = [name for name, _ in names.series if name not in LABELS]
    if unknown:
        return [f"there is no series {name}" for name in unknown]
    wrong = [
        f"{name} has no label {label}"
        for name, labels in names.series
        for label in sorted(labels - LABELS[name])
    ]
    nowhere = (names.kept | names.removed) - all_labels(names)
    return wrong + [f"no series has the label {label}" for label in sorted(nowhere)]


def all_labels(names: Names) -> frozenset[str]:
    """Return the labels of all series that an expression names."""
    return frozenset().union(*(LABELS[name] for name, _ in names.series))


def result_labels(expression: str) -> frozenset[str]:
    """Return the labels that a result may have, so far as they are named in an expression."""
    names = names_in(expression)
    if names.kept:
        return names.kept
    return all_labels(names) - names.removed
