"""One HTTP response: the app's messages in, bytes out.

The head is held back until the first piece of the body comes: both leave in one write, a body that
is whole gets its Content-Length, and until then a failing app can still be answered for with a 500.
Source: ASGI HTTP & WebSocket message format 2.5.
"""

from enum import Enum

from wsgate.errors import IllegalMessage, InvalidMessage
from wsgate.fields import is_length, list_members
from wsgate.http.h1.connection import Http1
from wsgate.http.response import BODILESS, ResponseHead, response_head
from wsgate.types import Header, HTTPRequestEvent, Message


class State(Enum):
    """Where a response stands; HELD: the app gave its head, none of it has left."""

    WAITING = "waiting for a response"
    HELD = "response started"
    STREAMING = "streaming the response"
    COMPLETE = "response complete"

    __hash__ = object.__hash__  # Enum's own is a call of Python's


WAITING, HELD, STREAMING, COMPLETE = State  # to look a member up is slow in Python 3.11
_BODY_IS_DUE = (HELD, STREAMING)


class Response:
    """The response to one request.

    method: of the request. names: the app's message types, start then body; a refused WebSocket
    has its own pair of them. status: of the head, 0 before it.
    """

    __slots__ = (
        "_body_type",
        "_head",
        "_http1",
        "_is_head",
        "_start_type",
        "state",
        "status",
    )

    def __init__(
        self,
        http1: Http1,
        method: str,
        names: tuple[str, str] = ("http.response.start", "http.response.body"),
    ) -> None:
        self._http1 = http1
        self._is_head = method == "HEAD"
        self._start_type, self._body_type = names
        self._head: ResponseHead
        self.state = WAITING
        self.status = 0

    @property
    def left(self) -> bool:
        """Whether any of it is on its way to the client."""
        return self.state in (STREAMING, COMPLETE)

    @property
    def is_complete(self) -> bool:
        """Whether all of it is."""
        return self.state is COMPLETE

    def send(self, message: Message, defaults: list[Header]) -> bytes:
        """Return the bytes that a message of the app makes, which may be none.

        defaults: the server's own headers, each left out where the app sends one of that name.
        Raises IllegalMessage and InvalidMessage.
        """
        kind = message.get("type")
        if kind == self._start_type and self.state is WAITING:
            self._hold(message)
            return b""
        if kind == self._body_type and self.state in _BODY_IS_DUE:
            return self._send_body(message, defaults)
        raise IllegalMessage(kind, self.state.value)

    def _hold(self, message: Message) -> None:
        status = message.get("status")
        if not isinstance(status, int) or not 200 <= status <= 999:  # noqa: PLR2004  # 1xx is ours
            raise InvalidMessage(f"the status of a response is 200 to 999, not {status!r}")
        self.status = int(status)
        self._head = response_head(self.status, message.get("headers", ()))
        self.state = HELD

    def _send_body(self, message: Message, defaults: list[Header]) -> bytes:
        body = message.get("body", b"")
        if type(body) is not bytes:
            body = _as_bytes(body)
        more = bool(message.get("more_body", False))
        if self.state is HELD and not more:
            whole = self._http1.whole(self._head, defaults, body)
            if whole:
                self.state = COMPLETE
                return whole
        return self._send_piece(body, defaults, more=more)

    def _send_piece(self, body: bytes, defaults: list[Header], *, more: bool) -> bytes:
        has_body = not self._is_head and self.status not in BODILESS
        out = b""
        if self.state is HELD:
            headers = self._head.beside(defaults)
            if has_body:
                headers += self._settled_length(len(body), more=more)
            out = self._http1.response(self.status, headers)
            self.state = STREAMING
        if body and has_body:
            out += self._http1.body(body)
        if not more:
            out += self._http1.end()
            self.state = COMPLETE
        return out

    def _settled_length(self, size: int, *, more: bool) -> list[Header]:
        """Return the Content-Length that is to be added, if it is."""
        length = self._head.fields.get(b"content-length")
        if length is not None:
            _check_length(length, size, more=more)
            return []
        return [] if more else [(b"content-length", b"%d" % size)]


def _as_bytes(body: object) -> bytes:
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise InvalidMessage(f"a response body is bytes, not {type(body).__name__}")
    return bytes(body)  # a memoryview's len is not its bytes


def _check_length(length: bytes, size: int, *, more: bool) -> None:
    """Refuse what contradicts the app's own Content-Length while a 500 can still be sent."""
    if not is_length(length):
        values = set(list_members(length))  # one, several times: RFC 9110 section 8.6
        if len(values) != 1 or not is_length(length := values.pop()):
            return  # the driver refuses it
    if size > int(length):
        raise InvalidMessage("Too much data for declared Content-Length")
    if size < int(length) and not more:
        raise InvalidMessage("Too little data for declared Content-Length")


def request_event(body: bytes, *, more: bool) -> HTTPRequestEvent:
    """Return the message that carries a piece of the request's body."""
    return {"type": "http.request", "body": body, "more_body": more}
