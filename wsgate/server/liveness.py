"""The deadlines of one open WebSocket: signs of life, a reader's pace, idleness, age."""

import math
import random
from typing import TYPE_CHECKING, Protocol

from wsgate.config import Config
from wsgate.ws.keepalive import Action, Keepalive
from wsgate.ws.session import Session

if TYPE_CHECKING:
    from wsgate.server.connection import Connection

MAX_PAUSE = 300.0  # seconds that an app may leave its queue full
_SOONEST = 0.5  # of the interval of Pings, from which on the first may be sent
_SHORTEST = 0.9  # of a lifetime
_LOOKS = 8  # looks in a time without progress, so that it is exact to an eighth


class Closer(Protocol):
    """Ends the WebSocket that is watched."""

    def close(self, code: int, reason: str) -> None:
        """Send our Close and wait for the peer's."""

    def give_up(self, code: int, reason: str) -> None:
        """Send our Close to a peer that gives no sign of life, and end TCP soon after."""


def first_look(config: Config) -> float:
    """Return the seconds from a WebSocket's beginning until something may be due."""
    return min(
        config.ws_ping_interval * _SOONEST or math.inf,
        MAX_PAUSE / _LOOKS,
        (config.ws_idle_timeout or math.inf) / _LOOKS,
        config.ws_max_lifetime * _SHORTEST or math.inf,
    )


class Watch(Keepalive):
    """Looks after one session while it is open, `opened_at` some time.

    What it knows is set at its first look, which many connections do not live to see, but it is
    there from the start, and is its own keepalive: Python's collector looks at every object, all of
    them whenever they have become a quarter more. With tens of thousands of connections that takes
    a tenth of a second, and must not come while nothing happens but that time goes by.
    """

    __slots__ = (
        "_active_at",
        "_bytes_in",
        "_connection",
        "_is_new",
        "_life_ends",
        "_messages",
        "_received",
        "_session",
        "_stuck_since",
        "opened_at",
    )

    def __init__(self, connection: "Connection", session: Session, opened_at: float) -> None:
        self._connection = connection
        self._session = session
        self.opened_at = opened_at
        self._is_new = True

    def _begin(self, now: float) -> None:
        config = self._connection.context.config
        # Connections that were opened together do not ping together.
        first = _between(_SOONEST, 1.0)
        super().__init__(now, config.ws_ping_interval, config.ws_ping_timeout, first=first)
        self._is_new = False
        self._bytes_in = 0
        self._messages = 0
        self._received = 0
        self._stuck_since = now
        self._active_at = now
        lifetime = config.ws_max_lifetime
        # Nor do they end together.
        self._life_ends = now + lifetime * _between(_SHORTEST, 1.1) if lifetime else math.inf

    def check(self, now: float, closer: Closer) -> float:
        """Do what is due; return when to ask again."""
        if self._is_new:
            self._begin(self.opened_at)
        looks = (
            self._check_reader,
            self._check_app,
            self._check_peer,
            self._check_idle,
            self._check_age,
        )
        return min(
            [look(now, closer) for look in looks if self._session.can_send], default=math.inf
        )

    def _check_reader(self, now: float, closer: Closer) -> float:
        """Give a client up that does not read what it is sent."""
        shut_since = self._connection.gate.shut_since
        if shut_since is None:
            return math.inf
        until = shut_since + self._connection.context.config.ws_send_timeout
        if now >= until:
            closer.give_up(1013, "slow consumer")
        return until

    def _check_app(self, now: float, closer: Closer) -> float:
        """Give an app up that does not receive: it hides its client's end, too."""
        if self._connection.paused_since is None or self._session.received != self._received:
            self._received, self._stuck_since = self._session.received, now
        if now >= self._stuck_since + MAX_PAUSE:
            closer.close(1011, "the application does not receive")
        return min(self._stuck_since + MAX_PAUSE, now + MAX_PAUSE / _LOOKS)

    def _check_peer(self, now: float, closer: Closer) -> float:
        """Ping, and give a peer up that gives no sign of life."""
        if not self._connection.context.config.ws_ping_interval:
            return math.inf
        if self._session.bytes_in != self._bytes_in:
            self._bytes_in = self._session.bytes_in
            self.record_data()
        step = self.step(
            now,
            flushed=self._connection.is_flushed,
            paused=self._connection.paused_since is not None,
        )
        if step.action is Action.PING:
            self._connection.write(self._session.ping(b""))
        elif step.action is Action.FAIL:
            closer.give_up(1011, "keepalive ping timeout")
        return step.next_at

    def _check_idle(self, now: float, closer: Closer) -> float:
        """End a WebSocket on which nobody says anything; the messages are counted already."""
        timeout = self._connection.context.config.ws_idle_timeout
        if not timeout:
            return math.inf
        messages = self._session.received + self._session.sent
        if messages != self._messages:
            self._messages, self._active_at = messages, now
        until = self._active_at + timeout
        if now >= until:
            closer.close(1001, "idle timeout")
        return min(until, now + timeout / _LOOKS)

    def _check_age(self, now: float, closer: Closer) -> float:
        """End a WebSocket that has lived long enough, so that its client comes back elsewhere."""
        if now >= self._life_ends:
            closer.close(1012, "lifetime reached")
        return self._life_ends


def _between(low: float, high: float) -> float:
    return random.uniform(low, high)  # noqa: S311  # no secret
