"""What is counted for each WebSocket message while metrics are on: the twin of _message_meter.h.

The message path counts in its own code, compiled where there is a compiler: a call of Python for
each message would cost more than everything else that metrics do.
"""

import time
from bisect import bisect_left
from collections.abc import Callable

from wsgate.metrics.families import EVENT_TIME, MESSAGE_SIZE
from wsgate.metrics.histogram import HistogramSnapshot
from wsgate.ws.encoded import message_size

_SIZES = MESSAGE_SIZE.bounds
_TIMES = EVENT_TIME.bounds


class PlainMessageMeter:
    """The sizes of a worker's messages, and how long the app takes for each event.

    Args:
        clock: Returns a monotonic time in seconds.
    """

    __slots__ = ("_event_counts", "_event_sum", "_received", "_sent", "_sums", "clock")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._received = [0] * (len(_SIZES) + 1)
        self._sent = [0] * (len(_SIZES) + 1)
        self._sums = [0, 0]  # bytes received and sent
        self._event_counts = [0] * (len(_TIMES) + 1)
        self._event_sum = 0.0

    def record_received(self, message: str | bytes) -> None:
        """Count a message of a client."""
        size = message_size(message)
        self._received[bisect_left(_SIZES, size)] += 1
        self._sums[0] += size

    def record_sent(self, message: str | bytes, times: int = 1) -> None:
        """Count a message that is sent to so many clients."""
        size = message_size(message)
        self._sent[bisect_left(_SIZES, size)] += times
        self._sums[1] += size * times

    def record_event(self, seconds: float) -> None:
        """Count an event that the app has processed."""
        self._event_counts[bisect_left(_TIMES, seconds)] += 1
        self._event_sum += seconds

    def received(self) -> HistogramSnapshot:
        """Return the sizes of the messages that were received, in bytes."""
        return HistogramSnapshot(tuple(self._received), self._sums[0])

    def sent(self) -> HistogramSnapshot:
        """Return the sizes of the messages that were sent, in bytes."""
        return HistogramSnapshot(tuple(self._sent), self._sums[1])

    def events(self) -> HistogramSnapshot:
        """Return how long the app took for events, in seconds."""
        return HistogramSnapshot(tuple(self._event_counts), self._event_sum)
