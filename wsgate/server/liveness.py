"""The deadlines of one open WebSocket: signs of life, a slow reader, idle time, age."""

import math
import random
from typing import TYPE_CHECKING, Protocol

from wsgate.config import Config
from wsgate.server.backpressure import Gate
from wsgate.ws.codes import GOING_AWAY, INTERNAL_ERROR, SERVICE_RESTART, TRY_AGAIN_LATER
from wsgate.ws.keepalive import Action, Keepalive
from wsgate.ws.session import Session

if TYPE_CHECKING:
    from wsgate.server.wire import Wire
    from wsgate.server.worker import Worker

MAX_PAUSE = 300.0  # seconds that an app may leave its queue full
_SOONEST = 0.5  # of the interval of Pings, from which on the first may be sent
_SHORTEST = 0.9  # of a lifetime
_CHECKS = 8  # checks in a time without progress, so that it is exact to an eighth


class Watched(Protocol):
    """An open WebSocket, as far as its deadlines depend on it."""

    worker: "Worker"
    wire: "Wire"
    gate: Gate
    session: Session
    received_messages: int
    received_bytes: int
    sent_messages: int

    def write_frames(self, data: bytes) -> None:
        """Send frames that do not pass the message path."""

    def close(self, code: int, reason: str) -> None:
        """Send our Close and wait for the client's."""

    def give_up(self, code: int, reason: str) -> None:
        """Send our Close to a client that gives no sign of life, and end TCP soon after."""


def first_check(config: Config) -> float:
    """Return the seconds from a WebSocket's opening until something may be due."""
    return min(
        config.ws_ping_interval * _SOONEST or math.inf,
        MAX_PAUSE / _CHECKS,
        (config.ws_idle_timeout or math.inf) / _CHECKS,
        config.ws_max_lifetime * _SHORTEST or math.inf,
    )


class Liveness(Keepalive):
    """Checks one WebSocket while it is open. opened_at: in seconds of the worker's clock.

    Its fields are set at the first check, which many WebSockets do not live to see, but the object
    is there from the start, and is its own keepalive: Python's collector visits every object when
    there are a quarter more of them than before. With tens of thousands of connections that takes
    a tenth of a second, and must not be caused by time passing.
    """

    __slots__ = (
        "_active_at",
        "_is_new",
        "_life_ends",
        "_messages",
        "_received_bytes",
        "_received_messages",
        "_stuck_since",
        "opened_at",
    )

    def __init__(self, opened_at: float) -> None:
        self.opened_at = opened_at
        self._is_new = True

    def _begin(self, now: float, config: Config) -> None:
        # Connections that were opened together do not ping together.
        first = _between(_SOONEST, 1.0)
        super().__init__(now, config.ws_ping_interval, config.ws_ping_timeout, first=first)
        self._is_new = False
        self._received_bytes = 0
        self._messages = 0
        self._received_messages = 0
        self._stuck_since = now
        self._active_at = now
        lifetime = config.ws_max_lifetime
        # Nor do they end together.
        self._life_ends = now + lifetime * _between(_SHORTEST, 1.1) if lifetime else math.inf

    def check(self, now: float, websocket: Watched) -> float:
        """Do what is due; return when to check again."""
        if self._is_new:
            self._begin(self.opened_at, websocket.worker.config)
        checks = (
            self._check_reader,
            self._check_app,
            self._check_peer,
            self._check_idle,
            self._check_age,
        )
        return min(
            [check(now, websocket) for check in checks if websocket.session.can_send],
            default=math.inf,
        )

    def _check_reader(self, now: float, websocket: Watched) -> float:
        """Give up a client that does not read what it is sent."""
        shut_since = websocket.gate.shut_since
        if shut_since is None:
            return math.inf
        until = shut_since + websocket.worker.config.ws_send_timeout
        if now >= until:
            websocket.give_up(TRY_AGAIN_LATER, "slow consumer")
        return until

    def _check_app(self, now: float, websocket: Watched) -> float:
        """Close for an app that does not receive: it hides its client's end, too."""
        received = websocket.received_messages
        if websocket.wire.paused_since is None or received != self._received_messages:
            self._received_messages, self._stuck_since = received, now
        if now >= self._stuck_since + MAX_PAUSE:
            websocket.close(INTERNAL_ERROR, "the application does not receive")
        return min(self._stuck_since + MAX_PAUSE, now + MAX_PAUSE / _CHECKS)

    def _check_peer(self, now: float, websocket: Watched) -> float:
        """Send a Ping, and give up a client that gives no sign of life."""
        if not websocket.worker.config.ws_ping_interval:
            return math.inf
        if websocket.received_bytes != self._received_bytes:
            self._received_bytes = websocket.received_bytes
            self.record_data()
        step = self.step(
            now,
            flushed=websocket.wire.is_flushed,
            paused=websocket.wire.paused_since is not None,
        )
        if step.action is Action.PING:
            websocket.write_frames(websocket.session.ping(b""))
        elif step.action is Action.FAIL:
            websocket.give_up(INTERNAL_ERROR, "keepalive ping timeout")
        return step.next_at

    def _check_idle(self, now: float, websocket: Watched) -> float:
        """Close a WebSocket on which neither side has sent a message for --ws-idle-timeout."""
        timeout = websocket.worker.config.ws_idle_timeout
        if not timeout:
            return math.inf
        messages = websocket.received_messages + websocket.sent_messages
        if messages != self._messages:
            self._messages, self._active_at = messages, now
        until = self._active_at + timeout
        if now >= until:
            websocket.close(GOING_AWAY, "idle timeout")
        return min(until, now + timeout / _CHECKS)

    def _check_age(self, now: float, websocket: Watched) -> float:
        """Close a WebSocket that is old enough, so that its client reconnects elsewhere."""
        if now >= self._life_ends:
            websocket.close(SERVICE_RESTART, "lifetime reached")
        return self._life_ends


def _between(low: float, high: float) -> float:
    return random.uniform(low, high)  # noqa: S311  # no secret
