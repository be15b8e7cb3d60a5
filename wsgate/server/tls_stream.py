"""TLS between an event loop's transport and a connection: each sees the other as without TLS.

To the loop it is the protocol, to the connection the transport. The loop's own TLS is not used: the
connection exists from the accept on, so its limits and deadlines hold during the handshake too; one
write of the batch becomes one write to the socket; and a client that closes its half still gets the
response.
"""

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Any

from wsgate.errors import RequestRefused
from wsgate.observe.log_format import escape, format_address
from wsgate.observe.throttled_log import throttled
from wsgate.server.connection import TLS_HANDSHAKE
from wsgate.tls.session import State, TlsSession
from wsgate.ws.handshake import PROTOCOL

if TYPE_CHECKING:
    from wsgate.server.connection import Connection
    from wsgate.server.worker import Worker

READ_AT_ONCE = 65_536  # bytes decrypted in one loop iteration
# Bytes of the session's own replies that may wait for a client that does not read. A KeyUpdate is
# answered (RFC 8446 section 4.6.3), so without a limit a client could make us buffer without one.
MAX_REPLIES = 16_384

_UPPERCASE = range(ord("A"), ord("Z") + 1)  # no first octet of TLS: RFC 8446 section 5.1


class Phase(Enum):
    """What becomes of bytes in each direction."""

    HANDSHAKE = "HANDSHAKE"  # writes wait
    OPEN = "OPEN"
    DISCARD = "DISCARD"  # failed, refused or lost: both directions are discarded


_HANDSHAKE, _OPEN = Phase.HANDSHAKE, Phase.OPEN


class TlsStream(asyncio.Protocol, asyncio.Transport):
    """The TLS of one connection: a protocol to the loop, and a transport to the connection.

    The session is created with the first bytes: a client that sends none costs no more than it
    does without TLS.
    """

    __slots__ = (
        "_connection",
        "_eof_waits",
        "_has_sent_eof",
        "_is_paused",
        "_is_scheduled",
        "_phase",
        "_replies",
        "_session",
        "_state",
        "_transport",
        "_unread",
        "_waiting",
        "_worker",
    )

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._worker: Worker = connection.worker
        self._session: TlsSession | None = None
        self._state = State.HANDSHAKE  # the session's state that was processed last
        self._phase = _HANDSHAKE
        self._waiting = b""  # written before the handshake is complete: a refusal
        self._eof_waits = False  # our half closes after what waits
        self._has_sent_eof = False
        self._unread: memoryview | None = None  # the rest of a large read
        self._is_scheduled = False  # the loop will call `_read_on`
        self._is_paused = False  # by the connection
        self._replies = 0  # bytes written by the session itself since the transport was empty
        self._transport: asyncio.Transport

    # -- what the loop's transport reports ---------------------------------------------------------

    def connection_made(
        self,
        transport: asyncio.Transport,  # type: ignore[override]  # always one here
    ) -> None:
        """Start the connection at once: its limits and deadlines cover the handshake."""
        self._transport = transport
        self._connection.connection_made(self)

    def data_received(self, data: bytes | memoryview) -> None:
        """Decrypt bytes from the client, and hand them to the connection."""
        session = self._session or self._start_session(data)
        if session is None:
            return
        if len(data) > READ_AT_ONCE:
            data = self._postpone(data)
        plaintext = session.receive(data)
        if session.has_output:
            self._send_output(session)
        if session.state is not self._state:
            self._process_change(session, plaintext)
        elif plaintext:
            self._connection.data_received(plaintext)

    def eof_received(self) -> bool:
        """Forward a half-close without close_notify too: most clients end like that.

        Whether a message is complete is known from its own framing (RFC 9112 section 9.8).
        """
        if self._state is not State.CLOSED:
            self._connection.eof_received()
        return True

    def pause_writing(self) -> None:
        """Forward it: the write buffer is above its high-water mark."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Forward it: the write buffer has fallen below its low-water mark."""
        self._connection.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forward it, and release the session."""
        self._discard()
        connection = self._connection
        del self._connection  # each would keep the other alive
        connection.connection_lost(exc)

    # -- the session -------------------------------------------------------------------------------

    def _start_session(self, data: bytes | memoryview) -> TlsSession | None:
        """Create the session at the first bytes, unless they are plain HTTP."""
        if self._phase is Phase.DISCARD or not data:  # not data: nothing came after a PROXY header
            return None
        assert self._worker.certificates is not None  # the listener has TLS
        if data[0] in _UPPERCASE:
            self._refuse_plaintext()
            return None
        self._session = TlsSession(self._worker.certificates.current)
        return self._session

    def _send_output(self, session: TlsSession) -> None:
        """Send what the session itself has to say: its handshake, tickets, replies, alerts."""
        output = session.take_output()
        if self._has_sent_eof:
            return
        self._transport.write(output)
        size = self._transport.get_write_buffer_size()
        self._replies = self._replies + len(output) if size else 0
        if self._replies > MAX_REPLIES and self._phase is _OPEN:
            self.abort()

    def _process_change(self, session: TlsSession, plaintext: bytes) -> None:
        """Process the end of the handshake, a close_notify or a failure; hand on the plaintext."""
        self._state = state = session.state
        was_handshake = self._phase is _HANDSHAKE
        if was_handshake:
            if state is State.FAILED:
                self._report_failed_handshake(session)
                return
            self._open(session)
        if plaintext:
            self._connection.data_received(plaintext)
        if state is State.CLOSED:
            self._connection.eof_received()
        elif state is State.FAILED:
            self.abort()  # RFC 8446 section 6.2: close "without sending or receiving any more data"
        if was_handshake and self._worker.stopping:
            self._connection.stop()

    def _open(self, session: TlsSession) -> None:
        """Tell the connection whom it talks to, and send what waited for the handshake."""
        self._phase = _OPEN
        self._connection.peer.tls = session.describe()
        waiting, self._waiting = self._waiting, b""
        if waiting:
            self.write(waiting)
        if self._eof_waits:
            self.write_eof()

    def _report_failed_handshake(self, session: TlsSession) -> None:
        client = format_address(self._connection.peer.client)
        throttled.info("%s - TLS handshake failed: %s", client, escape(session.failure))
        self._give_up()

    def _refuse_plaintext(self) -> None:
        """Answer a client that speaks HTTP without TLS, and close."""
        client = format_address(self._connection.peer.client)
        throttled.warning("%s - HTTP request on a TLS port: answering with 400", client)
        worker = self._worker
        refused = RequestRefused(400, "this port speaks TLS: use https:// or wss://")
        http1 = worker.http1(worker.head_limits, PROTOCOL)
        self._transport.write(http1.refuse(refused, worker.default_headers))
        self._give_up()

    def _give_up(self) -> None:
        """Close in stages, so that the client can read our last bytes; discard what it sends."""
        self._discard()
        if self._eof_waits:
            self.write_eof()
        else:
            self._connection.close()

    def _discard(self) -> None:
        """Read nothing more, and write nothing more."""
        self._phase = Phase.DISCARD
        self._waiting = b""
        self._session = self._unread = None

    # -- a large read, in parts --------------------------------------------------------------------

    def _postpone(self, data: bytes | memoryview) -> memoryview:
        """Return the first part of a read, and schedule the others for later loop iterations."""
        view = memoryview(data)
        self._unread = view[READ_AT_ONCE:]
        if not self._is_paused:
            self._transport.pause_reading()
        self._schedule()
        return view[:READ_AT_ONCE]

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._worker.call_soon(self._read_on)

    def _read_on(self) -> None:
        """Process the next part; read from the socket again after the last one."""
        self._is_scheduled = False
        unread = self._unread
        if self._is_paused or self._transport.is_closing():
            return
        if unread is None:  # discarded meanwhile; the client's end must still be noticed
            self._transport.resume_reading()
            return
        if len(unread) > READ_AT_ONCE:
            self._unread = unread[READ_AT_ONCE:]
            self._schedule()
        else:
            self._unread = None
            self._transport.resume_reading()
        self.data_received(unread[:READ_AT_ONCE])

    # -- what the connection calls: a transport ----------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the transport knows, without the socket: it would bypass the encryption."""
        if name == TLS_HANDSHAKE:
            return self._phase is _HANDSHAKE
        return default if name == "socket" else self._transport.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send; before the handshake is complete, keep the data."""
        if self._phase is _OPEN:
            assert self._session is not None  # it is open
            self._transport.write(self._session.encrypt(data))
        elif self._phase is _HANDSHAKE:
            self._waiting += data

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that are not in the kernel yet."""
        return len(self._waiting) + self._transport.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks of the write buffer, in bytes of ciphertext."""
        self._transport.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        """Stop reading, decrypting included."""
        self._is_paused = True
        if self._unread is None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, first what was read but not decrypted."""
        self._is_paused = False
        if self._unread is None:
            self._transport.resume_reading()
        else:
            self._schedule()

    def can_write_eof(self) -> bool:
        """Return whether TCP can be half-closed; TLS can."""
        return self._transport.can_write_eof()

    def write_eof(self) -> None:
        """Close our half: with close_notify, and with FIN for clients that wait for that."""
        if self._waiting:
            self._eof_waits = True
            return
        if self._phase is _HANDSHAKE:
            self._discard()
        self._send_close_notify()
        self._transport.write_eof()

    def _send_close_notify(self) -> None:
        if self._phase is _OPEN and not self._has_sent_eof:
            assert self._session is not None  # it is open
            self._has_sent_eof = True
            self._transport.write(self._session.close())

    def is_closing(self) -> bool:
        """Return whether the transport is closing or closed."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Flush, send close_notify, and close."""
        if not self._transport.is_closing():
            self._send_close_notify()
            self._transport.close()

    def abort(self) -> None:
        """Close at once and drop unsent data."""
        self._transport.abort()
