"""Makes the Grafana dashboard of docs/deploy/monitoring.md: its rows and panels as a table.

Grafana's own format has a hundred lines for each panel. To change the dashboard, change the table
and run `make docs`. An expression names series without `job` and `instance`: these are added.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, count
from string import ascii_uppercase
from typing import Any

from wsgate.metrics import families as f
from wsgate.metrics.families import FAMILIES, PROCESS_NAMES, Family

COLUMNS = 24  # of Grafana's grid
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_SELECTOR = 'job=~"$job", instance=~"$instance"'
_SERIES_NAMES = {*PROCESS_NAMES, *chain.from_iterable(one.series_names for one in FAMILIES)}
_SERIES = re.compile(rf"\b({'|'.join(sorted(_SERIES_NAMES, reverse=True))})\b(?:\{{([^}}]*)\}})?")
_HEIGHTS = {"stat": 4, "timeseries": 8}

# Units of Grafana.
_NUMBER, _RATE, _SECONDS, _BYTES, _BYTES_RATE, _SHARE = (
    *("short", "cps", "s", "bytes", "binBps", "percentunit"),
)
_WORKER = "{{instance}} worker {{worker}}"
_INSTANCE = "{{instance}}"
# Causes that say that something is wrong; the other closes are intended.
_IS_ABNORMAL = (
    'cause=~"client_vanished|ping_timeout|slow_consumer|message_too_big|protocol_error|policy|'
    'app_failed|app_stuck|messages_lost"'
)


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. unit: Grafana's name of it. queries: expression and legend of each.

    kind: Grafana's type. width: of `COLUMNS`. is_stacked: whether the areas are added up. texts:
    what is shown instead of a number.
    """

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    width: int = 8
    is_stacked: bool = False
    texts: tuple[tuple[str, str, str], ...] = ()


# -- expressions -----------------------------------------------------------------------------------


def _rate(family: Family, by: str, matchers: str = "") -> str:
    """Return the expression for events a second, by labels."""
    return f"sum by ({by}) ({_each_rate(family, matchers)})"


def _total_rate(family: Family, matchers: str = "") -> str:
    """Return the expression for all events a second."""
    return f"sum({_each_rate(family, matchers)})"


def _each_rate(family: Family, matchers: str) -> str:
    return f"rate({family.name}{{{matchers}}}[$__rate_interval])"


def _sum(family: Family, by: str) -> str:
    return f"sum by ({by}) ({family.name})"


def _quantile(quantile: float, family: Family, by: str = "") -> str:
    """Return the expression for a quantile of a histogram."""
    labels = f"le, {by}" if by else "le"
    buckets = f"sum by ({labels}) (rate({family.name}_bucket[$__rate_interval]))"
    return f"histogram_quantile({quantile}, {buckets})"


def _quantiles(family: Family) -> tuple[tuple[str, str], ...]:
    """Return the queries for the median and the 99th percentile."""
    return (_quantile(0.5, family), "p50"), (_quantile(0.99, family), "p99")


def _stat(title: str, unit: str, *queries: tuple[str, str]) -> Panel:
    return Panel(title, unit, queries, "stat", 3)


# -- the table -------------------------------------------------------------------------------------

ROWS: dict[str, tuple[Panel, ...]] = {
    "Overview": (
        _stat("Open WebSockets", _NUMBER, (f"sum({f.WEBSOCKETS.name})", "")),
        _stat("WebSockets opened", _RATE, (_total_rate(f.OPENED), "")),
        _stat(
            "Abnormal closes",
            _RATE,
            (f"{_total_rate(f.CLOSED, _IS_ABNORMAL)} or vector(0)", ""),  # 0 before the first one
        ),
        _stat("Messages", _RATE, (_rate(f.MESSAGES, "direction"), "{{direction}}")),
        _stat("Event loop lag, p99", _SECONDS, (_quantile(0.99, f.LAG), "")),
        _stat("Ping round trip, p50", _SECONDS, (_quantile(0.5, f.ROUND_TRIP), "")),
        _stat(
            "Workers",
            _NUMBER,
            (f'sum({f.WORKERS.name}{{state="ready"}})', "ready"),
            (f"sum({f.WORKERS_TARGET.name})", "wanted"),
        ),
        Panel(
            "Broker",
            _NUMBER,
            ((f"min({f.BROKER_UP.name})", ""),),
            "stat",
            3,
            texts=(("0", "away", "red"), ("1", "reachable", "green")),
        ),
    ),
    "Connections and closes": (
        Panel("Open WebSockets by worker", _NUMBER, ((f.WEBSOCKETS.name, _WORKER),)),
        Panel("Open connections by worker", _NUMBER, ((f.CONNECTIONS.name, _WORKER),)),
        Panel(
            "WebSockets opened",
            _RATE,
            (
                (_rate(f.OPENED, "reconnect", 'reconnect="false"'), "first connection"),
                (_rate(f.OPENED, "reconnect", 'reconnect="true"'), "reconnect"),
            ),
            is_stacked=True,
        ),
        Panel(
            "Closes by cause", _RATE, ((_rate(f.CLOSED, "cause"), "{{cause}}"),), is_stacked=True
        ),
        Panel(
            "Closes by initiator",
            _RATE,
            ((_rate(f.CLOSED, "initiator"), "{{initiator}}"),),
            is_stacked=True,
        ),
        Panel("Closes by code", _RATE, ((_rate(f.CLOSED, "code"), "{{code}}"),), is_stacked=True),
        Panel("Age of WebSockets at their end", _SECONDS, _quantiles(f.DURATION)),
        Panel(
            "Handshakes refused",
            _RATE,
            ((_rate(f.HANDSHAKES_REFUSED, "status, reason"), "{{status}} {{reason}}"),),
        ),
        Panel(
            "Requests and connections refused",
            _RATE,
            (
                (_rate(f.BAD_REQUESTS, "status"), "bad request: {{status}}"),
                (_rate(f.CONNECTIONS_REFUSED, "instance"), "limit of connections: {{instance}}"),
            ),
        ),
    ),
    "Messages and bytes": (
        Panel("Messages", _RATE, ((_rate(f.MESSAGES, "direction"), "{{direction}}"),)),
        Panel("Bytes", _BYTES_RATE, ((_rate(f.MESSAGE_BYTES, "direction"), "{{direction}}"),)),
        Panel(
            "Size of messages",
            _BYTES,
            (
                (_quantile(0.5, f.MESSAGE_SIZE, "direction"), "{{direction}} p50"),
                (_quantile(0.99, f.MESSAGE_SIZE, "direction"), "{{direction}} p99"),
            ),
        ),
    ),
    "Latency": (
        Panel("Event loop lag", _SECONDS, _quantiles(f.LAG), width=6),
        Panel(
            "Event loop lag by worker, p99",
            _SECONDS,
            ((_quantile(0.99, f.LAG, "instance, worker"), _WORKER),),
            width=6,
        ),
        Panel("Ping round trip", _SECONDS, _quantiles(f.ROUND_TRIP), width=6),
        Panel("Time in the app for one event", _SECONDS, _quantiles(f.EVENT_TIME), width=6),
    ),
    "Backpressure": (
        Panel("Bytes in write buffers", _BYTES, ((f.WRITE_BUFFER.name, _WORKER),)),
        Panel("Slow consumers", _NUMBER, ((f.SLOW.name, _WORKER),)),
        Panel(
            "Messages in queues",
            _NUMBER,
            ((_sum(f.QUEUED, "instance, queue"), "{{instance}} {{queue}}"),),
        ),
        Panel("Time until a full write buffer is drained", _SECONDS, _quantiles(f.DRAIN), width=12),
        Panel(
            "Running calls of the app",
            _NUMBER,
            ((_sum(f.CALLS, "instance, type"), "{{instance}} {{type}}"),),
            width=12,
        ),
    ),
    "Topics and the broker": (
        Panel(
            "Topics and subscriptions",
            _NUMBER,
            (
                (_sum(f.TOPICS, "instance"), "{{instance}} topics"),
                (_sum(f.SUBSCRIPTIONS, "instance"), "{{instance}} subscriptions"),
            ),
        ),
        Panel(
            "Publishes and deliveries",
            _RATE,
            (
                (_total_rate(f.PUBLISHED), "published"),
                (_total_rate(f.DELIVERED), "delivered"),
            ),
        ),
        Panel(
            "Messages dropped, clients closed as too slow",
            _RATE,
            (
                (_rate(f.DROPPED, "cause"), "dropped: {{cause}}"),
                (_total_rate(f.CLOSED_SLOW), "closed"),
            ),
        ),
        Panel(
            "Recoveries",
            _RATE,
            (
                (_rate(f.RECOVERIES, "complete", 'complete="true"'), "complete"),
                (_rate(f.RECOVERIES, "complete", 'complete="false"'), "with a gap"),
            ),
            width=6,
            is_stacked=True,
        ),
        Panel("Broker reachable", _NUMBER, ((f.BROKER_UP.name, _WORKER),), width=6),
        Panel(
            "Time for an answer of the broker", _SECONDS, ((f.BROKER_LAG.name, _WORKER),), width=6
        ),
        Panel(
            "Reconnects to the broker",
            _RATE,
            ((_rate(f.BROKER_RECONNECTS, "instance"), _INSTANCE),),
            width=6,
        ),
    ),
    "HTTP": (
        Panel(
            "Requests by status",
            _RATE,
            ((_rate(f.HTTP_REQUESTS, "status"), "{{status}}"),),
            width=6,
        ),
        Panel(
            "Requests by method",
            _RATE,
            ((_rate(f.HTTP_REQUESTS, "method"), "{{method}}"),),
            width=6,
        ),
        Panel("Time for a request", _SECONDS, _quantiles(f.HTTP_TIME), width=6),
        Panel(
            "Bytes of responses",
            _BYTES_RATE,
            ((_rate(f.HTTP_BYTES, "instance"), _INSTANCE),),
            width=6,
        ),
    ),
    "Processes": (
        Panel(
            "Workers by state",
            _NUMBER,
            (
                (_sum(f.WORKERS, "instance, state"), "{{instance}} {{state}}"),
                (f.WORKERS_TARGET.name, "{{instance}} wanted"),
            ),
        ),
        Panel(
            "Workers that ended in 5 minutes",
            _NUMBER,
            ((f"sum by (reason) (increase({f.RESTARTS.name}[5m]))", "{{reason}}"),),
            is_stacked=True,
        ),
        Panel("Time to stop a worker", _SECONDS, _quantiles(f.STOP_TIME)),
        Panel(
            "Processor",
            _SHARE,
            (("rate(process_cpu_seconds_total[$__rate_interval])", _WORKER),),
        ),
        Panel("Resident memory", _BYTES, (("process_resident_memory_bytes", _WORKER),)),
        Panel(
            "File descriptors in use",
            _SHARE,
            (("process_open_fds / process_max_fds", _WORKER),),
        ),
        Panel(
            "Age of processes",
            _SECONDS,
            (("time() - process_start_time_seconds", _WORKER),),
            width=12,
        ),
        Panel(
            "Versions",
            _NUMBER,
            ((f"count by (version) ({f.INFO.name})", "{{version}}"),),
            width=12,
            is_stacked=True,
        ),
    ),
}

# -- Grafana's format ------------------------------------------------------------------------------


def dashboard_json() -> str:
    """Return the dashboard as Grafana imports it."""
    return json.dumps(dashboard(), indent=2) + "\n"


def dashboard() -> dict[str, Any]:
    """Return the dashboard in Grafana's format."""
    return {
        "uid": "wsgate",
        "title": "wsgate",
        "description": "WebSockets, messages, latency and processes of wsgate servers.",
        "tags": ["wsgate", "websocket"],
        "schemaVersion": 38,  # of Grafana 10
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # one crosshair for all panels
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": _variables()},
        "panels": _panels(),
    }


def _variables() -> list[dict[str, Any]]:
    info = f.INFO.name
    return [
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "refresh": 1,
            "current": {},
        },
        _variable("job", "Job", f"label_values({info}, job)"),
        _variable("instance", "Instance", f'label_values({info}{{job=~"$job"}}, instance)'),
    ]


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"variable-{name}"},
        "refresh": 2,  # whenever the time range changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _panels() -> list[dict[str, Any]]:
    """Return rows and panels, placed from the top to the bottom."""
    found: list[dict[str, Any]] = []
    numbers, y = count(1), 0
    for title, panels in ROWS.items():
        found.append(_row(title, next(numbers), y))
        y += 1
        for line in _lines(panels):
            x, height = 0, max(_HEIGHTS[panel.kind] for panel in line)
            for panel in line:
                place = {"h": height, "w": panel.width, "x": x, "y": y}
                found.append(_panel(panel, next(numbers), place))
                x += panel.width
            y += height
    return found


def _lines(panels: Iterable[Panel]) -> Iterator[list[Panel]]:
    """Yield the panels that fit beside each other."""
    line: list[Panel] = []
    for panel in panels:
        if sum(one.width for one in line) + panel.width > COLUMNS:
            yield line
            line = []
        line.append(panel)
    yield line


def _row(title: str, number: int, y: int) -> dict[str, Any]:
    place = {"h": 1, "w": COLUMNS, "x": 0, "y": y}
    row = {"id": number, "type": "row", "title": title, "gridPos": place}
    return {**row, "collapsed": False, "panels": []}


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": _description(panel),
        "datasource": _DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": [
            _target(letter, *query)
            for letter, query in zip(ascii_uppercase, panel.queries, strict=False)
        ],
    }


def _description(panel: Panel) -> str:
    """Return the help texts of what a panel shows, as Markdown."""
    used = set(chain.from_iterable(_names(expression) for expression, _ in panel.queries))
    shown = [one for one in FAMILIES if used & one.series_names]
    return "\n\n".join(f"`{one.name}`: {one.help}" for one in shown)


def _names(expression: str) -> list[str]:
    return [name for name, _ in _SERIES.findall(expression)]


def _defaults(panel: Panel) -> dict[str, Any]:
    """Return how the values of a panel are shown."""
    found: dict[str, Any] = {"unit": panel.unit, "min": 0, "mappings": _mappings(panel)}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.is_stacked else "none", "group": "A"}
        fill = 30 if panel.is_stacked else 10
        found["custom"] = {"fillOpacity": fill, "showPoints": "never", "stacking": stacking}
    return found


def _mappings(panel: Panel) -> list[dict[str, Any]]:
    options = {value: {"text": text, "color": color} for value, text, color in panel.texts}
    return [{"type": "value", "options": options}] if options else []


_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
    },
}


def _target(letter: str, expression: str, legend: str) -> dict[str, Any]:
    return {
        "refId": letter,
        "datasource": _DATASOURCE,
        "editorMode": "code",
        "expr": _SERIES.sub(_select, expression),
        "legendFormat": legend or "__auto",
        "range": True,
    }


def _select(series: re.Match[str]) -> str:
    name, matchers = series.groups()
    return f"{name}{{{_SELECTOR}{f', {matchers}' if matchers else ''}}}"
