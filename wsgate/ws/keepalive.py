"""When to ping and when to give a peer up, without a clock: `step` is told the time.

Any byte that comes in is a sign of life, for a client in the middle of one huge frame cannot send
a Pong. The wait for it starts when our Ping has left the write buffer, and anew while we do not
read.
"""

from enum import Enum
from typing import NamedTuple

_FLUSH_CHECK = 1.0  # seconds between looks at a Ping that is stuck in the write buffer


class Action(Enum):
    """What is due now."""

    NONE = "nothing"
    PING = "send a Ping"
    FAIL = "the peer is gone"


class Step(NamedTuple):
    """What is due, and when to ask again."""

    action: Action
    next_at: float


class Keepalive:
    """The pings of one connection.

    interval: seconds between Pings. timeout: seconds for a sign of life behind each. first: when
    the first Ping is due, as a share of the interval, so that connections opened together do not
    ping together. All times are of one clock.
    """

    __slots__ = ("_dead_at", "_flushing", "_interval", "_ping_at", "_timeout")

    def __init__(self, now: float, interval: float, timeout: float, first: float = 1.0) -> None:
        self._interval = interval
        self._timeout = timeout
        self._ping_at = now + interval * first
        self._flushing = False
        self._dead_at: float | None = None  # while a sign of life is awaited

    def heard(self) -> None:
        """Note that bytes came in."""
        self._flushing = False
        self._dead_at = None

    def step(self, now: float, *, flushed: bool, paused: bool) -> Step:
        """Return what is due at `now`.

        flushed: nothing is left in the write buffer. paused: we do not read.
        """
        if self._flushing and flushed:
            self._flushing, self._dead_at = False, now + self._timeout
        if self._dead_at is not None and paused:
            self._dead_at = now + self._timeout
        if self._dead_at is not None and now >= self._dead_at:
            return Step(Action.FAIL, now)
        if now >= self._ping_at and not self._waiting:
            self._ping_at = now + self._interval
            self._flushing = True
            return Step(Action.PING, now + _FLUSH_CHECK)
        return Step(Action.NONE, self._next_at(now))

    @property
    def _waiting(self) -> bool:
        return self._flushing or self._dead_at is not None

    def _next_at(self, now: float) -> float:
        if self._flushing:
            return now + _FLUSH_CHECK
        if self._dead_at is None:
            return self._ping_at
        # A byte may come before, and then the next Ping is due first.
        return min(self._dead_at, max(self._ping_at, now + _FLUSH_CHECK))
