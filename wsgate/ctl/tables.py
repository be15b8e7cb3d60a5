"""What `wsgate ctl` shows on a terminal: the parts of an answer as text."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from wsgate.errors import one_line
from wsgate.quantities import count

Part = dict[str, Any]
View = Callable[[Iterable[Part]], Iterator[str]]
"""Yields the lines that are shown for an answer."""

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_KIB, _MIB, _GIB = 2**10, 2**20, 2**30


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table, with columns as wide as their longest cell."""
    lines = [heads, *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(cells).rstrip()


# -- the commands ----------------------------------------------------------------------------------


def status(parts: Iterable[Part]) -> Iterator[str]:
    """Yield the server and a table of its workers."""
    for part in parts:
        server, workers = part["server"], part["workers"]
        yield (
            f"wsgate {server['version']}, pid {server['pid']}, {server['state']}, "
            f"for {duration(server['uptime'])}, target: {count(server['target'], 'worker')}"
        )
        yield from (f"listening on {one_line(name)}" for name in server["listening"])
        if pause := server.get("next_start"):  # older servers have none
            yield f"workers have failed: the next one is started in {pause:.3g} s"
        yield ""
        heads = ("WORKER", "PID", "STATE", "AGE", "CONNECTIONS", "LAG", "VERSION")
        yield from table(heads, [_worker(one) for one in workers])


def _worker(worker: Part) -> tuple[str, ...]:
    return (
        str(worker["number"]),
        "-" if worker["pid"] is None else str(worker["pid"]),
        worker["state"],
        duration(worker["age"]),
        str(worker["connections"]),
        milliseconds(worker["lag"]),
        worker["version"] or "-",
    )


def connections(parts: Iterable[Part]) -> Iterator[str]:
    """Yield a table of connections, and how many there are."""
    rows: list[tuple[str, ...]] = []
    total = 0
    for part in parts:
        rows += [_connection(one) for one in part.get("connections", ())]
        total += part.get("total", 0)
    heads = ("ID", "TYPE", "CLIENT", "AGE", "RECEIVED", "SENT", "PATH")
    if rows:
        yield from table(heads, rows)
        yield ""
    shown = f"{len(rows)} of " if len(rows) < total else ""
    yield shown + count(total, "connection")


def _connection(one: Part) -> tuple[str, ...]:
    return (
        one["id"],
        one["type"],
        one["address"] or "-",
        "-" if one["age"] is None else duration(one["age"]),
        _traffic(one["received_messages"], one["received_bytes"]),
        _traffic(one["sent_messages"], one["sent_bytes"]),
        one["path"] or "-",
    )


def _traffic(messages: int | None, number: int | None) -> str:
    return "-" if messages is None or number is None else f"{messages} / {size(number)}"


def topics(parts: Iterable[Part]) -> Iterator[str]:
    """Yield a table of topics, and how many there are."""
    rows: list[tuple[str, ...]] = []
    total = subscriptions = 0
    for part in parts:
        rows += [_topic(one) for one in part.get("topics", ())]
        total += part.get("total", 0)
        subscriptions += part.get("subscriptions", 0)
    if rows:
        yield from table(("SUBSCRIBERS", "PUBLISHES/S", "DELIVERIES/S", "TOPIC"), rows)
        yield ""
    shown = f"{len(rows)} of " if len(rows) < total else ""
    yield f"{shown}{count(total, 'topic')}, {count(subscriptions, 'subscription')}"


def _topic(one: Part) -> tuple[str, ...]:
    is_exact = one["at_most"] == one["subscribers"]
    return (
        f"{one['subscribers']}{'' if is_exact else '+'}",
        _rate(one["publishes_rate"]),
        _rate(one["deliveries_rate"]),
        one["topic"],
    )


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1f}"


def restart(parts: Iterable[Part]) -> Iterator[str]:
    """Yield a line at the beginning of a restart, and one at its end."""
    for part in parts:
        if "restarting" in part:
            yield f"Restarting {count(part['restarting'], 'worker')}"
        elif "restarted" in part:
            yield f"Restarted {count(part['restarted'], 'worker')}"


def scale(parts: Iterable[Part]) -> Iterator[str]:
    """Yield the new number of workers."""
    for part in parts:
        yield f"{count(part['target'], 'worker')} instead of {part['before']}"


def drain(parts: Iterable[Part]) -> Iterator[str]:
    """Yield what becomes of the worker."""
    for part in parts:
        yield f"Worker {part['draining']} stops as soon as a new one is ready"


def close(parts: Iterable[Part]) -> Iterator[str]:
    """Yield how the connection was closed."""
    for part in parts:
        how = "aborted" if part["code"] is None else f"closed with {part['code']}"
        yield f"{part['closed']} {how}"


def stack(parts: Iterable[Part]) -> Iterator[str]:
    """Yield the stacks of workers, and those of their tasks."""
    for part in parts:
        if "stack" in part:
            yield f"{_title(part)}:"
            yield from (f"  {one_line(call)}" for call in part["stack"] or ("nothing of Python",))
            yield ""


def _title(part: Part) -> str:
    if "task" in part:
        return f"worker {part['worker']}, task {one_line(part['task'])}"
    what = "is blocked here" if part["blocked"] else "is here"
    tasks = "" if part.get("tasks") is None else f", with {count(part['tasks'], 'task')}"
    return f"worker {part['worker']} {what}{tasks}"


def log_level(parts: Iterable[Part]) -> Iterator[str]:
    """Yield the level."""
    for part in parts:
        yield f"The log level is {part['log_level']}"


def name_workers(pids: Sequence[int]) -> str:
    """Return workers by their pids: `worker 7`, `workers 7, 8`."""
    return f"worker{'' if len(pids) == 1 else 's'} {', '.join(map(str, pids))}"


# -- quantities ------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Return a time in its two largest units: `3 h 12 m`."""
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} m {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} m"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def milliseconds(seconds: float | None) -> str:
    """Return a short time: `0.4 ms`, and `-` for None."""
    return "-" if seconds is None else f"{seconds * 1_000:.1f} ms"


def size(number: int) -> str:
    """Return a number of bytes in its largest unit: `1.5 MiB`."""
    for unit, name in ((_GIB, "GiB"), (_MIB, "MiB"), (_KIB, "KiB")):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number} B"
