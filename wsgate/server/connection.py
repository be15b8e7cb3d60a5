"""One TCP connection: the owner of its transport, and the only one that writes to it."""

import asyncio
import math
from typing import TYPE_CHECKING

from wsgate.asgi.scope import ForwardedPeer, host_and_port
from wsgate.server import file_transfer
from wsgate.server.backpressure import Gate
from wsgate.server.connection_info import ConnectionInfo, Kind
from wsgate.server.deadlines import LINGER
from wsgate.server.fast_path import NONE, PlainStream
from wsgate.server.forwarded_driver import ForwardedHttp1Driver
from wsgate.server.http1_driver import Http1Driver
from wsgate.server.open_file import OpenFile

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

HIGH_WATER = 65_536  # bytes in the write buffer above which senders wait
TLS_HANDSHAKE = "tls_handshake"  # extra information of a transport: whether it is in one
MAX_CONTROL_FRAME = 127  # bytes of the largest control frame: header and 125 of payload
_NEVER = -math.inf
_REFUSED: "Address" = ("", 0)  # in place of the client's address, in a connection not admitted


class Connection(Stream, asyncio.Protocol):
    """One connection, from accept to its end: a `Wire`.

    Attributes:
        listener: The listener that accepted it.
        transport: The event loop's transport. Bytes reach it through the write batch.
        bucket: Number of its time bucket in `Deadlines`, None while no check is scheduled.
    """

    __slots__ = (
        "_admitted",
        "_read_at",
        "_unsent",
        "bucket",
        "connection_id",
        "end_error",
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
        self.connection_id = listener.worker.connection_ids.new()
        self.end_error: Exception | None = None
        self.has_eof = False
        self.paused_since: float | None = None
        self._admitted: Address | None = _REFUSED  # counted as this: `peer` may change
        self._unsent = 0  # bytes in the write buffer when last checked
        self._read_at = _NEVER  # when the write buffer was last seen to shrink
        self.peer: Peer
        self.batch: WriteBatch

    # -- what the transport reports ----------------------------------------------------------------

    def connection_made(
        self,
        transport: asyncio.Transport,  # type: ignore[override]  # always one here
    ) -> None:
        """Begin with HTTP."""
        self.transport = transport
        transport.set_write_buffer_limits(HIGH_WATER)
        worker, admission = self.worker, self.listener.admission
        peer = self.peer = self.find_peer(transport)
        worker.connections.add(self)
        client, driver = peer.client, self._new_driver(peer)
        self.driver = driver
        driver.start()
        if isinstance(driver, ForwardedHttp1Driver) and admission.is_address_full(client):
            driver.wait_for_proxy()
            client = None
        if admission.enter(client):
            self._admitted = client
            if worker.stopping:
                self.stop()
        else:
            driver.turn_away()
            if admission.is_swamped:
                self.abort()  # no time to read the 503: file descriptors are running out

    def _new_driver(self, peer: "Peer") -> Http1Driver:
        forwarded = self.worker.forwarded
        if forwarded is not None and forwarded.trusted.trusts_peer(peer.client, peer.server):
            return ForwardedHttp1Driver(self.worker, self)
        return Http1Driver(self.worker, self)

    def find_peer(self, transport: asyncio.Transport) -> "Peer":
        """Return the addresses of both ends: those of the socket."""
        client = host_and_port(transport.get_extra_info("peername"))
        return self.listener.peer(client, transport.get_extra_info("sockname"))

    def stop(self) -> None:
        """Accept no further request, because the server stops.

        The client of a TLS handshake may still send the request that it has connected for:
        `TlsStream` calls this again once it is complete, and what came with its end is processed.
        """
        driver = self.driver
        if isinstance(driver, Http1Driver) and self.transport.get_extra_info(TLS_HANDSHAKE):
            driver.wait_at_most(LINGER)
        else:
            driver.stop()

    def info(self) -> ConnectionInfo:
        """Return what an operator sees of it."""
        return self.driver.info()

    def eof_received(self) -> bool:
        """Keep the connection: a client that sends no more may still read."""
        self.has_eof = True
        self.driver.eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the driver and clean up."""
        self.is_lost = True
        self.end_error = exc
        self.pending = None
        self.gate.open()
        self.driver.lost()
        self.driver = _GONE  # so that the connection does not keep the old driver alive
        admitted = self._admitted
        self.listener.admission.leave(admitted, was_admitted=admitted is not _REFUSED)
        self.worker.connection_ended(self)

    def pause_writing(self) -> None:
        """Make senders wait: the write buffer is above its high-water mark."""
        now = self.worker.clock()
        self.gate.shut(now)
        self._restart_read_deadline(now)
        self.check_at(now)

    def resume_writing(self) -> None:
        """Resume senders: the write buffer has fallen below its low-water mark."""
        meter, shut_since = self.worker.meter, self.gate.shut_since
        if meter is not None and shut_since is not None:
            meter.count_drain(self.worker.clock() - shut_since)
        self.gate.open()
        self.driver.writable()

    # -- what the write batch needs ----------------------------------------------------------------

    def write_failed(self) -> None:
        """Make senders wait: `connection_lost` follows as soon as they return to the loop."""
        self.pause_writing()

    def find_descriptor(self) -> int:
        """Return the transport's descriptor if bytes may be sent to it directly, else NONE.

        A transport with TLS hides its socket: see `TlsStream.get_extra_info`.
        """
        sock = self.transport.get_extra_info("socket")
        return NONE if sock is None else int(sock.fileno())

    # -- what a file transfer needs ----------------------------------------------------------------

    @property
    def is_closing(self) -> bool:
        """Whether nothing more may be written."""
        return self.is_lost or isinstance(self.driver, _Lingering) or self.transport.is_closing()

    async def flush(self) -> None:
        """Wait until the kernel has all data that was written, or the connection has ended."""
        self.batch.flush_stream(self)
        # The transport reports that its buffer is empty if that is its low-water mark.
        self.transport.set_write_buffer_limits(0)
        try:
            await self.gate.wait_until_open()
        finally:
            self.transport.set_write_buffer_limits(HIGH_WATER)

    async def wait_until_writable(self, descriptor: int) -> None:
        """Wait until the kernel takes more data, or the connection has ended.

        Meanwhile the gate is shut, and the client has to read in time.

        Args:
            descriptor: A duplicate of the socket's: loops do not watch that of a transport.
        """
        worker = self.worker
        self.pause_writing()
        worker.run_outside_app(worker.loop.add_writer, descriptor, self.resume_writing)
        try:
            await self.gate.wait_until_open()
        finally:
            worker.loop.remove_writer(descriptor)

    # -- what drivers call: see Wire ---------------------------------------------------------------

    def hand_to(self, driver: "Driver") -> None:
        """Make `driver` the owner."""
        self.driver = driver

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were written and that the kernel has not taken."""
        return 0 if self.is_lost else self.transport.get_write_buffer_size()

    @property
    def is_flushed(self) -> bool:
        """Whether all data written has been passed to the kernel."""
        return self.is_lost or not (self.transport.get_write_buffer_size() or self.pending)

    async def send_file(self, file: OpenFile) -> None:
        """Send all that is left of a file, at the client's pace; see `file_transfer.send_file`."""
        await file_transfer.send_file(self, file)

    def share(self) -> None:
        """Count the requests from now on, for their clients, and not the connection: see Wire."""
        if self._admitted is not None:
            self.listener.admission.leave_request(self._admitted)
            self._admitted = None
        peer = self.peer
        self.peer = ForwardedPeer(peer.client, peer.server, peer.scheme, peer.tls)

    def check_at(self, when: float) -> None:
        """Call the driver's `check` at `when` or earlier, time of the worker's clock in seconds."""
        self.worker.deadlines.schedule(self, when)

    def pause_reading(self) -> None:
        """Stop reading from the client."""
        if self.paused_since is None and not self.is_lost:
            now = self.worker.clock()
            self.transport.pause_reading()
            self.paused_since = now

    def resume_reading(self) -> None:
        """Read from the client again."""
        if self.paused_since is not None and not self.is_lost:
            self.worker.run_outside_app(self.transport.resume_reading)
            self.paused_since = None

    @property
    def read_deadline(self) -> float:
        """When a client that reads nothing times out, time of the worker's clock in seconds."""
        return self._read_at + self.worker.config.ws_send_timeout

    def check(self, now: float) -> float:
        """Extend the read deadline if the client has read; then run the driver's check.

        Args:
            now: Time of the worker's clock in seconds.

        Returns:
            When to check again, infinity for never.
        """
        if self.is_lost:
            return math.inf
        if self._unsent and self.transport.get_write_buffer_size() < self._unsent:
            self._restart_read_deadline(now)
        return self.driver.check(now)

    def _restart_read_deadline(self, now: float) -> None:
        """Give the client the whole time to read again, from now."""
        self._unsent = self.transport.get_write_buffer_size()
        self._read_at = now

    # -- the end -----------------------------------------------------------------------------------

    # close: drivers, in most cases. Flushes, half-closes and discards what the client still sends.
    # close_promptly: `WebSocket.give_up`. The same, without a wait for a client that does not read.
    # close_finished: a WebSocket that both sides have closed. Flushes and closes, no half-close.
    # end: `_Lingering`, when the client's EOF arrives after ours. Flushes and closes.
    # abort: on a timeout, when too many are refused, and at the end of a stop. Drops unsent data.

    def close(self) -> None:
        """Flush, half-close, and close within LINGER seconds or when the client has closed.

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
        """Flush and close a connection on which the client sends no more."""
        if self.is_lost or isinstance(self.driver, _Lingering):
            return
        self.batch.flush_stream(self)
        if not self.transport.get_write_buffer_size():
            self.driver = _GONE  # nothing to flush: the transport closes at once
        elif self._linger() and self.transport.get_write_buffer_size() <= MAX_CONTROL_FRAME:
            self._stop_waiting_for_reader()
        self._close_transport()

    def close_promptly(self) -> None:
        """Close as `close`, but within LINGER seconds even if not all data can be flushed."""
        self.close()
        self._stop_waiting_for_reader()

    def _linger(self) -> bool:
        """Start to discard what arrives; returns False if that has started, or TCP has ended."""
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
        except OSError:  # asyncio does not catch it: the client has reset the connection
            self.worker.run_outside_app(self.transport.abort)

    def _close_transport(self) -> None:
        self.worker.run_outside_app(self.transport.close)

    def end(self) -> None:
        """Flush and close, whatever the client still sends."""
        if not self.is_lost:
            self.batch.flush_stream(self)
            self._close_transport()

    def abort(self) -> None:
        """Close at once and drop unsent data."""
        if not self.is_lost:
            self.pending = None
            self.worker.run_outside_app(self.transport.abort)


class _Lingering:
    """The driver of a connection that is closing: discards what still arrives.

    Once all data is flushed, the client has LINGER seconds to close. Until then the read deadline
    applies if waits_for_reader is true; if it is false, LINGER counts from the start.
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

    def info(self) -> ConnectionInfo:
        return ConnectionInfo(Kind.CLOSING, self._connection.peer.client)


class _Gone:
    """The driver of a connection that has ended."""

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

    def info(self) -> ConnectionInfo:
        return ConnectionInfo(Kind.CLOSING, None)


_GONE = _Gone()
