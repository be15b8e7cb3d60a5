"""`wsgate ctl top`: samples of the open connections, the rates between them, and their table."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from wsgate.ctl import client
from wsgate.ctl.tables import Part, duration, milliseconds, name_workers, size, table
from wsgate.quantities import count

SORTS = ("bytes", "messages", "round-trip", "age")

_BYTES = ("received_bytes", "sent_bytes")
_MESSAGES = ("received_messages", "sent_messages")


@dataclass(frozen=True, slots=True)
class Sample:
    """What a server has at one moment.

    time: of this process's clock in seconds. workers: as in the answer to `status`. connections: as
    in the answer to `connections`, by their ids. unanswered: pids of the workers that are missing.
    """

    time: float
    workers: list[Part]
    connections: dict[str, Part]
    unanswered: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Query:
    """What is shown. filters: arguments of `connections`. sort: one of SORTS. limit: 0 is all."""

    filters: Mapping[str, Any]
    sort: str = "bytes"
    limit: int = 0


def take_sample(path: str, query: Query) -> Sample:
    """Ask the server at a control socket. Raises ControlError."""
    workers = [one for part in client.parts(path, "status", {}) for one in part["workers"]]
    unanswered: list[int] = []
    connections: dict[str, Part] = {}
    for part in client.parts(path, "connections", {**query.filters, "limit": 0}):
        connections |= {one["id"]: one for one in part.get("connections", ())}
        unanswered += part.get("unanswered", ())
    return Sample(time.monotonic(), workers, connections, unanswered)


# -- rates -----------------------------------------------------------------------------------------


def with_rates(sample: Sample, before: Sample | None) -> list[Part]:
    """Return the connections of a sample with `bytes_rate` and `messages_rate`, per second.

    They are rates since the sample before, or since the connection was opened if that is later.
    None without traffic, as of a connection that is no WebSocket.
    """
    seconds = math.inf if before is None else sample.time - before.time
    known: Mapping[str, Part] = {} if before is None else before.connections
    return [
        one
        | {
            "bytes_rate": _rate(one, known.get(name), _BYTES, seconds),
            "messages_rate": _rate(one, known.get(name), _MESSAGES, seconds),
        }
        for name, one in sample.connections.items()
    ]


def _rate(one: Part, before: Part | None, names: tuple[str, ...], seconds: float) -> float | None:
    now = _sum(one, names)
    if now is None:
        return None
    earlier = None if before is None else _sum(before, names)
    if earlier is None:  # it was not open
        earlier, seconds = 0, one["age"] or 0
    return round((now - earlier) / max(seconds, 0.001), 3)


def _sum(one: Part, names: tuple[str, ...]) -> int | None:
    values = [one[name] for name in names]
    return None if None in values else sum(values)


def order(connections: list[Part], sort: str) -> list[Part]:
    """Return connections with the largest value first; those without one are the last."""
    name = _SORTED_BY[sort]
    return sorted(connections, key=lambda one: (one.get(name) is None, -(one.get(name) or 0)))


_SORTED_BY = {
    "bytes": "bytes_rate",
    "messages": "messages_rate",
    "round-trip": "round_trip",
    "age": "age",
}


# -- what is shown ---------------------------------------------------------------------------------


def report(sample: Sample, before: Sample | None, query: Query) -> Part:
    """Return what is shown for a sample, as data."""
    connections = with_rates(sample, before)
    shown = order(connections, query.sort)
    return {
        "seconds": None if before is None else round(sample.time - before.time, 3),
        "workers": sample.workers,
        "total": len(connections),
        "bytes_rate": _total(connections, "bytes_rate"),
        "messages_rate": _total(connections, "messages_rate"),
        "connections": shown[: query.limit or None],
        "unanswered": sample.unanswered,
    }


def _total(connections: list[Part], name: str) -> float:
    return round(math.fsum(one[name] or 0 for one in connections), 3)


def lines(part: Part) -> Iterator[str]:
    """Yield a report as lines of text: the head, an empty line, the table."""
    shown = count(part["total"], "connection")
    yield f"{shown}, {_per_second(part, 'messages')}, {_per_second(part, 'bytes')}"
    yield "workers: " + (", ".join(map(_worker, part["workers"])) or "none")
    if part["unanswered"]:
        yield f"no answer from {name_workers(part['unanswered'])}"
    yield ""
    yield from table([head for head, _ in _COLUMNS], list(map(_row, part["connections"])))


def _worker(worker: Part) -> str:
    return f"{worker['number']} (pid {worker['pid'] or '-'}) {worker['connections']}"


def _row(one: Part) -> list[str]:
    return [cell(one) for _, cell in _COLUMNS]


def _per_second(one: Part, what: str) -> str:
    rate = one[f"{what}_rate"]
    if rate is None:
        return "-"
    return f"{size(round(rate))}/s" if what == "bytes" else f"{rate:.1f} messages/s"


def _messages(one: Part) -> str:
    rate = one["messages_rate"]
    return "-" if rate is None else f"{rate:.1f}"


def _moved(one: Part) -> str:
    total = _sum(one, _BYTES)
    return "-" if total is None else size(total)


_COLUMNS: tuple[tuple[str, Callable[[Part], str]], ...] = (
    ("ID", lambda one: str(one["id"])),
    ("TYPE", lambda one: str(one["type"])),
    ("CLIENT", lambda one: one["address"] or "-"),
    ("AGE", lambda one: "-" if one["age"] is None else duration(one["age"])),
    ("BYTES/S", lambda one: _per_second(one, "bytes")),
    ("MESSAGES/S", _messages),
    ("BYTES", _moved),
    ("ROUND TRIP", lambda one: milliseconds(one.get("round_trip"))),  # older servers have none
    ("PATH", lambda one: one["path"] or "-"),
)
