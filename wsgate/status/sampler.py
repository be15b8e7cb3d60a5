"""What all pages show: a sample of the server, taken once for all of them."""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Container, Iterable

from wsgate.metrics.samples import Labels, Samples, read_part
from wsgate.status.health import reasons_not_ready
from wsgate.status.source import Part, Refused, Source

SHARED_SECONDS = 0.5  # for which a sample serves all pages: half of their interval
MOST_CLOSES = 200  # WebSockets that have ended, for pages that are opened later
_TOP = 10  # topics and readers that are shown
# What the page draws, of all metrics.
SHOWN = (
    *("wsgate_connections", "wsgate_websockets", "wsgate_websockets_opened_total"),
    *("wsgate_websockets_closed_total", "wsgate_handshakes_refused_total"),
    *("wsgate_messages_total", "wsgate_message_bytes_total", "wsgate_http_requests_total"),
    *("wsgate_event_loop_lag_seconds_bucket", "wsgate_ping_round_trip_seconds_bucket"),
    *("wsgate_write_buffer_bytes", "wsgate_slow_consumers", "wsgate_queued_messages"),
    *("wsgate_topics", "wsgate_topic_subscriptions", "wsgate_topic_publishes_total"),
    *("wsgate_topic_deliveries_total", "wsgate_topic_drops_total", "wsgate_broker_up"),
    *("wsgate_worker_restarts_total", "wsgate_broker_reconnects_total"),
    *("wsgate_bad_requests_total", "wsgate_connections_refused_total"),
    *("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"),
)


class Sampler:
    """Takes samples, and keeps the WebSockets that have ended.

    Args:
        source: The server.
        broker_grace: Seconds for which the broker may be out of reach while the server is ready.
    """

    def __init__(self, source: Source, broker_grace: float) -> None:
        self._source = source
        self._broker_grace = broker_grace
        self._sample: Part = {}
        self._taken_at = -math.inf
        self._taking = asyncio.Lock()
        self._known: dict[str, int] = {}  # pid of a worker -> the last end that was fetched
        self._closes: deque[tuple[int, Part]] = deque(maxlen=MOST_CLOSES)
        self._latest = 0  # the number of the latest end

    async def sample(self, since: int) -> tuple[Part, int]:
        """Return the present sample, and the number of the latest end in it.

        Args:
            since: The number of the latest end that the page has; 0 for none.
        """
        async with self._taking:
            if time.monotonic() - self._taken_at >= SHARED_SECONDS:
                self._sample = await self._take()
                self._taken_at = time.monotonic()
        closes = [close for number, close in self._closes if number > since]
        return {**self._sample, "closes": closes}, self._latest

    async def _take(self) -> Part:
        sample: Part = {"type": "sample", "at": round(time.time(), 3), "series": {}}
        async for status in self._source.ask("status", {}):
            reasons = reasons_not_ready(status, self._broker_grace)
            sample |= {key: status["server"][key] for key in ("state", "uptime", "target")}
            sample |= {"workers": status["workers"], "ready": not reasons, "reasons": reasons}
            self._forget_ended({str(one["pid"]) for one in status["workers"]})
        with contextlib.suppress(Refused):
            samples: list[Samples] = []
            async for part in self._source.ask("metrics", {}):
                samples += read_part(part["samples"])
            sample["series"] = _series_of(samples)
            sample |= await self._read_live()
        return sample

    def _forget_ended(self, running: Container[str]) -> None:
        """Forget workers that have ended: their pids may be used again."""
        self._known = {pid: last for pid, last in self._known.items() if pid in running}

    async def _read_live(self) -> Part:
        """Return the busiest topics and the slowest readers, and keep the latest ends."""
        topics: dict[str, Part] = {}
        slow: list[Part] = []
        closes: list[Part] = []
        known: dict[str, int] = {}
        async for part in self._source.ask("live", {"since": dict(self._known)}):
            known[str(part["worker"])] = part["number"]
            closes += part["closes"]
            slow += part["slow"]
            for one in part["topics"]:
                _add_topic(topics, one)
        # Only now: the page that waits for this may be closed before, and others show them later.
        self._known |= known
        for close in sorted(closes, key=lambda one: float(one["at"])):
            self._latest += 1
            self._closes.append((self._latest, close))
        busiest = sorted(topics.values(), key=lambda one: -one["deliveries"])[:_TOP]
        slowest = sorted(slow, key=lambda one: -one["unsent_bytes"])[:_TOP]
        return {"topics": busiest, "slow": slowest}


def _series_of(samples: Iterable[Samples]) -> dict[str, list[tuple[Labels, float]]]:
    series: dict[str, list[tuple[Labels, float]]] = {name: [] for name in SHOWN}
    for family in samples:
        for name, labels, value in family.values:
            if name in series:
                series[name].append((labels, value))
    return series


def _add_topic(topics: dict[str, Part], one: Part) -> None:
    """Add what one worker says of a topic."""
    known = topics.setdefault(
        one["topic"], {"topic": one["topic"], "publishes": 0.0, "deliveries": 0.0, "subscribers": 0}
    )
    # Each worker with subscribers counts every publication that reaches it.
    known["publishes"] = max(known["publishes"], one["publishes"])
    known["deliveries"] += one["deliveries"]
    known["subscribers"] += one["subscribers"]
