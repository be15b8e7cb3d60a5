"""One HTTP response: the app's messages in, bytes out.

The head is held back until the first piece of the body comes: both leave in one write, a body that
is whole gets its Content-Length, and until then a failing app can still be answered for with a 500.
Source: ASGI HTTP & WebSocket message format 2.5.
"""

from enum import Enum

from wsgate.errors import IllegalMessage, InvalidMessage
from wsgate.protocol.headers import checked
from wsgate.protocol.http1 import Http1
from wsgate.types import Header, HTTPRequestEvent, Message

_BODILESS = frozenset({204, 304})  # RFC 9110 section 6.4.1


class State(Enum):
    """Where a response stands; HELD: the app gave its head, none of it has left."""

    WAITING = "waiting for a response"
    HELD = "response started"
    STREAMING = "streaming the response"
    COMPLETE = "response complete"


class Response:
    """The response to one request.

    method: of the request. names: the app's message types, start then body; a refused WebSocket
    has its own pair of them. status: of the head, 0 before it.
    """

    __slots__ = ("_body_type", "_headers", "_http1", "_method", "_start_type", "state", "status")

    def __init__(
        self,
        http1: Http1,
        method: str,
        names: tuple[str, str] = ("http.response.start", "http.response.body"),
    ) -> None:
        self._http1 = http1
        self._method = method
        self._start_type, self._body_type = names
        self._headers: list[Header] = []
        self.state = State.WAITING
        self.status = 0

    @property
    def left(self) -> bool:
        """Whether any of it is on its way to the client."""
        return self.state in (State.STREAMING, State.COMPLETE)

    def send(self, message: Message, defaults: list[Header]) -> bytes:
        """Return the bytes that a message of the app makes, which may be none.

        defaults: the server's own headers, each left out where the app sends one of that name.
        Raises IllegalMessage and InvalidMessage.
        """
        kind = message.get("type")
        if kind == self._start_type and self.state is State.WAITING:
            self._hold(message)
            return b""
        if kind == self._body_type and self.state in (State.HELD, State.STREAMING):
            return self._send_body(message, defaults)
        raise IllegalMessage(kind, self.state.value)

    def _hold(self, message: Message) -> None:
        status = message.get("status")
        if not isinstance(status, int) or not 200 <= status <= 999:  # noqa: PLR2004  # 1xx is ours
            raise InvalidMessage(f"the status of a response is 200 to 999, not {status!r}")
        # ASGI: "Transfer-Encoding headers sent by the application must be ignored": framing is the
        # server's. RFC 9110 section 8.6: no Content-Length in a 204.
        dropped = {b"transfer-encoding"} | ({b"content-length"} if status == 204 else set())  # noqa: PLR2004
        headers = checked(message.get("headers", ()))
        self._headers = [header for header in headers if header[0] not in dropped]
        self.status = int(status)
        self.state = State.HELD

    def _send_body(self, message: Message, defaults: list[Header]) -> bytes:
        body = message.get("body", b"")
        if not isinstance(body, (bytes, bytearray, memoryview)):
            raise InvalidMessage(f"a response body is bytes, not {type(body).__name__}")
        body = bytes(body)  # a memoryview's len is not its bytes
        more = bool(message.get("more_body", False))
        out = b""
        if self.state is State.HELD:
            self._check_length(len(body), more=more)
            length = None if more else len(body)
            out = self._head(length, defaults)
            self.state = State.STREAMING
        if body and self._has_body:
            out += self._http1.body(body)
        if not more:
            out += self._http1.end()
            self.state = State.COMPLETE
        return out

    def _check_length(self, size: int, *, more: bool) -> None:
        """Refuse what contradicts the app's own Content-Length while a 500 can still be sent."""
        lengths = {value for name, value in self._headers if name == b"content-length"}
        if not self._has_body or len(lengths) != 1 or not (text := lengths.pop()).isdigit():
            return  # without one, or h11's to judge
        if size > int(text):
            raise InvalidMessage("Too much data for declared Content-Length")
        if size < int(text) and not more:
            raise InvalidMessage("Too little data for declared Content-Length")

    @property
    def _has_body(self) -> bool:
        return self._method != "HEAD" and self.status not in _BODILESS

    def _head(self, length: int | None, defaults: list[Header]) -> bytes:
        names = {name for name, _ in self._headers}
        headers = [header for header in defaults if header[0] not in names] + self._headers
        if length is not None and self._has_body and b"content-length" not in names:
            headers.append((b"content-length", b"%d" % length))
        return self._http1.response(self.status, headers)


def request_event(body: bytes, *, more: bool) -> HTTPRequestEvent:
    """Return the message that carries a piece of the request's body."""
    return {"type": "http.request", "body": body, "more_body": more}
