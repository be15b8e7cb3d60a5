"""The results that are kept, and what follows from them.

A record says of one load when, on what and for how long it was measured, and of each server what
was seen in each round: figures, or why it failed.
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
    """Return what is kept in a file; nothing where there is none."""
    if not path.exists():
        return {}
    found: Results = json.loads(path.read_text())
    return found


def save(path: Path, results: Results) -> None:
    """Keep results, in the order of the loads, with one line for each round of a server."""
    ordered = {name: results[name] for name in LOADS if name in results}
    text = json.dumps(ordered, indent=1)
    path.write_text(re.sub(r"\{[^{}]*\}", lambda found: _on_one_line(found[0]), text) + "\n")


def _on_one_line(text: str) -> str:
    return json.dumps(json.loads(text))


def values(results: Results, name: str, server: str) -> list[float | None]:
    """Return a load's figure of a server in each round: None where it failed."""
    entries = results.get(name, {}).get("servers", {}).get(server, [])
    return [entry.get(LOADS[name].figure.value) for entry in entries]


def median(results: Results, name: str, server: str) -> float | None:
    """Return the median of the rounds that went well, None where none did."""
    found = [value for value in values(results, name, server) if value is not None]
    return statistics.median(found) if found else None


def best(results: Results, name: str, servers: Iterable[str]) -> str | None:
    """Return the server that is best in a load, None where none could do it."""
    found = {server: median(results, name, server) for server in servers}
    able = {server: value for server, value in found.items() if value is not None}
    if not able:
        return None
    pick = max if LOADS[name].figure is Figure.RATE else min
    return pick(able, key=lambda server: able[server])


def ratio(results: Results, name: str, server: str, against: str) -> float | None:
    """Return the median, over the rounds, of the ratio of two servers within one round."""
    pairs = zip(values(results, name, server), values(results, name, against), strict=False)
    ratios = [ours / theirs for ours, theirs in pairs if ours is not None and theirs]
    return statistics.median(ratios) if ratios else None


def failure(results: Results, name: str, server: str) -> str | None:
    """Return why a server failed in a load: the last reason, if it failed in any round."""
    entries = results.get(name, {}).get("servers", {}).get(server, [])
    reasons = [entry["failed"] for entry in entries if "failed" in entry]
    return reasons[-1] if reasons else None


def measured(results: Results, goal: Goal) -> float | None:
    """Return what a goal is about: a ratio, or the worst round's figure; None if not measured.

    A round in which our server failed leaves a goal without a figure: it is not met.
    """
    if failure(results, goal.load, goal.server):
        return None
    if goal.against:
        peer = best(results, goal.load, goal.against)
        return ratio(results, goal.load, goal.server, peer) if peer else None
    found = [value for value in values(results, goal.load, goal.server) if value is not None]
    return max(found) if found else None


def is_met(goal: Goal, value: float) -> bool:
    """Tell whether a goal's value keeps its bound."""
    if goal.is_above and value == goal.bound:
        return False
    return value >= goal.bound if LOADS[goal.load].figure is Figure.RATE else value <= goal.bound
