"""One TCP connection: the transport's owner, and the only one who writes to it."""

import asyncio
import math
from typing import TYPE_CHECKING, Protocol

from wsgate.server.backpressure import Gate
from wsgate.server.deadlines import LINGER
from wsgate.server.fast_path import Target
from wsgate.server.http1_driver import HttpDriver
from wsgate.server.websocket import WebSocketDriver
from wsgate.server.worker import Context
from wsgate.types import Address

if TYPE_CHECKING:
    from wsgate.asgi.scope import Endpoint

try:
    from wsgate.server._fast_path import Relay
except ImportError:  # no compiler was found where wsgate was installed
    from wsgate.server.fast_path import (  # type: ignore[assignment]  # the same class
        PlainRelay as Relay,
    )

HIGH_WATER = 65_536  # bytes in the write buffer at which senders begin to wait
_NEVER = -math.inf
LAST_WORD = 127  # bytes of a control frame of ours


class Driver(Protocol):
    """What a connection is about: HTTP, a WebSocket, or nothing any more."""

    def eof(self) -> None:
        """Take note that the client sends no more."""

    def lost(self) -> None:
        """Take note that the connection is gone."""

    def writable(self) -> None:
        """Take note that the write buffer has fallen below its mark."""

    def check(self, now: float) -> float:
        """Do what is due at `now`; return when to ask again, infinity for never."""

    def stop(self) -> None:
        """Bring what is under way to its end: the server stops."""


class Connection(Relay, asyncio.Protocol):
    """One connection, from accept to its end.

    client: its address. endpoint: what it came to. driver: who has it now. transport: the loop's;
    it is written to by way of the outbox. gate: where senders wait. paused_since: since when
    nothing is read, None while it is. has_eof: the client has ended its half. bucket: where
    `Deadlines` has filed it.
    """

    __slots__ = (
        "_is_let_in",
        "_read_at",
        "_unsent",
        "bucket",
        "client",
        "context",
        "driver",
        "endpoint",
        "gate",
        "has_eof",
        "is_lost",
        "paused_since",
        "transport",
    )

    def __init__(self, context: Context) -> None:
        self.context = context
        self.gate = Gate()
        self.bucket: int | None = None
        self.is_lost = False
        self.has_eof = False
        self._is_let_in = False
        self.paused_since: float | None = None
        self._unsent = 0  # bytes in the write buffer when last looked at
        self._read_at = _NEVER  # when they were last seen to become fewer
        self.transport: asyncio.Transport
        self.client: Address | None
        self.endpoint: Endpoint
        self.driver: Driver

    # -- the transport speaks --------------------------------------------------------------------

    def connection_made(
        self,
        transport: asyncio.Transport,  # type: ignore[override]  # it is one, in a server's streams
    ) -> None:
        """Begin with HTTP."""
        context = self.context
        self.transport = transport
        transport.set_write_buffer_limits(HIGH_WATER)
        self.client = _address(transport.get_extra_info("peername"))
        name = transport.get_extra_info("sockname")
        if name != context.sockname:  # nearly always it is that of the connection before
            context.move_to(name, _address(name) if self.client else _path(name))
        self.endpoint = context.endpoint
        context.connections.add(self)
        driver = HttpDriver(self)
        self.hand_to(driver, driver)
        driver.start()
        self._is_let_in = context.admission.enter(self.client)
        if not self._is_let_in:
            driver.turn_away()
            if context.admission.is_swamped:
                self.abort()  # without the time to read the answer: files are short
        elif context.stopping:
            self.driver.stop()

    def eof_received(self) -> bool:
        """Keep the connection: a client that sends no more may still read."""
        self.has_eof = True
        self.driver.eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's interface
        """End what is left; why the connection went is of no use to anyone."""
        self.is_lost = True
        self.context.outbox.forget(self.transport)
        self.gate.open()
        self.driver.lost()
        self.hand_to(_GONE, _GONE)  # and with that no driver is held
        self.context.admission.leave(self.client, was_let_in=self._is_let_in)
        self.context.connection_ended(self)

    def pause_writing(self) -> None:
        """Let senders wait: the write buffer is above its mark."""
        now = self.context.clock()
        self.gate.shut(now)
        self._watch_reader(now)
        self.context.deadlines.arm(self, now)

    def resume_writing(self) -> None:
        """Let senders go on."""
        self.gate.open()
        self.driver.writable()

    # -- its driver speaks -----------------------------------------------------------------------

    def hand_to(self, driver: Driver, target: Target) -> None:
        """Have another driver go on; what comes in goes to `target`, which may be the same."""
        self.driver, self.target = driver, target

    def write(self, data: bytes) -> None:
        """Send bytes, without waiting."""
        if data and not self.is_lost and not self.context.outbox.put(self.transport, data):
            # It is broken, of which connection_lost will tell once senders let the loop go on.
            self.pause_writing()

    @property
    def is_flushed(self) -> bool:
        """Whether all that was written has left for the kernel."""
        return self.is_lost or not (
            self.transport.get_write_buffer_size() or self.transport in self.context.outbox.waiting
        )

    def pause_reading(self) -> None:
        """Take no more bytes in for now."""
        if self.paused_since is None and not self.is_lost:
            self.paused_since = self.context.clock()
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes in again."""
        if self.paused_since is not None and not self.is_lost:
            self.paused_since = None
            self.context.run_outside_app(self.transport.resume_reading)

    def check(self, now: float) -> float:
        """Do what is due; return when to ask again."""
        if self.is_lost:
            return math.inf
        if self.transport.get_write_buffer_size() < self._unsent:
            self._watch_reader(now)
        return self.driver.check(now)

    def _watch_reader(self, now: float) -> None:
        """Begin a client's time to read anew: it is counted from the last byte that went out."""
        self._unsent = self.transport.get_write_buffer_size()
        self._read_at = now

    @property
    def sends_until(self) -> float:
        """When a client that reads nothing more is given up."""
        return self._read_at + self.context.config.ws_send_timeout

    def session_moved(self) -> None:
        """Have the WebSocket's driver look at its session, whoever still parses what it got."""
        if isinstance(self.driver, WebSocketDriver):
            self.driver.progress()

    @property
    def is_websocket(self) -> bool:
        """Whether the connection speaks WebSocket."""
        return isinstance(self.driver, WebSocketDriver)

    def close(self) -> None:
        """End the connection once all is written, its client given time for its part.

        RFC 9112 section 9.6: to close while the client still sends can reset the connection and
        destroy what it has not read yet, so "servers typically close a connection in stages": our
        half first, and then what still comes is read and thrown away.
        """
        if not self._linger():
            return
        if self.transport.can_write_eof() and not self.has_eof:
            self._write_eof()
        else:
            self.context.run_outside_app(self.transport.close)

    def finish(self) -> float:
        """End the connection once all is written: its client has said that it sends no more.

        Return when its driver is to abort it, should it still be there: nearly always there is
        but a last word to write, which needs nobody to linger.
        """
        self.context.outbox.flush(self.transport)
        if self.transport.get_write_buffer_size() <= LAST_WORD and not self.is_lost:
            self.context.run_outside_app(self.transport.close)
            return self.context.clock() + LINGER
        if self._linger():
            self.context.run_outside_app(self.transport.close)
        return math.inf

    def give_up(self) -> None:
        """End the connection within LINGER, whether or not all that was written can leave."""
        self.close()
        if isinstance(self.driver, _Lingering):
            self.driver.waits_for_reader = False

    def _linger(self) -> bool:
        """Throw away what still comes, within bounds; False where that is so already."""
        if self.is_lost or isinstance(self.driver, _Lingering):
            return False
        self.context.outbox.flush(self.transport)
        now = self.context.clock()
        self._watch_reader(now)
        lingering = _Lingering(self, now)
        self.hand_to(lingering, lingering)
        self.context.deadlines.arm(self, now + LINGER)
        self.resume_reading()
        return True

    def _write_eof(self) -> None:
        try:
            self.transport.write_eof()
        except OSError:  # asyncio's lets it out: the client has reset what we have just read
            self.context.run_outside_app(self.transport.abort)

    def end(self) -> None:
        """End the connection once all is written, but for the client's half of it."""
        if not self.is_lost:
            self.context.outbox.flush(self.transport)
            self.context.run_outside_app(self.transport.close)

    def abort(self) -> None:
        """End the connection now, whatever is not written yet."""
        if not self.is_lost:
            self.context.outbox.forget(self.transport)
            self.context.run_outside_app(self.transport.abort)


class _Lingering:
    """A connection whose end is written; what still comes in is thrown away.

    The client's seconds count from when all has left; until then it has a reader's time, as long as
    waits_for_reader holds.
    """

    def __init__(self, connection: Connection, now: float) -> None:
        self._connection = connection
        self._until = now + LINGER
        self.waits_for_reader = not connection.is_flushed

    def data(self, data: bytes) -> None:
        pass

    def eof(self) -> None:
        self._connection.end()

    def lost(self) -> None:
        pass

    def writable(self) -> None:
        pass

    def check(self, now: float) -> float:
        if now < self._until:
            return self._until
        if not self.waits_for_reader or now >= self._connection.sends_until:
            self._connection.abort()
            return math.inf
        self.waits_for_reader = not self._connection.is_flushed
        self._until = now + LINGER
        return self._until

    def stop(self) -> None:
        pass


class _Gone:
    """A connection that is no more."""

    def data(self, data: bytes) -> None:
        pass

    def eof(self) -> None:
        pass

    def lost(self) -> None:
        pass

    def writable(self) -> None:
        pass

    def check(self, now: float) -> float:  # noqa: ARG002  # there is nothing to look at
        return math.inf

    def stop(self) -> None:
        pass


_GONE = _Gone()


def _address(name: object) -> Address | None:
    if type(name) is not tuple:
        return None  # the client of a Unix socket has no name
    return name if len(name) == 2 else name[:2]  # noqa: PLR2004  # of IPv6 there are two more


def _path(name: object) -> Address | None:
    if name and isinstance(name, str):
        return name, None  # ASGI: the path of a Unix socket, and None
    return None  # or an unnamed one
