"""The meter of one worker: counts what happens to its connections, and returns the samples."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from wsgate.metrics import families as f
from wsgate.metrics.activity import TopicActivity
from wsgate.metrics.families import Family
from wsgate.metrics.histogram import Histogram, HistogramSnapshot
from wsgate.metrics.readings import Readings
from wsgate.metrics.samples import Labels, Samples, histogram_samples, samples_of
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


class MessageCounts(Protocol):
    """What the message path counts. Its histograms are counts by bucket, and a sum."""

    def record_sent(self, message: str | bytes, times: int = 1) -> None:
        """Count a message that is sent to so many clients."""

    def received(self) -> tuple[Sequence[int], float]:
        """Return the sizes of the messages that were received, in bytes."""

    def sent(self) -> tuple[Sequence[int], float]:
        """Return the sizes of the messages that were sent, in bytes."""

    def events(self) -> tuple[Sequence[int], float]:
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
        messages: What the message path counts; set by `Worker.count_with`.
        ended: The latest WebSockets that have ended, the newest last.
        activity: Which topics are busy.
    """

    messages: MessageCounts

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.ended: deque[Ended] = deque(maxlen=RECENT)
        self._open = 0
        self._number = 0  # of the latest end
        # All series exist before something happens: else the first rise of one is not seen.
        self._opened = {"false": 0, "true": 0}
        self._closed: Counter[tuple[str, str, str]] = Counter(_series_of_causes())
        self._codes: set[int] = set(_REGISTERED_CODES)
        self._duration = Histogram(f.DURATION.bounds)
        self._refused: Counter[tuple[str, str]] = Counter()
        self._bad_requests: Counter[str] = Counter()
        self._round_trip = Histogram(f.ROUND_TRIP.bounds)
        self._lag = Histogram(f.LAG.bounds)
        self._drain = Histogram(f.DRAIN.bounds)
        self._requests: Counter[tuple[str, int]] = Counter()
        self._request_time = Histogram(f.HTTP_TIME.bounds)
        self._response_bytes = 0
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            WebSocketOpened: self._take_opened,
            WebSocketClosed: self._take_closed,
            HandshakeRefused: self._take_refused,
            RequestDone: self._take_request,
        }
        self.activity = TopicActivity()

    # -- what happens ------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Count an event of the server."""
        handle = self._handlers.get(type(event))
        if handle is not None:
            handle(event)

    def _take_opened(self, event: WebSocketOpened) -> None:
        self._open += 1
        self._opened["false" if event.reconnect is None else "true"] += 1

    def _take_closed(self, event: WebSocketClosed) -> None:
        self._open -= 1
        code = self._label_of(event.code)
        self._closed[code, event.initiator, event.cause.value] += 1
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

    def _take_refused(self, event: HandshakeRefused) -> None:
        self._refused[str(event.status), event.refusal.value] += 1

    def _take_request(self, event: RequestDone) -> None:
        method = event.method if event.method in _METHODS else _OTHER
        self._requests[method, event.status // 100] += 1
        self._request_time.observe(event.duration)
        self._response_bytes += event.sent_bytes

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

    def count_round_trip(self, seconds: float) -> None:
        """Count a Ping that was answered."""
        self._round_trip.observe(seconds)

    def count_drain(self, seconds: float) -> None:
        """Count a write buffer that was full, and for how long."""
        self._drain.observe(seconds)

    def count_bad_request(self, status: int) -> None:
        """Count a request that was refused before the app was called."""
        self._bad_requests[str(status)] += 1

    # -- the samples -------------------------------------------------------------------------------

    def samples(self, readings: Readings) -> list[Samples]:
        """Return the samples of this worker, without those of its process and its app.

        Args:
            readings: The numbers of this worker that others keep.
        """
        return [
            *self._websocket_samples(),
            *self._http_samples(),
            *self._message_samples(),
            *readings.samples(),
        ]

    def _websocket_samples(self) -> list[Samples]:
        opened = [({"reconnect": which}, count) for which, count in self._opened.items()]
        return [
            samples_of(f.WEBSOCKETS, [({}, self._open)]),
            samples_of(f.OPENED, opened),
            _counter_samples(f.CLOSED, self._closed),
            _counter_samples(f.HANDSHAKES_REFUSED, self._refused),
            histogram_samples(f.DURATION, [({}, self._duration.snapshot())]),
            histogram_samples(f.ROUND_TRIP, [({}, self._round_trip.snapshot())]),
            histogram_samples(f.LAG, [({}, self._lag.snapshot())]),
            histogram_samples(f.DRAIN, [({}, self._drain.snapshot())]),
        ]

    def _http_samples(self) -> list[Samples]:
        requests: list[tuple[Labels, float]] = [
            ({"method": method, "status": f"{hundreds}xx"}, count)
            for (method, hundreds), count in self._requests.items()
        ]
        bad = [({"status": status}, count) for status, count in self._bad_requests.items()]
        return [
            samples_of(f.HTTP_REQUESTS, requests),
            samples_of(f.BAD_REQUESTS, bad),
            samples_of(f.HTTP_BYTES, [({}, self._response_bytes)]),
            histogram_samples(f.HTTP_TIME, [({}, self._request_time.snapshot())]),
        ]

    def _message_samples(self) -> list[Samples]:
        received = HistogramSnapshot(*self.messages.received())
        sent = HistogramSnapshot(*self.messages.sent())
        both = [({"direction": "received"}, received), ({"direction": "sent"}, sent)]
        return [
            samples_of(f.MESSAGES, [(labels, sum(one.counts)) for labels, one in both]),
            samples_of(f.MESSAGE_BYTES, [(labels, one.sum) for labels, one in both]),
            histogram_samples(f.MESSAGE_SIZE, both),
            histogram_samples(f.EVENT_TIME, [({}, HistogramSnapshot(*self.messages.events()))]),
        ]


def _series_of_causes() -> dict[tuple[str, str, str], int]:
    """Return the series of all causes, with the codes that are known before."""
    return {
        (str(code), explanation.initiator, cause.value): 0
        for cause, explanation in CAUSES.items()
        for code in explanation.codes
    }


def _counter_samples(family: Family, counts: Counter[Any]) -> Samples:
    """Return the samples of counts, whose keys are the values of the labels, in order."""
    values: list[tuple[Labels, float]] = [
        (dict(zip(family.labels, key, strict=True)), count) for key, count in counts.items()
    ]
    return samples_of(family, values)
