"""A made-up series of every metric, as the rule tests of promtool take them.

So an expression that gives no result for them never gives one: a label with a wrong value, or two
sides whose labels do not match.
"""

from collections.abc import Iterator, Mapping
from itertools import product

from wsgate.metrics import families as f
from wsgate.metrics.families import FAMILIES, PROCESS_NAMES, WORKER, Family
from wsgate.observe.causes import CAUSES
from wsgate.topics.counts import DROP_CAUSES

SECONDS = 30  # between two samples
STEPS = 120
TARGET = {"job": "wsgate", "instance": "a:1"}
_WORKERS = ("1", "2")

# The values of labels that mean the same in all families.
_VALUES: dict[str, tuple[str, ...]] = {
    "worker": _WORKERS,
    "reconnect": ("false", "true"),
    "direction": ("received", "sent"),
    "queue": ("receive", "outlet"),
    "type": ("http", "websocket"),
    "method": ("GET", "other"),
    "complete": ("false", "true"),
    "state": ("starting", "ready", "stopping"),
    "version": ("1.0",),
}
# The values of the others.
_OWN_VALUES: dict[tuple[Family, str], tuple[str, ...]] = {
    (f.HANDSHAKES_REFUSED, "status"): ("403", "503"),
    (f.HANDSHAKES_REFUSED, "reason"): ("origin", "limit", "app_refused", "stopping"),
    (f.BAD_REQUESTS, "status"): ("400",),
    (f.HTTP_REQUESTS, "status"): ("2xx", "5xx"),
    (f.DROPPED, "cause"): DROP_CAUSES,
    (f.RESTARTS, "reason"): ("replaced", "failed", "killed"),
}


def input_series() -> list[dict[str, str]]:
    """Return series of each name: counters grow, gauges stay the same."""
    found = [_series("up", {}, "1", "0")]
    for name in PROCESS_NAMES:
        found += [_series(name, {WORKER: number}, "10", "1") for number in _WORKERS]
    for family in FAMILIES:
        for labels in _label_sets(family):
            found += _series_of(family, labels)
    return found


def _label_sets(family: Family) -> Iterator[dict[str, str]]:
    if family is f.CLOSED:
        for cause, explained in CAUSES.items():
            yield {"code": "1000", "initiator": explained.initiator, "cause": cause.value}
        return
    values = [_VALUES.get(one) or _OWN_VALUES[family, one] for one in family.labels]
    for chosen in product(*values):
        yield dict(zip(family.labels, chosen, strict=True))


def _series_of(family: Family, labels: Mapping[str, str]) -> Iterator[dict[str, str]]:
    if family.kind != "histogram":
        yield _series(family.name, labels, "1", "0" if family.kind == "gauge" else "1")
        return
    bounds = [*map(str, family.bounds), "+Inf"]
    for growth, bound in enumerate(bounds, start=1):
        yield _series(f"{family.name}_bucket", {**labels, "le": bound}, "0", str(growth))
    yield _series(f"{family.name}_sum", labels, "0", "1")
    yield _series(f"{family.name}_count", labels, "0", str(len(bounds)))


def _series(name: str, labels: Mapping[str, str], start: str, growth: str) -> dict[str, str]:
    written = ", ".join(f'{label}="{value}"' for label, value in {**TARGET, **labels}.items())
    return {"series": f"{name}{{{written}}}", "values": f"{start}+{growth}x{STEPS}"}
