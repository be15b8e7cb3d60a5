"""One TLS session of the server over memory: ciphertext in, plaintext out, and back."""

import contextlib
import ssl
from collections.abc import Mapping
from enum import Enum
from typing import Any

from wsgate.tls.certificates import Certificates
from wsgate.tls.extension import describe

# A memory BIO never shrinks: what passes through it at once is what an idle connection keeps. So
# data passes in pieces of one record: "The length MUST NOT exceed 2^14" (RFC 8446 section 5.1).
RECORD = 16_384


class State(Enum):
    """What the peer can do next."""

    HANDSHAKE = "HANDSHAKE"  # the handshake is not complete
    OPEN = "OPEN"
    CLOSED = "CLOSED"  # it has sent close_notify, and still reads
    FAILED = "FAILED"  # a fatal alert was sent or received


_HANDSHAKE, _OPEN = State.HANDSHAKE, State.OPEN  # an attribute of an Enum is slow in CPython 3.11


class TlsSession:
    """One session, from the ClientHello on. It never raises for what the peer sends.

    Attributes:
        state: What the peer can do next.
        failure: Why the session has failed, in a few words; empty before.
    """

    __slots__ = ("_certificates", "_incoming", "_outgoing", "_tls", "failure", "state")

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        context = certificates.default.context
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.state = _HANDSHAKE
        self.failure = ""

    # -- from the peer -----------------------------------------------------------------------------

    def receive(self, data: bytes | memoryview) -> bytes:
        """Return the plaintext in the next bytes from the peer; see `state` and `take_output`.

        Args:
            data: At least one byte.
        """
        if len(data) <= RECORD:
            return self._receive(data)
        pieces = memoryview(data)
        starts = range(0, len(data), RECORD)
        return b"".join([self._receive(pieces[start : start + RECORD]) for start in starts])

    def _receive(self, data: bytes | memoryview) -> bytes:
        if self.state is _HANDSHAKE:
            self._incoming.write(data)
            self._shake_hands()
        elif self.state is _OPEN:
            self._incoming.write(data)
        return self._read(len(data)) if self.state is _OPEN else b""

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            self._fail(error)
            return
        self.state = _OPEN

    def _read(self, size: int) -> bytes:
        """Read until all that arrived is decrypted. size: of what has arrived, in bytes."""
        pieces: list[bytes] = []
        tls, incoming = self._tls, self._incoming
        wanted = size
        try:
            while piece := tls.read(wanted):
                # To read until there is no more would cost an exception for each message.
                rest = tls.pending()
                if not (rest or incoming.pending):
                    if not pieces:
                        return piece
                    pieces.append(piece)
                    break
                pieces.append(piece)
                # What has arrived may be the last byte of a record of 16 KiB. To read that byte by
                # byte would take milliseconds.
                wanted = rest or size
            else:
                self.state = State.CLOSED
        except ssl.SSLWantReadError:
            pass  # part of a record has arrived, or a message of the handshake protocol
        except ssl.SSLZeroReturnError:  # close_notify, after ours
            self.state = State.CLOSED
        except ssl.SSLError as error:
            self._fail(error)
        return b"".join(pieces)

    def _fail(self, error: ssl.SSLError) -> None:
        self.state = State.FAILED
        self.failure = _reason(error)

    # -- to the peer -------------------------------------------------------------------------------

    @property
    def has_output(self) -> bool:
        """Whether the session itself has something to send: handshake, tickets, alerts."""
        return self._outgoing.pending > 0

    def take_output(self) -> bytes:
        """Return what the session itself has to send."""
        return self._outgoing.read()

    def encrypt(self, data: bytes | bytearray | memoryview) -> bytes:
        """Return the ciphertext of data; the handshake must be complete."""
        if len(data) <= RECORD:
            return self._encrypt(data)
        pieces = memoryview(data)
        starts = range(0, len(data), RECORD)
        return b"".join([self._encrypt(pieces[start : start + RECORD]) for start in starts])

    def _encrypt(self, data: bytes | bytearray | memoryview) -> bytes:
        self._tls.write(data)
        return self._outgoing.read()

    def close(self) -> bytes:
        """Return what is left to send, with close_notify at its end; nothing may follow it.

        RFC 8446 section 6.1: "Each party MUST send a close_notify alert before closing its write
        side of the connection". The peer's may follow, or not.
        """
        with contextlib.suppress(ssl.SSLError):  # the peer has not closed yet
            self._tls.unwrap()
        return self._outgoing.read()

    # -- once the handshake is complete ------------------------------------------------------------

    def describe(self) -> Mapping[str, Any]:
        """Return the value of the ASGI extension `tls`."""
        return describe(self._tls, self._certificates)


def _reason(error: ssl.SSLError) -> str:
    """Return why a session failed, from a set of texts that the peer cannot extend."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate: {error.verify_message}"
    if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "the client's certificate: it is missing"
    return (error.reason or "unknown reason").replace("_", " ").lower()
