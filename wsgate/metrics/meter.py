"""The meter of one worker: counts what happens to its connections, and returns the samples."""

import re
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from wsgate.metrics import families as f
from wsgate.metrics.activity import TopicActivity
from wsgate.metrics.exposition import read
from wsgate.metrics.families import WORKER, Family
from wsgate.metrics.samples import Labels, Samples
from wsgate.metrics.state import State, samples_of
from wsgate.observe.causes import CAUSES
from wsgate.observe.events import (
    Event,
    HandshakeRefused,
    RequestDone,
    WebSocketClosed,
    WebSocketOpened,
)

MOST_CODES = 32  # close codes of apps and clients that have series of their own
RECENT = 100  # WebSockets that have ended, of which the latest are remembered
_REGISTERED_CODES = range(1000, 1016)
_OTHER = "other"
_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE")
)
# The reasons of refused handshakes, as labels; all others are malformed requests.
_REFUSALS = {
    "this origin may not connect": "origin",
    "this server speaks WebSocket version 13": "version",
    "the application refused the WebSocket": "app_refused",
    "the application sent its own response": "app_refused",
    "the application failed": "app_failed",
    "the application did not accept in time": "app_timeout",
    "the server is at its limit": "limit",
    "the server stops": "stopping",
}
_MALFORMED = "malformed"
_CODE = re.compile(r"\b1\d{3}\b")  # in the codes of a cause, which are text


Distribution = tuple[Sequence[int], float]
"""A histogram as numbers: how many values are in each bucket, the last one for all that are above
the bounds, and the sum of the values."""


class MessageCounts(Protocol):
    """What the message path counts."""

    def record_sent(self, message: str | bytes, times: int = 1) -> None:
        """Count a message that is sent to so many clients."""

    def received(self) -> Distribution:
        """Return the sizes of the messages that were received, in bytes."""

    def sent(self) -> Distribution:
        """Return the sizes of the messages that were sent, in bytes."""

    def events(self) -> Distribution:
        """Return how long the app took for events, in seconds."""


class Ended(NamedTuple):
    """A WebSocket that has ended.

    number: of all that have ended on this worker, from 1. at: when, in seconds since the epoch.
    """

    number: int
    at: float
    event: WebSocketClosed


class Meter:
    """Counts what happens on one worker. Its methods run in the event loop and take microseconds.

    Args:
        now: Returns the seconds since the epoch.

    Attributes:
        messages: What the message path counts; set by the worker.
        ended: The latest WebSockets that have ended, the newest last.
        open_websockets: How many are open.
        activity: Which topics are busy.
    """

    messages: MessageCounts

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._registry = CollectorRegistry()
        self.ended: deque[Ended] = deque(maxlen=RECENT)
        self.open_websockets = 0
        self._number = 0
        self._opened = self._counter(f.OPENED)
        self._closed = self._counter(f.CLOSED)
        self._duration = self._histogram(f.DURATION)
        self._refused = self._counter(f.REFUSED)
        self._bad_requests = self._counter(f.BAD_REQUESTS)
        self._round_trip = self._histogram(f.ROUND_TRIP)
        self._lag = self._histogram(f.LAG)
        self._drain = self._histogram(f.DRAIN)
        self._http_requests = self._counter(f.HTTP_REQUESTS)
        self._http_time = self._histogram(f.HTTP_TIME)
        self._http_bytes = self._counter(f.HTTP_BYTES)
        self._codes: set[int] = set(_REGISTERED_CODES)
        self._requests: dict[tuple[str, int], Any] = {}  # the series, by method and status class
        self._begin_at_zero()
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            WebSocketOpened: self._take_opened,
            WebSocketClosed: self._take_closed,
            HandshakeRefused: self._take_refusal,
            RequestDone: self._take_request,
        }
        self.activity = TopicActivity()
        self.round_trip_seconds: Callable[[float], None] = self._round_trip.observe
        self.drain_seconds: Callable[[float], None] = self._drain.observe

    def _counter(self, family: Family) -> Counter:
        return Counter(family.name, family.help, _own_labels(family), registry=self._registry)

    def _histogram(self, family: Family) -> Histogram:
        return Histogram(
            family.name,
            family.help,
            _own_labels(family),
            buckets=family.bounds,
            registry=self._registry,
        )

    def _begin_at_zero(self) -> None:
        """Expose the series of each cause before it happens: else its first rise is not seen."""
        for reconnect in ("false", "true"):
            self._opened.labels(reconnect)
        for cause, explanation in CAUSES.items():
            for code in _CODE.findall(explanation.codes):
                self._closed.labels(code, explanation.initiator, cause.value)

    # -- what happens ------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Count an event of the server."""
        handle = self._handlers.get(type(event))
        if handle is not None:
            handle(event)

    def _take_opened(self, event: WebSocketOpened) -> None:
        self.open_websockets += 1
        self._opened.labels("false" if event.reconnect is None else "true").inc()

    def _take_closed(self, event: WebSocketClosed) -> None:
        self.open_websockets -= 1
        code = self._label_of(event.code)
        self._closed.labels(code, event.initiator, event.cause.value).inc()
        self._duration.observe(event.duration)
        self._number += 1
        self.ended.append(Ended(self._number, self._now(), event))

    def _label_of(self, code: int) -> str:
        """Return the label of a close code; clients may send thousands of different ones."""
        if code not in self._codes:
            if len(self._codes) >= len(_REGISTERED_CODES) + MOST_CODES:
                return _OTHER
            self._codes.add(code)
        return str(code)

    def _take_refusal(self, event: HandshakeRefused) -> None:
        reason = _REFUSALS.get(event.reason, _MALFORMED)
        self._refused.labels(str(event.status), reason).inc()

    def _take_request(self, event: RequestDone) -> None:
        key = (event.method, event.status // 100)
        if key not in self._requests:
            method = event.method if event.method in _METHODS else _OTHER
            key = (method, event.status // 100)
            self._requests.setdefault(key, self._http_requests.labels(method, f"{key[1]}xx"))
        self._requests[key].inc()
        self._http_time.observe(event.duration)
        self._http_bytes.inc(event.sent_bytes)

    def tick(self, lag: float, now: float) -> None:
        """Count how late the event loop was.

        Args:
            lag: Seconds by which a timer was late.
            now: Time of the worker's clock in seconds.
        """
        self._lag.observe(lag)
        self.activity.rotate(now)

    def count_delivery(self, topic: str, message: str | bytes, times: int) -> None:
        """Count a publication that was written to so many WebSockets at once."""
        self.messages.record_sent(message, times)
        self.activity.add(topic, times)

    def count_bad_request(self, status: int) -> None:
        """Count a request that was refused before the app was called."""
        self._bad_requests.labels(str(status)).inc()

    # -- the samples -------------------------------------------------------------------------------

    def samples(self, state: State) -> list[Samples]:
        """Return all samples of this worker, those of the app and of the process included.

        Args:
            state: What the worker is at this moment.
        """
        return [
            *read(self._registry, with_created=False),
            *self._message_samples(),
            *state.samples(),
            samples_of(f.WEBSOCKETS, [({}, self.open_websockets)]),
            *read(REGISTRY),
        ]

    def _message_samples(self) -> list[Samples]:
        received, sent = self.messages.received(), self.messages.sent()
        both = [({"direction": "received"}, received), ({"direction": "sent"}, sent)]
        return [
            samples_of(f.MESSAGES, [(labels, sum(counts)) for labels, (counts, _) in both]),
            samples_of(f.MESSAGE_BYTES, [(labels, total) for labels, (_, total) in both]),
            _histogram_samples(f.MESSAGE_SIZE, both),
            _histogram_samples(f.EVENT_TIME, [({}, self.messages.events())]),
        ]


def _own_labels(family: Family) -> list[str]:
    """Return the labels that a worker gives: its number is added by whoever adds the workers."""
    return [label for label in family.labels if label != WORKER]


def _histogram_samples(family: Family, values: Sequence[tuple[Labels, Distribution]]) -> Samples:
    found: list[tuple[str, Labels, float]] = []
    for labels, (counts, total) in values:
        bounds = [*map(str, family.bounds), "+Inf"]
        for bound, count in zip(bounds, accumulate(counts), strict=True):
            found.append((f"{family.name}_bucket", {**labels, "le": bound}, count))
        found.append((f"{family.name}_count", labels, sum(counts)))
        found.append((f"{family.name}_sum", labels, total))
    return Samples(family.name, family.kind, family.help, "", found)
