"""One HTTP response: from the app's messages to the events of a response stream.

The head is kept until the first part of the body comes. So both leave in one write, a whole body
gets its Content-Length, and if the app fails in between, the client still gets a 500.
Source: ASGI HTTP & WebSocket message format 2.5, with the extensions for trailers and early hints.
"""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import ClassVar

from wsgate.errors import IllegalMessage, InvalidMessage
from wsgate.fields import normalize_headers
from wsgate.http.events import (
    InformationalResponse,
    ResponseBody,
    ResponseEnd,
    ResponseEvent,
    ResponseStart,
    WholeResponse,
)
from wsgate.http.response import (
    STATUSES_WITHOUT_BODY,
    ResponseHead,
    response_head,
    response_trailers,
)
from wsgate.types import Header, HTTPRequestEvent, Message


class State(Enum):
    """The state of a response. HELD: the app has sent the head, nothing was sent to the client."""

    WAITING = "waiting for a response"
    HELD = "response started"
    STREAMING = "streaming the response"
    TRAILERS = "waiting for trailers"
    COMPLETE = "response complete"

    __hash__ = object.__hash__  # Enum's own is a Python function


# Looking up a member of an Enum is slow in Python 3.11.
WAITING, HELD, STREAMING, TRAILERS, COMPLETE = State
_STARTED = frozenset({STREAMING, TRAILERS, COMPLETE})
_EARLY_HINTS = 103


class Response:
    """The response to one request.

    method: of the request. messages: the table of the app's messages, `Response.HTTP` or
    `Response.DENIAL`. state: changed by the methods only.
    status: of the head, 0 before the app has sent it.
    """

    __slots__ = ("_head", "_is_head", "_messages", "_trailers", "state", "status")

    def __init__(self, method: str, messages: "MessageTable") -> None:
        self._is_head = method == "HEAD"
        self._messages = messages
        self._head: ResponseHead
        self._trailers: list[Header] | None = None  # None: the app has not announced any
        self.state = WAITING
        self.status = 0

    @property
    def has_started(self) -> bool:
        """Whether anything of the response was given to the stream."""
        return self.state in _STARTED

    def send(self, message: Message) -> ResponseEvent | None:
        """Return the event for a message of the app; None if nothing is to be sent yet.

        Raises IllegalMessage if the message is not allowed in this state, and InvalidMessage if it
        is malformed. The state stays the same then.
        """
        kind = message.get("type")
        handle = self._messages.get((self.state, kind)) if isinstance(kind, str) else None
        if handle is None:
            raise IllegalMessage(kind, self.state.value)
        return handle(self, message)

    def revert(self, state: State) -> None:
        """Return to the state from before a message whose event the stream has refused."""
        self.state = state

    def _early_hint(self, message: Message) -> ResponseEvent:
        links = message.get("links")
        if not isinstance(links, Iterable):
            raise InvalidMessage(f"the links of an early hint are a list of bytes, not {links!r}")
        headers = normalize_headers([(b"link", link) for link in links])
        return InformationalResponse(_EARLY_HINTS, headers)

    def _hold_head(self, message: Message) -> None:
        head = response_head(message.get("status"), message.get("headers", ()))
        self._head, self.status = head, head.status
        if message.get("trailers", False) and self._messages is self.HTTP:
            self._trailers = []  # a denial has no message for them
        self.state = HELD

    def _first_body(self, message: Message) -> ResponseEvent:
        body = message.get("body", b"")
        if type(body) is not bytes:
            body = _copy_body(body)
        is_last = not message.get("more_body", False)
        head = self._head
        if head.length is not None and (head.length != len(body) or not is_last):
            self._check_length(head.length, len(body), is_last=is_last)
        if is_last and self._trailers is None:
            self.state = COMPLETE
            return WholeResponse(head, body)
        self.state = TRAILERS if is_last else STREAMING
        return ResponseStart(head, body)

    def _check_length(self, length: int, size: int, *, is_last: bool) -> None:
        """Check the app's own Content-Length while a 500 can still be sent."""
        if self._is_head or self.status in STATUSES_WITHOUT_BODY:
            return
        if size > length:
            raise InvalidMessage("Too much data for declared Content-Length")
        if size < length and is_last:
            raise InvalidMessage("Too little data for declared Content-Length")

    def _next_body(self, message: Message) -> ResponseEvent:
        body = message.get("body", b"")
        if type(body) is not bytes:
            body = _copy_body(body)
        if message.get("more_body", False):
            return ResponseBody(body)
        if self._trailers is None:
            self.state = COMPLETE
            return ResponseEnd(body)
        self.state = TRAILERS
        return ResponseBody(body)

    def _next_trailers(self, message: Message) -> ResponseEvent | None:
        assert self._trailers is not None  # this state is reached only if they were announced
        self._trailers += response_trailers(message.get("headers", ()))
        if message.get("more_trailers", False):
            return None
        self.state = COMPLETE
        return ResponseEnd(b"", self._trailers)

    HTTP: ClassVar["MessageTable"] = {
        (WAITING, "http.response.early_hint"): _early_hint,  # -> WAITING
        (WAITING, "http.response.start"): _hold_head,  # -> HELD
        (HELD, "http.response.body"): _first_body,  # -> STREAMING, TRAILERS or COMPLETE
        (STREAMING, "http.response.body"): _next_body,  # -> STREAMING, TRAILERS or COMPLETE
        (TRAILERS, "http.response.trailers"): _next_trailers,  # -> TRAILERS or COMPLETE
    }
    # The response of an app that refuses a WebSocket has neither trailers nor early hints.
    DENIAL: ClassVar["MessageTable"] = {
        (WAITING, "websocket.http.response.start"): _hold_head,
        (HELD, "websocket.http.response.body"): _first_body,
        (STREAMING, "websocket.http.response.body"): _next_body,
    }


MessageTable = dict[tuple[State, str], Callable[[Response, Message], ResponseEvent | None]]
"""The messages that are allowed in each state, and the method that handles each."""


def _copy_body(body: object) -> bytes:
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise InvalidMessage(f"a response body is bytes, not {type(body).__name__}")
    return bytes(body)  # the len of a memoryview may count larger items


def request_event(body: bytes, *, more: bool) -> HTTPRequestEvent:
    """Return the message that carries a part of the request's body."""
    return {"type": "http.request", "body": body, "more_body": more}
