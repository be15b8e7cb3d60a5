"""Keepalive: when to send a Ping, and when the peer has timed out. The caller gives the time.

Any data from the peer counts as an answer, because a client in the middle of a huge frame cannot
send a Pong. The timeout starts when our Ping has left the write buffer, and restarts while reading
is paused.

If that is at once, and the timeout is not shorter than the interval, a peer that answers needs one
step in each interval: it finds the answer to the last Ping, and sends the next one.
"""

from enum import Enum

_FLUSH_CHECK = 1.0  # seconds between checks of a Ping that is still in the write buffer


class Action(Enum):
    """What to do now."""

    NONE = "nothing"
    PING = "send a Ping"
    FAIL = "close: the peer has timed out"


NONE, PING, FAIL = Action  # Action.PING is a call in CPython 3.11


class Keepalive:
    """The Pings of one connection.

    It keeps times that the caller has passed, and computes the others: the connections of one sweep
    share the object of its time.

    Args:
        now: Time in seconds, of the same clock as in all methods.
        interval: Seconds between Pings.
        timeout: Seconds to wait for any data after a Ping.
        first: Time of the first Ping as a fraction of the interval; random, so that connections
            opened together do not ping together.

    Attributes:
        is_flushing: The last Ping has not left the write buffer yet, as far as is known.
    """

    __slots__ = ("_awaited_since", "_interval", "_pinged_at", "_timeout", "is_flushing")

    def __init__(self, now: float, interval: float, timeout: float, first: float = 1.0) -> None:
        self._interval = interval
        self._timeout = timeout
        self._pinged_at = now + interval * (first - 1.0)  # as if there had been one
        self._awaited_since: float | None = None  # since when data is awaited
        self.is_flushing = False

    @property
    def unanswered_ping(self) -> float | None:
        """The time of the last Ping, None if no data is awaited after one."""
        if self.is_flushing or self._awaited_since is not None:
            return self._pinged_at
        return None

    def record_data(self) -> None:
        """Record that data arrived."""
        self.is_flushing = False
        self._awaited_since = None

    def record_flush(self, now: float) -> None:
        """Record that the last Ping has left the write buffer: the timeout starts."""
        self.is_flushing = False
        self._awaited_since = now

    def record_pause(self, now: float) -> None:
        """Record that reading is paused: the timeout restarts."""
        if self._awaited_since is not None:
            self._awaited_since = now

    def step(self, now: float) -> Action:
        """Return what to do at `now`."""
        if self._awaited_since is not None:
            return FAIL if now >= self._awaited_since + self._timeout else NONE
        if self.is_flushing or now < self._pinged_at + self._interval:
            return NONE
        self._pinged_at = now
        self.is_flushing = True
        return PING

    def next_step(self, now: float) -> float:
        """Return the time of the next step."""
        if self.is_flushing:
            return now + _FLUSH_CHECK
        ping_at = self._pinged_at + self._interval
        if self._awaited_since is None:
            return ping_at
        # Data may arrive before the timeout; then the next Ping comes first.
        return min(self._awaited_since + self._timeout, max(ping_at, now + _FLUSH_CHECK))
