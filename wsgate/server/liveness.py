"""The timeouts of one open WebSocket: keepalive, slow reader, stuck app, idle time, lifetime."""

import math
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from wsgate.config import Config
from wsgate.observe.causes import Cause
from wsgate.server.backpressure import Gate
from wsgate.ws.codes import GOING_AWAY, INTERNAL_ERROR, SERVICE_RESTART, TRY_AGAIN_LATER
from wsgate.ws.keepalive import FAIL, PING, Keepalive
from wsgate.ws.session import Session

if TYPE_CHECKING:
    from wsgate.server.wire import Wire
    from wsgate.server.worker import Worker

RECEIVE_TIMEOUT = 300.0  # seconds for the app to call `receive` while its queue is full
_MIN_FIRST_PING = 0.5  # earliest first Ping, as a fraction of the interval
_PING_SWEEPS = 20  # moments in each interval at which first Pings are sent
_MIN_LIFETIME, _MAX_LIFETIME = 0.9, 1.1  # random range, as a fraction of the setting
_NEW = -math.inf  # before the first check
_NOT_READ = "the write buffer was full for --ws-send-timeout"
_CHECKS_PER_TIMEOUT = 8  # checks during one timeout: it is enforced at most 1/8 late


class Watched(Protocol):
    """What `Liveness` needs of an open WebSocket."""

    worker: "Worker"
    wire: "Wire"
    gate: Gate
    session: Session
    received_messages: int
    received_bytes: int
    sent_messages: int

    def write_frames_at_once(self, data: bytes) -> bool:
        """Send frames that do not pass the message path; returns whether all bytes have left."""

    def close(self, code: int, reason: str, cause: Cause, detail: str = "") -> None:
        """Send a Close frame and wait for the client's."""

    def give_up(self, code: int, reason: str, cause: Cause, detail: str = "") -> None:
        """Send a Close frame to a client that has timed out, and end TCP soon after."""


def first_check(config: Config) -> float:
    """Return the seconds from the opening of a WebSocket to its first check."""
    return min(
        config.ws_ping_interval * _MIN_FIRST_PING or math.inf,
        RECEIVE_TIMEOUT / _CHECKS_PER_TIMEOUT,
        (config.ws_idle_timeout or math.inf) / _CHECKS_PER_TIMEOUT,
        config.ws_max_lifetime * _MIN_LIFETIME or math.inf,
    )


class Liveness(Keepalive):
    """The timeouts of one open WebSocket.

    Timers must not create objects. Python's garbage collector runs a full collection when the
    number of objects has grown by a quarter; with tens of thousands of connections that takes a
    tenth of a second. So this object is created with its WebSocket, and it is a Keepalive instead
    of holding one. Its other fields are set at the first check: many WebSockets end before it.

    Nearly all checks are of connections whose client reads and answers. So the other timeouts are
    checked only when they may apply, and a Ping is sent within the check: one check in each
    interval finds the answer to the last Ping and sends the next one.

    Attributes:
        opened_at: Time of the worker's clock in seconds.
        round_trip: Seconds from the last Ping that was answered to its Pong; None before.
    """

    __slots__ = (
        "_active_at",
        "_ends_at",
        "_long_at",
        "_measured_ping",
        "_messages",
        "_received_bytes",
        "_received_messages",
        "_stuck_since",
        "opened_at",
        "round_trip",
    )

    def __init__(self, opened_at: float) -> None:
        self.opened_at = opened_at
        self.round_trip: float | None = None
        self._measured_ping: float | None = None  # the time of the Ping of `round_trip`
        self._long_at = _NEW  # when to check the idle time and the lifetime

    def _initialize(self, now: float, config: Config) -> None:
        interval = config.ws_ping_interval
        super().__init__(now, interval, config.ws_ping_timeout, _first_ping(now, interval))
        self._received_bytes = 0
        self._messages = 0
        self._received_messages = 0
        self._stuck_since = now
        self._active_at = now
        lifetime = config.ws_max_lifetime * _between(_MIN_LIFETIME, _MAX_LIFETIME)
        # Random, so that connections opened together do not end together.
        self._ends_at = now + lifetime if lifetime else math.inf

    def record_pong(self, now: float) -> float | None:
        """Measure the round trip with the first Pong after a Ping; others answer nothing.

        Returns:
            The round trip in seconds, None if this Pong answers nothing.
        """
        if self._long_at == _NEW:
            return None  # there was no Ping yet
        pinged_at = self.unanswered_ping
        if pinged_at is None or pinged_at is self._measured_ping:
            return None
        self._measured_ping = pinged_at
        self.round_trip = now - pinged_at
        return self.round_trip

    def check(self, now: float, websocket: Watched) -> float:
        """Enforce all timeouts.

        Args:
            now: Time of the worker's clock in seconds.
            websocket: The WebSocket, always the same one.

        Returns:
            When to check again, infinity for never.
        """
        if (
            now >= self._long_at
            or websocket.gate.shut_since is not None
            or websocket.wire.paused_since is not None
        ):
            return self._check_all(now, websocket)
        at = self._check_peer(now, websocket)
        return min(at, self._long_at, now + RECEIVE_TIMEOUT / _CHECKS_PER_TIMEOUT)

    def _check_all(self, now: float, websocket: Watched) -> float:
        if self._long_at == _NEW:
            self._initialize(self.opened_at, websocket.worker.config)
        at = self._check_each(now, websocket, self._check_peer, self._check_reader, self._check_app)
        self._long_at = self._check_each(now, websocket, self._check_idle, self._check_age)
        return min(at, self._long_at)

    def _check_each(
        self, now: float, websocket: Watched, *checks: Callable[[float, Watched], float]
    ) -> float:
        """Enforce some timeouts until one of them closes; return when to check them again."""
        return min(
            [check(now, websocket) for check in checks if websocket.session.can_send],
            default=math.inf,
        )

    def _check_reader(self, now: float, websocket: Watched) -> float:
        """Close if the write buffer was too full for --ws-send-timeout.

        That is: it has not fallen below its low-water mark, even if the client has read a little.
        """
        shut_since = websocket.gate.shut_since
        if shut_since is None:
            return math.inf
        until = shut_since + websocket.worker.config.ws_send_timeout
        if now >= until:
            websocket.give_up(TRY_AGAIN_LATER, "slow consumer", Cause.SLOW_CONSUMER, _NOT_READ)
        return until

    def _check_app(self, now: float, websocket: Watched) -> float:
        """Close if the app has not called `receive` for RECEIVE_TIMEOUT seconds.

        Reading is paused while its queue is full, so a disconnect would not be detected either.
        """
        paused_since, received = websocket.wire.paused_since, websocket.received_messages
        if paused_since is None:
            return now + RECEIVE_TIMEOUT / _CHECKS_PER_TIMEOUT
        self._stuck_since = max(self._stuck_since, paused_since)
        if received != self._received_messages:
            self._received_messages, self._stuck_since = received, now
        if now >= self._stuck_since + RECEIVE_TIMEOUT:
            websocket.close(INTERNAL_ERROR, "the application does not receive", Cause.APP_STUCK)
        return min(self._stuck_since + RECEIVE_TIMEOUT, now + RECEIVE_TIMEOUT / _CHECKS_PER_TIMEOUT)

    def _check_peer(self, now: float, websocket: Watched) -> float:
        """Send Pings; close if no data arrives after one for --ws-ping-timeout."""
        if not self._interval:
            return math.inf
        wire = websocket.wire
        if websocket.received_bytes != self._received_bytes:
            self._received_bytes = websocket.received_bytes
            self.record_data()
        if self.is_flushing and wire.is_flushed:
            self.record_flush(now)
        if wire.paused_since is not None:
            self.record_pause(now)
        action = self.step(now)
        if action is PING:
            if websocket.write_frames_at_once(websocket.session.ping(b"")):
                self.record_flush(now)
        elif action is FAIL:
            websocket.give_up(INTERNAL_ERROR, "keepalive ping timeout", Cause.PING_TIMEOUT)
        return self.next_step(now)

    def _check_idle(self, now: float, websocket: Watched) -> float:
        """Close if neither side has sent a message for --ws-idle-timeout."""
        timeout = websocket.worker.config.ws_idle_timeout
        if not timeout:
            return math.inf
        messages = websocket.received_messages + websocket.sent_messages
        if messages != self._messages:
            self._messages, self._active_at = messages, now
        until = self._active_at + timeout
        if now >= until:
            websocket.close(GOING_AWAY, "idle timeout", Cause.IDLE)
        return min(until, now + timeout / _CHECKS_PER_TIMEOUT)

    def _check_age(self, now: float, websocket: Watched) -> float:
        """Close after --ws-max-lifetime, so that the client reconnects elsewhere."""
        if now >= self._ends_at:
            websocket.close(SERVICE_RESTART, "lifetime reached", Cause.LIFETIME)
        return self._ends_at


def _first_ping(now: float, interval: float) -> float:
    """Return when to send the first Ping, as a fraction of the interval from now.

    It is random, so that connections opened together do not ping together; but at one of
    _PING_SWEEPS moments in each interval, so that a process which wakes sends many Pings.
    """
    if not interval:
        return 1.0
    apart = interval / _PING_SWEEPS
    at = now + interval * _between(_MIN_FIRST_PING, 1.0 - 1.0 / _PING_SWEEPS)
    return (math.ceil(at / apart) * apart - now) / interval


def _between(low: float, high: float) -> float:
    return random.uniform(low, high)  # noqa: S311  # not for a secret
