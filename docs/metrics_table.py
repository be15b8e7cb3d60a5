"""Makes the parts of the page about metrics from the table of families."""

from collections.abc import Iterable
from itertools import groupby

from wsgate.metrics import families as f
from wsgate.metrics.families import FAMILIES, PROCESS_NAMES, WORKER, Family

# All families, in the order of the page.
GROUPS: dict[str, tuple[Family, ...]] = {
    "Connections": (
        *(f.CONNECTIONS, f.WEBSOCKETS, f.OPENED, f.CLOSED, f.DURATION),
        *(f.HANDSHAKES_REFUSED, f.CONNECTIONS_REFUSED, f.BAD_REQUESTS),
    ),
    "Messages": (f.MESSAGES, f.MESSAGE_BYTES, f.MESSAGE_SIZE),
    "Latency": (f.LAG, f.ROUND_TRIP, f.EVENT_TIME),
    "Backpressure": (f.WRITE_BUFFER, f.SLOW, f.QUEUED, f.DRAIN, f.CALLS),
    "Topics and the broker": (
        *(f.TOPICS, f.SUBSCRIPTIONS, f.PUBLISHED, f.DELIVERED, f.DROPPED, f.CLOSED_SLOW),
        *(f.RECOVERIES, f.BROKER_UP, f.BROKER_LAG, f.BROKER_RECONNECTS),
    ),
    "HTTP": (f.HTTP_REQUESTS, f.HTTP_TIME, f.HTTP_BYTES),
    "Server and workers": (f.INFO, f.WORKERS, f.WORKERS_TARGET, f.RESTARTS, f.STOP_TIME),
}
_PROCESS: dict[str, tuple[str, str]] = {
    "process_cpu_seconds_total": ("counter", "Seconds of processor time, of the user and system."),
    "process_resident_memory_bytes": ("gauge", "Bytes of memory that are resident."),
    "process_virtual_memory_bytes": ("gauge", "Bytes of the address space."),
    "process_open_fds": ("gauge", "Open file descriptors. Each connection has one."),
    "process_max_fds": ("gauge", "Most file descriptors that the process may have open."),
    "process_start_time_seconds": ("gauge", "When the process started, in seconds since 1970."),
}
_HEAD = """\
| Name | Type | Labels | Meaning |
| --- | --- | --- | --- |
"""
_BUCKETS_HEAD = """\
| Histogram | Upper bounds of its buckets |
| --- | --- |
"""


def metrics_tables() -> str:
    """Return a table for each group. Raises ValueError if a family is in none, or in two."""
    listed = [family for families in GROUPS.values() for family in families]
    if len(listed) != len(FAMILIES) or set(listed) != set(FAMILIES):
        raise ValueError("docs/metrics_table.py must have each family in one group")
    return "\n\n".join(f"### {title}\n\n{_table(group)}" for title, group in GROUPS.items())


def _table(families: Iterable[Family]) -> str:
    rows = [_row(one.name, one.kind, one.labels, one.help) for one in families]
    return _HEAD + "\n".join(rows)


def _row(name: str, kind: str, labels: Iterable[str], text: str) -> str:
    return f"| `{name}` | {kind} | {_list(labels)} | {text} |"


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def process_table() -> str:
    """Return the table of the metrics of each process."""
    rows = [_row(name, _PROCESS[name][0], (WORKER,), _PROCESS[name][1]) for name in PROCESS_NAMES]
    return _HEAD + "\n".join(rows)


def bucket_table() -> str:
    """Return the bounds of the buckets; histograms with the same bounds share a row."""
    histograms = sorted((one for one in FAMILIES if one.bounds), key=lambda one: one.bounds)
    rows = [
        f"| {_list(one.name for one in same)} | {', '.join(map(_bound, bounds))} |"
        for bounds, same in groupby(histograms, lambda one: one.bounds)
    ]
    return _BUCKETS_HEAD + "\n".join(rows)


def _bound(value: float) -> str:
    return f"{value:.15g}"


def by_worker_list() -> str:
    """Return the names of the families of which each worker has series of its own."""
    return _list(one.name for one in FAMILIES if one.is_by_worker)
