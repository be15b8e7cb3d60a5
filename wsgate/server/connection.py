"""One TCP connection: the owner of its transport, and the only one that writes to it."""

import asyncio
import math
from typing import TYPE_CHECKING

from wsgate.server.backpressure import Gate
from wsgate.server.deadlines import LINGER
from wsgate.server.fast_path import NONE, PlainStream
from wsgate.server.http1_driver import Http1Driver

if TYPE_CHECKING:
    from wsgate.asgi.scope import Peer
    from wsgate.server.listener import Listener
    from wsgate.server.wire import Driver
    from wsgate.server.write_batch import WriteBatch
    from wsgate.types import Address

try:
    from wsgate.server._fast_path import Stream
except ImportError:  # no compiler was found where wsgate was installed
    Stream = PlainStream  # type: ignore[assignment, misc]  # the same class

HIGH_WATER = 65_536  # bytes in the write buffer at which senders begin to wait
LAST_WORD = 127  # bytes of the largest control frame of ours
_NEVER = -math.inf


class Connection(Stream, asyncio.Protocol):
    """One connection, from accept to its end: a `Wire`.

    listener: that accepted it. transport: the loop's; it is written to by way of the batch. bucket:
    where `Deadlines` has filed it.
    """

    __slots__ = (
        "_is_admitted",
        "_read_at",
        "_unsent",
        "bucket",
        "gate",
        "has_eof",
        "listener",
        "paused_since",
        "peer",
        "worker",
    )

    def __init__(self, listener: "Listener") -> None:
        self.listener = listener
        self.worker = listener.worker
        self.batch = listener.worker.batch
        self.gate = Gate()
        self.bucket: int | None = None
        self.has_eof = False
        self.paused_since: float | None = None
        self._is_admitted = False
        self._unsent = 0  # bytes in the write buffer when last checked
        self._read_at = _NEVER  # when they were last seen to become fewer
        self.peer: Peer
        self.batch: WriteBatch

    # -- what the transport reports ----------------------------------------------------------------

    def connection_made(
        self,
        transport: asyncio.Transport,  # type: ignore[override]  # it is one, in a server's streams
    ) -> None:
        """Begin with HTTP."""
        self.transport = transport
        transport.set_write_buffer_limits(HIGH_WATER)
        listener = self.listener
        client = _address(transport.get_extra_info("peername"))
        self.peer = listener.peer(client, transport.get_extra_info("sockname"))
        self.worker.connections.add(self)
        driver = Http1Driver(self.worker, self)
        self.driver = driver
        driver.start()
        self._is_admitted = listener.admission.enter(client)
        if not self._is_admitted:
            driver.turn_away()
            if listener.admission.is_swamped:
                self.abort()  # without the time to read the answer: descriptors are short
        elif self.worker.stopping:
            self.driver.stop()

    def eof_received(self) -> bool:
        """Keep the connection: a client that sends no more may still read."""
        self.has_eof = True
        self.driver.eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's interface
        """End what is left; the exception says nothing that anybody could use."""
        self.is_lost = True
        self.pending = None
        self.gate.open()
        self.driver.lost()
        self.driver = _GONE  # and with that no driver is referenced
        self.listener.admission.leave(self.peer.client, was_admitted=self._is_admitted)
        self.worker.connection_ended(self)

    def pause_writing(self) -> None:
        """Make senders wait: the write buffer is above its mark."""
        now = self.worker.clock()
        self.gate.shut(now)
        self._restart_read_deadline(now)
        self.check_at(now)

    def resume_writing(self) -> None:
        """Let senders go on."""
        self.gate.open()
        self.driver.writable()

    # -- what the write batch needs ----------------------------------------------------------------

    def write_failed(self) -> None:
        """Make senders wait: `connection_lost` follows as soon as they return to the loop."""
        self.pause_writing()

    def find_descriptor(self) -> int:
        """Return the transport's descriptor if bytes may be sent to it directly, else NONE."""
        transport = self.transport
        sock = transport.get_extra_info("socket")
        if sock is None or transport.get_extra_info("sslcontext") is not None:
            return NONE
        return int(sock.fileno())

    # -- what drivers do: see Wire -----------------------------------------------------------------

    def hand_to(self, driver: "Driver") -> None:
        """Make `driver` the owner from now on."""
        self.driver = driver

    @property
    def is_flushed(self) -> bool:
        """Whether everything that was written has left for the kernel."""
        return self.is_lost or not (self.transport.get_write_buffer_size() or self.pending)

    def check_at(self, when: float) -> None:
        """Have the driver's `check` called at `when` or earlier, in seconds of the clock."""
        self.worker.deadlines.arm(self, when)

    def pause_reading(self) -> None:
        """Take no more bytes from the client."""
        if self.paused_since is None and not self.is_lost:
            self.paused_since = self.worker.clock()
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes from the client again."""
        if self.paused_since is not None and not self.is_lost:
            self.paused_since = None
            self.worker.run_outside_app(self.transport.resume_reading)

    @property
    def read_deadline(self) -> float:
        """When a client that reads nothing more has had its time, in seconds of the clock."""
        return self._read_at + self.worker.config.ws_send_timeout

    def check(self, now: float) -> float:
        """Do what is due; return when to check again."""
        if self.is_lost:
            return math.inf
        if self.transport.get_write_buffer_size() < self._unsent:
            self._restart_read_deadline(now)
        return self.driver.check(now)

    def _restart_read_deadline(self, now: float) -> None:
        """Give a client its time to read again: it counts from the last byte that went out."""
        self._unsent = self.transport.get_write_buffer_size()
        self._read_at = now

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """End the connection after all that was written; the client has time to read and answer.

        RFC 9112 section 9.6: to close while the client still sends can reset the connection and
        destroy what it has not read yet, so "servers typically close a connection in stages": our
        half first, and then what still arrives is read and discarded.
        """
        if not self._linger():
            return
        if self.transport.can_write_eof() and not self.has_eof:
            self._write_eof()
        else:
            self._close_transport()

    def close_finished(self) -> None:
        """End the connection after all that was written; the client sends no more."""
        if self.is_lost or isinstance(self.driver, _Lingering):
            return
        self.batch.flush_stream(self)
        if not self.transport.get_write_buffer_size():
            self.driver = _GONE  # nothing has to leave, so the transport closes at once
        elif self._linger() and self.transport.get_write_buffer_size() <= LAST_WORD:
            self._stop_waiting_for_reader()
        self._close_transport()

    def close_promptly(self) -> None:
        """End the connection within LINGER seconds, even if what was written cannot leave."""
        self.close()
        self._stop_waiting_for_reader()

    def _linger(self) -> bool:
        """Discard what still arrives, within bounds; returns False if that is so already."""
        if self.is_lost or isinstance(self.driver, _Lingering):
            return False
        self.batch.flush_stream(self)
        now = self.worker.clock()
        self._restart_read_deadline(now)
        self.driver = _Lingering(self, now)
        self.check_at(now + LINGER)
        self.resume_reading()
        return True

    def _stop_waiting_for_reader(self) -> None:
        if isinstance(self.driver, _Lingering):
            self.driver.waits_for_reader = False

    def _write_eof(self) -> None:
        try:
            self.transport.write_eof()
        except OSError:  # asyncio's lets it out: the client has reset what we have just read
            self.worker.run_outside_app(self.transport.abort)

    def _close_transport(self) -> None:
        self.worker.run_outside_app(self.transport.close)

    def end(self) -> None:
        """End the connection after all that was written, whatever the client still sends."""
        if not self.is_lost:
            self.batch.flush_stream(self)
            self._close_transport()

    def abort(self) -> None:
        """End the connection now, and drop what was not sent yet."""
        if not self.is_lost:
            self.pending = None
            self.worker.run_outside_app(self.transport.abort)


class _Lingering:
    """The driver of a connection whose end is written; what still arrives is discarded.

    The client's seconds count from when all has left. Until then it has a reader's time, as long as
    waits_for_reader is true.
    """

    __slots__ = ("_connection", "_until", "waits_for_reader")

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
        if not self.waits_for_reader or now >= self._connection.read_deadline:
            self._connection.abort()
            return math.inf
        self.waits_for_reader = not self._connection.is_flushed
        self._until = now + LINGER
        return self._until

    def stop(self) -> None:
        pass


class _Gone:
    """The driver of a connection that is no more."""

    __slots__ = ()

    def data(self, data: bytes) -> None:
        pass

    def eof(self) -> None:
        pass

    def lost(self) -> None:
        pass

    def writable(self) -> None:
        pass

    def check(self, now: float) -> float:  # noqa: ARG002  # there is nothing to check
        return math.inf

    def stop(self) -> None:
        pass


_GONE = _Gone()


def _address(name: object) -> "Address | None":
    if type(name) is not tuple:
        return None  # the client of a Unix socket has no name
    return name if len(name) == 2 else name[:2]  # noqa: PLR2004  # of IPv6 there are two more
