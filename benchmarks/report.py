"""The results as a part of docs/performance.md and as pictures, docs/fast.svg and docs/growth.svg.

The page's part lies between two marks; what is around them is written by hand and stays.
"""

import statistics
from collections.abc import Iterable
from pathlib import Path

from benchmarks import picture, results
from benchmarks.loads import GOALS, GROWTHS, LOADS, Deflate, Figure, Goal, Growth
from benchmarks.results import Record, Results
from benchmarks.servers import LIMIT, SERVERS, SOCKETIFY, UVICORN, WSGATE

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "performance.md"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
BUSY = 0.95  # of a processor: from here on it is the load generator that is measured
GROUPS = {
    "the limit": (LIMIT,),
    "wsgate": (WSGATE,),
    "socketify": SOCKETIFY,
    "uvicorn's best": UVICORN,
}
INTRO = """\
Made by `make bench`. Measured {dates} on {machine}, with {versions}.

The server has one processor, the load generator (`benchmarks/load.c`) another. Every round starts
each server afresh, one after the other; the figures are medians over the rounds, with the least and
the most. Ratios are taken within a round, and the ratios' median is shown. *The limit* is a bare
protocol on uvloop, `benchmarks/limit.py`: no app, no task, no check, the payload goes back as it
came. Each server runs one worker, on uvloop where it can, without access log, and otherwise as it
comes.
"""
GROWING = """\
Messages a second, and in brackets the ratio to the limit. With large messages most of the time goes
into copying to and from the kernel, and the limit is hardly one. uvicorn's best is that of its
variants which was best with 64 B, with 16 KiB, or compressed, whichever is nearest.
"""


def write(found: Results) -> None:
    """Write the page's part and the pictures."""
    text = PAGE.read_text() if PAGE.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    PAGE.write_text(replaced(text, part(found)))
    note = about(found, "{machine}, {dates}; {versions}")
    for name, drawn in picture.pictures(found, note).items():
        (DOCS / name).write_text(drawn)


def written() -> list[str]:
    """Return the names of what `write` writes."""
    return [f"docs/{name}" for name in (PAGE.name, *picture.NAMES)]


def replaced(text: str, part: str) -> str:
    """Put the part between the marks of a text."""
    before, mark, rest = text.partition(BEGIN)
    _, other, behind = rest.partition(END)
    if not (mark and other):
        raise ValueError(f"the page has no {BEGIN} or no {END}")
    return f"{before}{BEGIN}\n{part}\n{END}{behind}"


def part(found: Results) -> str:
    """Return the page's generated part, as Markdown."""
    tables = [lines_of(name, found[name]) for name in LOADS if name in found]
    grown = [growth(found, table) for table in GROWTHS]
    return "\n".join(
        [
            "",
            about(found, INTRO),
            "### Goals\n",
            goals(found),
            "### How the cost grows\n",
            GROWING,
            *grown,
            "### Every load\n",
            *tables,
        ]
    )


def about(found: Results, template: str) -> str:
    """Return a template with the machine, the versions and the dates of all records filled in."""
    machines = _distinct(
        "{processor}, {cores} cores, {memory}, {kernel}".format(**record["machine"])
        for record in found.values()
    )
    dates = sorted({record["date"] for record in found.values()})
    packages: dict[str, list[str]] = {}
    for record in found.values():
        for name, version in record["versions"].items():
            packages[name] = _distinct([*packages.get(name, []), version])
    versions = ", ".join(f"{name} {' and '.join(some)}" for name, some in packages.items())
    return template.format(
        machine=" and ".join(machines),
        dates=" to ".join(_distinct([dates[0], dates[-1]])) if dates else "never",
        versions=versions,
    )


def _distinct(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def table(header: list[str], rows: Iterable[list[str]], *, of: str = "---:") -> str:
    """Return a Markdown table, its columns but the first aligned as `of` says: to the right."""
    lines = [header, ["---", *[of] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


# ---- goals ----


def goals(found: Results) -> str:
    """Return the table of the goals: what was asked, what is, and whether it is met."""
    rows = [_goal(found, goal) for goal in GOALS]
    return table(["Load", "Goal", "Measured", "Result"], rows, of="---")


def _goal(found: Results, goal: Goal) -> list[str]:
    value = results.measured(found, goal)
    reason = results.failure(found, goal.load, goal.server)
    if reason:
        verdict, shown = "**not met**", f"fails: {reason}"
    elif value is None:
        verdict, shown = "not measured", ""
    else:
        verdict = "met" if results.is_met(goal, value) else "**not met**"
        shown = _shown(found, goal, value)
    title = LOADS[goal.load].title
    if goal.server != WSGATE:
        title += f" ({SERVERS[goal.server].label})"
    return [title, wanted(goal), shown, verdict]


def wanted(goal: Goal) -> str:
    """Return a goal in words."""
    figure = LOADS[goal.load].figure
    if not goal.against:
        return f"{'below' if goal.is_above else 'at most'} {goal.bound:,g}" + (
            ", without a failure" if figure is Figure.LATENCY else ""
        )
    peer = {LIMIT: "the limit", "socketify": "socketify"}.get(
        goal.against[0], SERVERS[goal.against[0]].label
    )
    if goal.against == UVICORN:
        peer = "uvicorn's best"
    if goal.bound == 1:
        at_least = "above" if goal.is_above else "at least"
        return f"{at_least if figure is Figure.RATE else 'below'} {peer}"
    times = "of" if goal.against == (LIMIT,) else "times"
    return f"at least {goal.bound:g} {times} {peer}"


def _shown(found: Results, goal: Goal, value: float) -> str:
    if not goal.against:
        return _number(value)
    peer = results.best(found, goal.load, goal.against)
    label = "" if peer in (None, LIMIT) else f" ({SERVERS[peer].label})"
    return f"{value:.3g}{label}"


# ---- every load ----


def lines_of(name: str, record: Record) -> str:
    """Return one load's table, a server a line."""
    load = LOADS[name]
    found = {name: record}
    header = ["Server", "Median", "Least", "Most"]
    has_limit = LIMIT in record["servers"] and load.figure is Figure.RATE
    if has_limit:
        header.append("Of the limit")
    has_latency = load.mode in ("echo", "http", "hold")
    if has_latency:
        header += ["50 %, ms", "99 %, ms"]
    has_memory = load.mode == "hold"
    if has_memory:
        header.append("Bytes each")
    rows = []
    for server in record["servers"]:
        row = _measured(found, name, server)
        if row and has_limit:
            share = results.ratio(found, name, server, LIMIT)
            row.append("" if share is None else f"{share:.2f}")
        if row and has_latency:
            row += [_typical(record, server, which) for which in ("p50_ms", "p99_ms")]
        if row and has_memory:
            row.append(_typical(record, server, "bytes"))
        if not row:
            row = [f"fails: {results.failure(found, name, server) or 'not measured'}"]
        label = SERVERS[server].label + _remarks(record, server)
        rows.append([label, *row, *[""] * (len(header) - 1 - len(row))])
    rounds = max((len(entries) for entries in record["servers"].values()), default=0)
    took = "" if load.figure is Figure.MEMORY else f" of {record['seconds']:g} s"
    title = f"**{load.title}** (`{name}`, {rounds} round{'s' * (rounds != 1)}{took})\n"
    return title + "\n" + table(header, rows)


def _measured(found: Results, name: str, server: str) -> list[str]:
    values = [value for value in results.values(found, name, server) if value is not None]
    if not values:
        return []
    return [_number(value) for value in (statistics.median(values), min(values), max(values))]


def _typical(record: Record, server: str, which: str) -> str:
    found = [entry[which] for entry in record["servers"][server] if which in entry]
    return _number(statistics.median(found)) if found else ""


def _remarks(record: Record, server: str) -> str:
    """Return what has to be known of a server's figures, in brackets."""
    entries = [entry for entry in record["servers"][server] if "failed" not in entry]
    failed = len(record["servers"][server]) - len(entries)
    remarks = []
    if failed and entries:
        remarks.append(f"failed in {failed} of {failed + len(entries)} rounds")
    if any(entry.get("deflate") is False for entry in entries):
        remarks.append("declines deflate")
    if any(entry.get("server_processes", 1) > 1 for entry in entries):
        count = entries[0]["server_processes"]
        remarks.append(f"{count} processes on one processor, for the limit of open files")
    if any(entry.get("generator_busy", 0) > BUSY for entry in entries):
        remarks.append("the load generator was at its own limit")
    return f" ({'; '.join(remarks)})" if remarks else ""


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


# ---- growth ----


def growth(found: Results, what: Growth) -> str:
    """Return a table of how the rate changes with what is varied."""
    rows = [
        [label, *(_cell(found, load, servers) for _, load in what.columns)]
        for label, servers in GROUPS.items()
    ]
    header = [f"By {what.title}", *(label for label, _ in what.columns)]
    return table(header, rows)


def _cell(found: Results, load: str, servers: tuple[str, ...]) -> str:
    deflates = LOADS[load].deflate is not Deflate.NONE
    server = results.best(found, load, servers)
    rate = results.median(found, load, server) if server else None
    if server is None or rate is None:
        return "fails" if any(results.failure(found, load, one) for one in servers) else ""
    share = results.ratio(found, load, server, LIMIT)
    shown = _number(rate)
    if share is not None and server != LIMIT:
        shown += f" ({share:.2f})"
    if deflates and not found[load]["servers"][server][0].get("deflate", True):
        shown += ", declines deflate"
    return shown
