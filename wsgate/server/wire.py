"""The wire: the interface between a driver and its connection to the client.

A TCP connection implements it, with TLS or without. An HTTP/2 stream or a stream in memory can,
too: drivers use nothing but this Protocol.
"""

from typing import Protocol

from wsgate.asgi.scope import Peer
from wsgate.server.backpressure import Gate
from wsgate.server.connection_info import ConnectionInfo
from wsgate.server.open_file import OpenFile


class Receiver(Protocol):
    """Receives bytes from the client."""

    def data(self, data: bytes) -> None:
        """Process bytes from the client."""


class Driver(Receiver, Protocol):
    """The protocol that a wire speaks at present: HTTP, WebSocket, or none during the close.

    A wire has one driver at a time and reports all its events to it.
    """

    def eof(self) -> None:
        """Process the client's half-close: it sends no more."""

    def lost(self) -> None:
        """Process the end of the connection."""

    def writable(self) -> None:
        """Resume writing: the write buffer has fallen below its low-water mark."""

    def check(self, now: float) -> float:
        """Enforce the deadlines that have passed.

        Args:
            now: Time of the worker's clock in seconds.

        Returns:
            When to check again, infinity for never.
        """

    def stop(self) -> None:
        """Accept no further request, because the server stops."""

    def info(self) -> ConnectionInfo:
        """Return what an operator sees of the connection."""


class Wire(Protocol):
    """The connection to one client, owned by one driver at a time.

    Attributes:
        connection_id: The id of the connection.
        peer: The addresses of both ends of the connection. A request that a trusted proxy sends
            has a peer of its own.
        gate: Senders wait on it while the write buffer is above its high-water mark.
        driver: The present owner.
        has_eof: The client has half-closed.
        is_lost: The connection has ended, and all methods do nothing.
        end_error: What has ended it, such as ECONNRESET; None before, and for an orderly end.
        paused_since: When reading was paused, time of the worker's clock in seconds; None while it
            is not paused.
    """

    connection_id: str
    peer: Peer
    gate: Gate
    driver: Driver
    has_eof: bool
    is_lost: bool
    end_error: Exception | None
    paused_since: float | None

    @property
    def is_flushed(self) -> bool:
        """Whether all data written has been passed to the kernel."""

    @property
    def read_deadline(self) -> float:
        """When a client that reads nothing times out, time of the worker's clock in seconds."""

    def hand_to(self, driver: Driver) -> None:
        """Make `driver` the owner."""

    def write(self, data: bytes) -> None:
        """Send bytes, buffered without limit; see `gate`."""

    def write_at_once(self, data: bytes) -> bool:
        """Send bytes now if none wait before them, else as `write` does.

        It is for callbacks of the loop that write to many connections, one after the other.

        Returns:
            Whether the kernel has taken all of them.
        """

    async def send_file(self, file: OpenFile) -> None:
        """Send all that is left of a file, at the client's pace.

        Raises:
            ClientDisconnected: The client has left, or did not read in time.
            FileTruncated: The file became shorter.
            OSError: It could not be read.
        """

    def share(self) -> None:
        """Count its requests for their clients, and no longer the connection: a proxy's."""

    def check_at(self, when: float) -> None:
        """Call the driver's `check` at `when` or earlier, time of the worker's clock in seconds."""

    def pause_reading(self) -> None:
        """Stop reading from the client."""

    def resume_reading(self) -> None:
        """Read from the client again."""

    def close(self) -> None:
        """Flush, half-close, and close within LINGER seconds or when the client has closed."""

    def close_finished(self) -> None:
        """Flush and close a connection on which the client sends no more."""

    def close_promptly(self) -> None:
        """Close as `close`, but within LINGER seconds even if not all data can be flushed."""

    def abort(self) -> None:
        """Close at once and drop unsent data."""
