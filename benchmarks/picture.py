"""Draws the results as SVG: bars with the ratio to the limit, and curves of the rate.

The pictures have their own background, so they look the same on a light and on a dark page.
"""

import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from benchmarks import results
from benchmarks.loads import GOALS, GROWTHS, LOADS, Figure, Goal, Growth
from benchmarks.results import Results
from benchmarks.servers import LIMIT, SOCKETIFY, UVICORN, WSGATE

NAMES = ("fast.svg", "growth.svg")
WIDTH = 960
MARGIN = 28
INK, SOFT, LINE, PAPER = "#1f2328", "#656d76", "#d8dee4", "#ffffff"
OURS, THEIRS = "#1a66d6", "#a9b4c0"
GOAL = "#d1480f"
FONT = "-apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif"
NOTE_WIDTH = 150  # characters in a line of the note

PEERS = {
    "wsgate": (WSGATE,),
    "socketify": SOCKETIFY,
    "granian": ("granian",),
    "uvicorn": UVICORN,
    "hypercorn": ("hypercorn",),
    "daphne": ("daphne",),
}
PANELS = {
    "echo64": "Echo, 64 B",
    "echo16k": "Echo, 16 KiB",
    "connect": "Handshakes",
    "http": "HTTP requests",
    "echo64-compressed": "Echo, 64 B, compressed",
    "idle-deflate": "Idle connection, deflate offered",
}
STROKES = {
    "limit": ((LIMIT,), "#8c959f", "5 4"),
    "wsgate": ((WSGATE,), OURS, ""),
    "socketify": (SOCKETIFY, "#b35900", ""),
    "uvicorn": (UVICORN, "#2f7d3b", ""),
}


@dataclass
class Canvas:
    """Collects the elements of an SVG picture, whose height is known only at the end."""

    parts: list[str] = field(default_factory=list)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 12,
        fill: str = INK,
        anchor: str = "start",
        weight: int = 400,
    ) -> None:
        """Add a line of text with its baseline at y."""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}"'
            f' text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
        )

    def bar(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        """Add a bar; it is at least one pixel wide."""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}"'
            f' rx="2" fill="{fill}"/>'
        )

    def line(
        self, points: list[tuple[float, float]], stroke: str, *, width: float = 1, dash: str = ""
    ) -> None:
        """Add a line through points."""
        through = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<polyline points="{through}" fill="none" stroke="{stroke}" stroke-width="{width}"'
            f' stroke-linejoin="round"{dashes}/>'
        )

    def dot(self, x: float, y: float, fill: str) -> None:
        """Add a dot."""
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{fill}"/>')

    def note(self, y: float, text: str) -> float:
        """Add a note in a small font, wrapped; return the y below it."""
        for line in textwrap.wrap(text, NOTE_WIDTH):
            self.text(MARGIN, y, line, size=10.5, fill=SOFT)
            y += 15
        return y

    def svg(self, height: float, title: str) -> str:
        """Return the picture as SVG."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}"'
            f' width="{WIDTH}" height="{height:.0f}" font-family="{FONT}" role="img">'
        )
        paper = (
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="10"'
            f' fill="{PAPER}" stroke="{LINE}"/>'
        )
        return "\n".join([head, f"<title>{escape(title)}</title>", paper, *self.parts, "</svg>\n"])


def pictures(found: Results, note: str) -> dict[str, str]:
    """Return the pictures by file name. note: the text below each picture."""
    return dict(zip(NAMES, (bars(found, note), curves(found, note)), strict=True))


# ---- bars ----

_COLUMNS, _GAP = 3, 30
_PANEL = (WIDTH - 2 * MARGIN - (_COLUMNS - 1) * _GAP) / _COLUMNS
_LABEL, _VALUE = 72, 44  # widths to the left and to the right of a bar
_BAR, _PITCH = 14, 20
_TOP, _PANEL_HEIGHT = 76, 38 + _PITCH * len(PEERS) + 22


def bars(found: Results, note: str) -> str:
    """Return the picture of each server's ratio to the limit and of the memory per connection."""
    canvas = Canvas()
    title = "Rate of each server, as a ratio to a bare uvloop protocol"
    canvas.text(MARGIN, 36, title, size=18, weight=600)
    canvas.text(
        MARGIN,
        56,
        "1.0 is the limit: a protocol without app and checks that returns the payload unchanged."
        " One core; uvicorn with its fastest WebSocket implementation.",
        fill=SOFT,
    )
    canvas.line([(WIDTH - MARGIN - 86, 23), (WIDTH - MARGIN - 86, 38)], GOAL, width=2.5)
    canvas.text(WIDTH - MARGIN - 78, 35, "wsgate's goal", fill=SOFT, size=11)
    for number, (load, name) in enumerate(PANELS.items()):
        row, column = divmod(number, _COLUMNS)
        x = MARGIN + column * (_PANEL + _GAP)
        _panel(canvas, x, _TOP + row * _PANEL_HEIGHT, name, _Bars.of(found, load))
    rows = -(-len(PANELS) // _COLUMNS)
    end = canvas.note(_TOP + rows * _PANEL_HEIGHT + 14, note)
    return canvas.svg(end + 8, title)


@dataclass(frozen=True)
class _Bars:
    """The contents of a panel. values: a number for each server, or why there is none."""

    values: dict[str, float | str]
    is_memory: bool
    goal: float | None
    scale: float  # the value of a bar of full width

    @classmethod
    def of(cls, found: Results, load: str) -> "_Bars":
        is_memory = LOADS[load].figure is Figure.MEMORY
        values = {name: _value(found, load, servers) for name, servers in PEERS.items()}
        numbers = [value for value in values.values() if not isinstance(value, str)]
        goal = next((goal.bound for goal in GOALS if _is_drawn(goal, load)), None)
        # Some servers need so much memory that the other bars would vanish: long bars are cut.
        scale = 4 * min(numbers, default=1) if is_memory else 1.0
        scale = max(scale, 2 * (goal or 0) if is_memory else max(numbers, default=1))
        return cls(values, is_memory, goal, scale)

    def label(self, value: float) -> str:
        if not self.is_memory:
            return f"{value:.2f}"
        return f"{value / 1000:.1f} kB" if value < 100_000 else f"{value / 1000:.0f} kB"


def _is_drawn(goal: Goal, load: str) -> bool:
    return goal.load == load and goal.server == WSGATE and goal.against in ((), (LIMIT,))


def _value(found: Results, load: str, servers: tuple[str, ...]) -> float | str:
    server = results.best(found, load, servers)
    if server is None:
        reasons = [results.failure(found, load, one) for one in servers]
        reason = next(filter(None, reasons), None)
        if reason is None:
            return "not measured"
        return "no deflate" if "permessage-deflate" in reason else "fails"
    if LOADS[load].figure is Figure.MEMORY:
        value = results.median(found, load, server)
    else:
        value = results.ratio(found, load, server, LIMIT)
    return "not measured" if value is None else value


def _panel(canvas: Canvas, x: float, y: float, title: str, bars: _Bars) -> None:
    canvas.text(x, y + 20, title, size=13.5, weight=600)
    left, width = x + _LABEL, _PANEL - _LABEL - _VALUE
    top, bottom = y + 30, y + 32 + _PITCH * len(PEERS)
    canvas.line([(left, top), (left, bottom)], LINE)
    if not bars.is_memory:
        canvas.line([(left + width / bars.scale, top), (left + width / bars.scale, bottom)], LINE)
        canvas.text(left + width / bars.scale, bottom + 11, "1.0", size=10, fill=SOFT, anchor="end")
    for number, (name, value) in enumerate(bars.values.items()):
        at = y + 34 + number * _PITCH
        is_ours = name == "wsgate"
        weight, fill = (600, OURS) if is_ours else (400, THEIRS)
        canvas.text(left - 7, at + 11, name, anchor="end", weight=weight)
        if isinstance(value, str):
            canvas.text(left + 6, at + 11, value, fill=SOFT, size=11)
            continue
        bar_width = width * min(value / bars.scale, 1)
        canvas.bar(left, at, bar_width, _BAR, fill)
        if value > bars.scale:  # two strokes show that the bar is cut
            for cut in (0.90, 0.93):
                spot = left + bar_width * cut
                canvas.line([(spot - 3, at + _BAR + 1), (spot + 3, at - 1)], PAPER, width=2)
        label_x = left + bar_width
        if is_ours and bars.goal is not None:
            spot = left + width * min(bars.goal / bars.scale, 1)
            canvas.line([(spot, at - 2.5), (spot, at + _BAR + 2.5)], GOAL, width=2.5)
            if label_x < spot < label_x + _VALUE:  # put the number to the right of the mark
                label_x = spot
        canvas.text(label_x + 5, at + 11, bars.label(value), weight=weight, size=11)


# ---- curves ----

_CHART_TOP, _CHART_HEIGHT = 104, 270
_AXIS, _NAMES = 52, 70  # widths to the left and to the right of a chart


def curves(found: Results, note: str) -> str:
    """Return the picture of the rate by connections and by message size, on logarithmic scales."""
    canvas = Canvas()
    title = "Messages per second on one core"
    canvas.text(MARGIN, 36, title, size=18, weight=600)
    subtitle = "Echo, one message in flight on each connection. The scales are logarithmic."
    canvas.text(MARGIN, 56, subtitle, fill=SOFT)
    width = (WIDTH - 2 * MARGIN - _GAP) / 2
    headings = ("By connections, 64 B messages", "By message size, 64 connections")
    for number, (heading, growth) in enumerate(zip(headings, GROWTHS, strict=False)):
        x = MARGIN + number * (width + _GAP)
        canvas.text(x, _CHART_TOP - 16, heading, size=13.5, weight=600)
        _chart(canvas, found, x + _AXIS, width - _AXIS - _NAMES, growth)
    end = canvas.note(_CHART_TOP + _CHART_HEIGHT + 52, note)
    return canvas.svg(end + 8, title)


def _chart(canvas: Canvas, found: Results, left: float, width: float, growth: Growth) -> None:
    lines = {name: list(_points(found, growth, STROKES[name][0])) for name in STROKES}
    rates = [rate for points in lines.values() for _, rate in points]
    low = 10 ** math.floor(math.log10(min(rates, default=1)))
    high = 10 ** math.ceil(math.log10(max(rates, default=10) * 1.01))
    bottom = _CHART_TOP + _CHART_HEIGHT

    def place(column: int, rate: float) -> tuple[float, float]:
        share = math.log(rate / low) / math.log(high / low)
        return left + width * column / (len(growth.columns) - 1), bottom - _CHART_HEIGHT * share

    for rate in _ticks(low, high):
        _, y = place(0, rate)
        canvas.line([(left, y), (left + width, y)], LINE)
        canvas.text(left - 8, y + 4, _short(rate), size=11, fill=SOFT, anchor="end")
    for column, (label, _) in enumerate(growth.columns):
        x, _ = place(column, low)
        canvas.text(x, bottom + 20, label, size=11, fill=SOFT, anchor="middle")
    ends = {}
    for name, points in lines.items():
        _, stroke, dash = STROKES[name]
        places = [place(column, rate) for column, rate in points]
        if places:
            canvas.line(places, stroke, width=3 if name == "wsgate" else 2, dash=dash)
            ends[name] = places[-1][1]
        for x, y in places:
            canvas.dot(x, y, stroke)
    for name, y in _spread(ends, 15).items():
        weight = 600 if name == "wsgate" else 400
        canvas.text(left + width + 9, y + 4, name, fill=STROKES[name][1], weight=weight)


def _points(
    found: Results, growth: Growth, servers: tuple[str, ...]
) -> Iterator[tuple[int, float]]:
    for column, (_, load) in enumerate(growth.columns):
        server = results.best(found, load, servers)
        rate = results.median(found, load, server) if server else None
        if rate:
            yield column, rate


def _ticks(low: float, high: float) -> list[float]:
    decades = round(math.log10(high / low))
    steps = (1,) if decades > 2 else (1, 2, 5)
    ticks = [low * 10**decade * step for decade in range(decades) for step in steps]
    return [*ticks, high]


def _short(rate: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if rate >= size:
            return f"{rate / size:g}{letter}"
    return f"{rate:g}"


def _spread(ends: dict[str, float], distance: float) -> dict[str, float]:
    """Return the y of each label, moved down until none overlaps another."""
    placed: dict[str, float] = {}
    last = -math.inf
    for name, y in sorted(ends.items(), key=lambda item: item[1]):
        last = max(y, last + distance)
        placed[name] = last
    return placed
