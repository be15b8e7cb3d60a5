"""Keepalive: when to send a Ping, and when the peer has timed out. The caller gives the time.

Any data from the peer counts as an answer, because a client in the middle of a huge frame cannot
send a Pong. The timeout starts when our Ping has left the write buffer, and restarts while reading
is paused.
"""

from enum import Enum
from typing import NamedTuple

_FLUSH_CHECK = 1.0  # seconds between checks of a Ping that is still in the write buffer


class Action(Enum):
    """What to do now."""

    NONE = "nothing"
    PING = "send a Ping"
    FAIL = "close: the peer has timed out"


class Step(NamedTuple):
    """What to do now, and the time of the next call."""

    action: Action
    next_at: float


class Keepalive:
    """The Pings of one connection.

    Args:
        now: Time in seconds, of the same clock as in `step`.
        interval: Seconds between Pings.
        timeout: Seconds to wait for any data after a Ping.
        first: Time of the first Ping as a fraction of the interval; random, so that connections
            opened together do not ping together.
    """

    __slots__ = ("_dead_at", "_flushing", "_interval", "_ping_at", "_timeout")

    def __init__(self, now: float, interval: float, timeout: float, first: float = 1.0) -> None:
        self._interval = interval
        self._timeout = timeout
        self._ping_at = now + interval * first
        self._flushing = False
        self._dead_at: float | None = None  # while data is awaited

    def record_data(self) -> None:
        """Record that data arrived."""
        self._flushing = False
        self._dead_at = None

    def step(self, now: float, *, flushed: bool, paused: bool) -> Step:
        """Return what to do at `now`.

        Args:
            now: Time in seconds.
            flushed: The write buffer is empty.
            paused: Reading is paused.
        """
        if self._flushing and flushed:
            self._flushing, self._dead_at = False, now + self._timeout
        if self._dead_at is not None and paused:
            self._dead_at = now + self._timeout
        if self._dead_at is not None and now >= self._dead_at:
            return Step(Action.FAIL, now)
        if now >= self._ping_at and not self._is_waiting:
            self._ping_at = now + self._interval
            self._flushing = True
            return Step(Action.PING, now + _FLUSH_CHECK)
        return Step(Action.NONE, self._next_at(now))

    @property
    def _is_waiting(self) -> bool:
        return self._flushing or self._dead_at is not None

    def _next_at(self, now: float) -> float:
        if self._flushing:
            return now + _FLUSH_CHECK
        if self._dead_at is None:
            return self._ping_at
        # Data may arrive before the timeout; then the next Ping comes first.
        return min(self._dead_at, max(self._ping_at, now + _FLUSH_CHECK))
