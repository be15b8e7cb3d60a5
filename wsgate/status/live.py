"""The page's WebSocket: what it shows each second, and what it may ask for.

All messages are objects of JSON. The server sends `hello` first, then a `sample` each second. The
page sends requests, with a number as `ask`: `connections`, and with the token `close` and `drain`.
The answer has the same number, and `error` if it was refused.
"""

import asyncio
import contextlib
import hmac
import json
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from wsgate._version import __version__
from wsgate.metrics.samples import Labels, Samples, read_part
from wsgate.status.health import reasons_not_ready
from wsgate.status.source import Part, Refused, Source
from wsgate.types import Receive, Send

INTERVAL = 1.0  # seconds between two samples
MOST_CLOSES = 200  # WebSockets that have ended, for pages that are opened later
MOST_ROWS = 1000  # connections in one answer
_TOP = 10  # topics and readers that are shown
WRONG_TOKEN_PAUSE = 1.0  # seconds until the next request after a wrong token
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
_ACTIONS = {"close", "drain"}
# The arguments of each request, which are those of the command.
_ARGUMENTS = {
    "connections": ("path", "address", "worker", "limit"),
    "close": ("id", "code", "reason"),
    "drain": ("worker",),
}


class Live:
    """What all pages show: taken once for all of them.

    Args:
        source: The server.
        broker_grace: Seconds for which the broker may be out of reach while the server is ready.
    """

    def __init__(self, source: Source, broker_grace: float) -> None:
        self._source = source
        self._broker_grace = broker_grace
        self._sample: Part = {}
        self._taken_at = -INTERVAL
        self._taking = asyncio.Lock()
        self._known: dict[str, int] = {}  # the last end of each worker that was fetched
        self._closes: deque[tuple[int, Part]] = deque(maxlen=MOST_CLOSES)
        self._count = 0  # of all ends so far

    async def sample(self, since: int) -> tuple[Part, int]:
        """Return what is now, and the number of the latest end in it.

        Args:
            since: The number of the latest end that the page has; 0 for none.
        """
        async with self._taking:
            if time.monotonic() - self._taken_at >= INTERVAL / 2:
                self._sample = await self._take()
                self._taken_at = time.monotonic()
        closes = [close for number, close in self._closes if number > since]
        return {**self._sample, "closes": closes}, self._count

    async def _take(self) -> Part:
        sample: Part = {"type": "sample", "at": round(time.time(), 3), "series": {}}
        async for status in self._source.ask("status", {}):
            reasons = reasons_not_ready(status, self._broker_grace)
            sample |= {key: status["server"][key] for key in ("state", "uptime", "target")}
            sample |= {"workers": status["workers"], "ready": not reasons, "reasons": reasons}
        with contextlib.suppress(Refused):
            samples: list[Samples] = []
            async for part in self._source.ask("metrics", {}):
                samples += read_part(part["samples"])
            sample["series"] = _series_of(samples)
            sample |= await self._look()
        return sample

    async def _look(self) -> Part:
        """Return the busiest topics and the slowest readers, and keep the latest ends."""
        topics: dict[str, Part] = {}
        slow: list[Part] = []
        closes: list[Part] = []
        async for part in self._source.ask("live", {"since": self._known}):
            self._known[str(part["worker"])] = part["number"]
            closes += part["closes"]
            slow += part["slow"]
            for one in part["topics"]:
                _add_topic(topics, one)
        for close in sorted(closes, key=lambda one: float(one["at"])):
            self._count += 1
            self._closes.append((self._count, close))
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


class Viewer:
    """One open page.

    Args:
        live: What it shows.
        source: The server, for its requests.
        token: With which it may act; None if it may not.
    """

    def __init__(self, live: Live, source: Source, token: str | None) -> None:
        self._live = live
        self._source = source
        self._token = token

    async def serve(self, receive: Receive, send: Send) -> None:
        """Send samples and answer requests until the page is closed."""
        await _send(send, {"type": "hello", "version": __version__, "can_act": bool(self._token)})
        sending = asyncio.create_task(self._send_samples(send))
        try:
            while (message := await receive())["type"] == "websocket.receive":
                await self._answer(message.get("text") or "", send)
        finally:
            sending.cancel()
            await asyncio.wait([sending])

    async def _send_samples(self, send: Send) -> None:
        since = 0
        with contextlib.suppress(OSError):  # the page was closed
            while True:
                sample, since = await self._live.sample(since)
                await _send(send, sample)
                await asyncio.sleep(INTERVAL)

    async def _answer(self, text: str, send: Send) -> None:
        try:
            request = json.loads(text)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            return  # our page sends objects only
        answer: Part = {"type": "answer", "ask": request.get("ask")}
        try:
            answer |= await self._execute(request)
        except Refused as refused:
            answer["error"] = str(refused)
        await _send(send, answer)

    async def _execute(self, request: Mapping[str, Any]) -> Part:
        command = request.get("do")
        if not isinstance(command, str) or command not in _ARGUMENTS:
            raise Refused("there is no such request")
        if command in _ACTIONS:
            await self._check_token(request.get("token"))
        arguments = {
            name: value for name in _ARGUMENTS[command] if (value := request.get(name)) is not None
        }
        if command == "connections":
            return await self._list(arguments)
        result: Part = {}
        async for part in self._source.ask(command, arguments):
            result |= part
        return result

    async def _check_token(self, token: object) -> None:
        if self._token is None:
            raise Refused("the page is read only: start the server with --status-token")
        given = token.encode() if isinstance(token, str) else b""
        if not hmac.compare_digest(given, self._token.encode()):
            await asyncio.sleep(WRONG_TOKEN_PAUSE)  # nobody can try many
            raise Refused("the token is wrong")

    async def _list(self, arguments: dict[str, Any]) -> Part:
        limit = arguments.get("limit")
        is_limit = isinstance(limit, int) and not isinstance(limit, bool)
        arguments["limit"] = min(limit, MOST_ROWS) if is_limit and limit else MOST_ROWS
        found: Part = {"connections": []}
        async for part in self._source.ask("connections", arguments):
            found["connections"] += part.pop("connections", [])
            found |= part
        return found


async def _send(send: Send, message: Part) -> None:
    with contextlib.suppress(OSError):  # the page was closed
        await send({"type": "websocket.send", "text": json.dumps(message)})
