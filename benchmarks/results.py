"""The stored results, and the values computed from them.

The record of a load contains the date, the machine, the versions and the seconds of a run, and for
each server one entry per round: its figures, or the reason why it failed.
"""

import json
import re
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.loads import LOADS, Figure, Goal

FILE = Path(__file__).parent / "results.json"

Record = dict[str, Any]
Results = dict[str, Record]


def load(path: Path) -> Results:
    """Return the results in a file, or an empty dict if there is no such file."""
    if not path.exists():
        return {}
    found: Results = json.loads(path.read_text())
    return found


def save(path: Path, results: Results) -> None:
    """Write results in the order of LOADS, with one line per round of a server."""
    ordered = {name: results[name] for name in LOADS if name in results}
    text = json.dumps(ordered, indent=1)
    path.write_text(re.sub(r"\{[^{}]*\}", lambda found: _on_one_line(found[0]), text) + "\n")


def _on_one_line(text: str) -> str:
    return json.dumps(json.loads(text))


def figures(
    results: Results, name: str, server: str, figure: Figure | None = None
) -> list[float | None]:
    """Return a server's figure in each round of a load; None for a round that failed.

    figure: the figure to return, if it is not that of the load.
    """
    entries = results.get(name, {}).get("servers", {}).get(server, [])
    return [entry.get((figure or LOADS[name].figure).value) for entry in entries]


def median(results: Results, name: str, server: str) -> float | None:
    """Return the median of the successful rounds, or None if all failed."""
    found = [value for value in figures(results, name, server) if value is not None]
    return statistics.median(found) if found else None


def best(results: Results, name: str, servers: Iterable[str]) -> str | None:
    """Return the server with the best median in a load, or None if all failed."""
    found = {server: median(results, name, server) for server in servers}
    able = {server: value for server, value in found.items() if value is not None}
    if not able:
        return None
    pick = max if LOADS[name].figure.is_rate else min
    return pick(able, key=lambda server: able[server])


def ratio(results: Results, name: str, server: str, against: str) -> float | None:
    """Return the median over the rounds of the ratio of two servers in the same round."""
    pairs = zip(figures(results, name, server), figures(results, name, against), strict=False)
    ratios = [ours / theirs for ours, theirs in pairs if ours is not None and theirs]
    return statistics.median(ratios) if ratios else None


def failure(results: Results, name: str, server: str) -> str | None:
    """Return why a server failed in a load (the last reason), or None if it never failed."""
    entries = results.get(name, {}).get("servers", {}).get(server, [])
    reasons = [entry["failed"] for entry in entries if "failed" in entry]
    return reasons[-1] if reasons else None


def goal_value(results: Results, goal: Goal) -> float | None:
    """Return the value to compare with a goal: a ratio, or the figure of the worst round.

    Returns None if it was not measured, or if the server failed in any round: such a goal is not
    met.
    """
    if failure(results, goal.load, goal.server):
        return None
    if goal.against:
        peer = best(results, goal.load, goal.against)
        return ratio(results, goal.load, goal.server, peer) if peer else None
    values = figures(results, goal.load, goal.server, goal.figure)
    found = [value for value in values if value is not None]
    return max(found) if found else None


def is_met(goal: Goal, value: float) -> bool:
    """Return whether a value satisfies a goal."""
    if goal.is_strict and value == goal.bound:
        return False
    return value >= goal.bound if goal.figure.is_rate else value <= goal.bound
