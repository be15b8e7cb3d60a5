"""The wire: all that a driver may do with its connection to the client.

A TCP connection is one. So can be a TLS connection, a stream of HTTP/2, or a stream in memory:
drivers are typed by this Protocol and reach nothing past it.
"""

from typing import Protocol

from wsgate.asgi.scope import Peer
from wsgate.server.backpressure import Gate


class Receiver(Protocol):
    """Takes the bytes that come in."""

    def data(self, data: bytes) -> None:
        """Process bytes from the client."""


class Driver(Receiver, Protocol):
    """What a wire speaks: HTTP, a WebSocket, or nothing more.

    A wire has one driver at a time and reports everything that happens to it.
    """

    def eof(self) -> None:
        """Process the client's end of its half: it sends no more."""

    def lost(self) -> None:
        """Process the end of the connection."""

    def writable(self) -> None:
        """Go on with what waited for the write buffer to fall below its mark."""

    def check(self, now: float) -> float:
        """Do what is due at `now`; return when to check again, infinity for never."""

    def stop(self) -> None:
        """Accept no further request: the server stops."""


class Wire(Protocol):
    """The way to one client, owned by one driver at a time.

    peer: who is at both ends; a request may replace it, for a proxy names another client for each.
    gate: where senders wait while the write buffer is above its mark. driver: who owns the wire
    now. has_eof: the client has ended its half. is_lost: the connection is gone, and all calls here
    do nothing. paused_since: since when reading is paused, in seconds of the worker's clock; None
    while it is not.
    """

    peer: Peer
    gate: Gate
    driver: Driver
    has_eof: bool
    is_lost: bool
    paused_since: float | None

    @property
    def is_flushed(self) -> bool:
        """Whether everything that was written has left for the kernel."""

    @property
    def read_deadline(self) -> float:
        """When a client that reads nothing more has had its time, in seconds of the clock."""

    def hand_to(self, driver: Driver) -> None:
        """Make `driver` the owner from now on."""

    def write(self, data: bytes) -> None:
        """Send bytes, without waiting."""

    def check_at(self, when: float) -> None:
        """Have the driver's `check` called at `when` or earlier, in seconds of the clock."""

    def pause_reading(self) -> None:
        """Take no more bytes from the client."""

    def resume_reading(self) -> None:
        """Take bytes from the client again."""

    def close(self) -> None:
        """End the connection after all that was written; the client has time to read and answer."""

    def close_finished(self) -> None:
        """End the connection after all that was written; the client sends no more."""

    def close_promptly(self) -> None:
        """End the connection within LINGER seconds, even if what was written cannot leave."""

    def abort(self) -> None:
        """End the connection now, and drop what was not sent yet."""
