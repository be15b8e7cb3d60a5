"""What the server needs from the stream of one request, in any version of HTTP."""

from typing import Protocol

from wsgate.errors import RequestRefused
from wsgate.http.events import RequestEvent, ResponseEvent
from wsgate.types import Header


class HttpStream(Protocol):
    """One request and its response.

    Backpressure: a stream takes everything that it is given, so `send` never waits. What may not
    leave yet, because the connection's write buffer is full or an HTTP/2 window is used up, is
    kept, and the gate of the stream's wire is shut until it has left. A sender waits at that gate
    before `send`, so that little is kept, and after it, so that the app runs at the client's pace.
    """

    def take(self) -> RequestEvent | None:
        """Return the next event of the request; None while more bytes are needed.

        Raises RequestRefused for a request that must not be served. The caller answers it with
        `refuse` and closes the connection.
        """

    def send(self, event: ResponseEvent, default_headers: list[Header]) -> bytes:
        """Return the bytes to write for a part of the response.

        default_headers: set by the server; a header of the app replaces those of the same name.
        Raises InvalidMessage if the event contradicts what was sent, such as a body that is longer
        or shorter than its Content-Length.
        """

    def frame_file(self, size: int) -> tuple[bytes, bytes] | None:
        """Return the bytes before and after a part of the body that the caller sends itself.

        size: bytes of it, which the caller has to send. None: this response has no body, and the
        caller sends nothing. Raises InvalidMessage if the body gets longer than its Content-Length.
        """

    def send_continue(self) -> bytes:
        """Return `100 Continue` if the client waits for it (RFC 9110 section 10.1.1), else b""."""

    def refuse(self, refused: RequestRefused, default_headers: list[Header]) -> bytes:
        """Return a complete response made by the server, the last one of the connection.

        Returns b"" if the app's response has started.
        """

    def close_after_response(self) -> None:
        """Make the response that has not started yet the last one of the connection."""

    @property
    def keeps_alive(self) -> bool:
        """Whether the response is complete and another request may follow."""
