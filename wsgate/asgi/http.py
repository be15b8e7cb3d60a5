"""One HTTP response: from the app's messages to the events of a response stream.

The head is kept until the first part of the body comes. So both leave in one write, a whole body
gets its Content-Length, and if the app fails in between, the client still gets a 500.
Source: ASGI HTTP & WebSocket message format 2.5, with the extensions for trailers, early hints,
path send and zero copy send.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from wsgate.errors import IllegalMessage, InvalidMessage
from wsgate.fields import combine_headers, has_member, normalize_headers
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


@dataclass(slots=True)
class FileRequest:
    """A file that the app wants sent as a part of the body: see `Response.start_file`.

    file: an absolute path, a descriptor, or an object with a `fileno` method. offset: where to
    start, None for the file's current position. count: bytes to send at most, None for all to the
    end of the file. is_last: the body ends with it.
    """

    file: Any
    offset: int | None
    count: int | None
    is_last: bool


class Response:
    """The response to one request.

    method, headers: of the request. messages: the table of the app's messages, `Response.HTTP` or
    `Response.DENIAL`. state: changed by the methods only.
    status: of the head, 0 before the app has sent it. sent_bytes: of the body, so far.
    """

    __slots__ = (
        "_head",
        "_is_head",
        "_messages",
        "_request_headers",
        "_trailers",
        "sent_bytes",
        "state",
        "status",
    )

    def __init__(
        self, method: str, messages: "MessageTable", headers: Sequence[Header] = ()
    ) -> None:
        self._is_head = method == "HEAD"
        self._messages = messages
        self._request_headers = headers
        self._head: ResponseHead
        self._trailers: list[Header] | None = None  # None: the app has not announced any
        self.state = WAITING
        self.status = self.sent_bytes = 0

    @property
    def has_started(self) -> bool:
        """Whether anything of the response was given to the stream."""
        return self.state in _STARTED

    @property
    def headers(self) -> Sequence[Header]:
        """The headers that the app has sent, empty before."""
        return self._head.headers if self.status else ()

    def send(self, message: Message) -> ResponseEvent | FileRequest | None:
        """Return the event for a message of the app; None if nothing is to be sent yet.

        A message that sends a file gives a `FileRequest` and changes no state: the caller opens
        the file, and sends it as messages of type http.response.body or with `start_file`.
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

    def start_file(self, size: int, *, is_last: bool) -> ResponseEvent | None:
        """Return the event that comes before a file's bytes, which the caller sends itself.

        None if the head was sent before. Raises InvalidMessage if the size contradicts the app's
        Content-Length. After the bytes an empty http.response.body message ends the part.

        size: bytes of the file. is_last: the body ends with it.
        """
        if self.state is not HELD:
            return None
        head = self._head
        if head.length is not None:
            self._check_length(head.length, size, is_last=is_last)
        elif is_last and self._trailers is None and not self._has_no_body:
            head = ResponseHead(head.status, [*head.headers, (b"content-length", b"%d" % size)])
        self.state = STREAMING
        return ResponseStart(head, b"")

    @property
    def _has_no_body(self) -> bool:
        return self._is_head or self.status in STATUSES_WITHOUT_BODY

    def _early_hint(self, message: Message) -> ResponseEvent:
        links = message.get("links")
        if not isinstance(links, Iterable):
            raise InvalidMessage(f"the links of an early hint are a list of bytes, not {links!r}")
        headers = normalize_headers([(b"link", link) for link in links])
        return InformationalResponse(_EARLY_HINTS, headers)

    def _late_hint(self, message: Message) -> None:
        """Check an early hint, and ignore it.

        ASGI allows it before the last part of the body, but an informational response comes before
        the final one (RFC 9110 section 15.2), whose head has been sent.
        """
        self._early_hint(message)

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
        self.sent_bytes = len(body)
        if is_last and self._trailers is None:
            self.state = COMPLETE
            return WholeResponse(head, body)
        self.state = TRAILERS if is_last else STREAMING
        return ResponseStart(head, body)

    def _check_length(self, length: int, size: int, *, is_last: bool) -> None:
        """Check the app's own Content-Length while a 500 can still be sent."""
        if self._has_no_body:
            return
        if size > length:
            raise InvalidMessage("Too much data for declared Content-Length")
        if size < length and is_last:
            raise InvalidMessage("Too little data for declared Content-Length")

    def _next_body(self, message: Message) -> ResponseEvent:
        body = message.get("body", b"")
        if type(body) is not bytes:
            body = _copy_body(body)
        self.sent_bytes += len(body)
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
        return ResponseEnd(b"", self._trailers if self._wants_trailers else [])

    @property
    def _wants_trailers(self) -> bool:
        """Whether the client wants trailers.

        ASGI: "The ASGI server will only send the trailing headers in case the client has sent the
        TE: trailers header in the request." RFC 9110 section 6.5.1 says the same.
        """
        return has_member(combine_headers(list(self._request_headers)), b"te", b"trailers")

    def _path(self, message: Message) -> FileRequest:
        path = message.get("path")
        if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
            raise InvalidMessage(f"the path of a file to send is absolute, not {path!r}")
        # A file that has grown since the app set Content-Length is sent up to that length only.
        return FileRequest(path, 0, self._head.length, is_last=True)

    def _descriptor(self, message: Message) -> FileRequest:
        file = message.get("file")
        is_descriptor = type(file) is int and file >= 0
        if not is_descriptor and (isinstance(file, io.TextIOBase) or not hasattr(file, "fileno")):
            raise InvalidMessage(f"a file to send is a descriptor or a binary file, not {file!r}")
        offset, count = _file_position(message, "offset"), _file_position(message, "count")
        return FileRequest(file, offset, count, is_last=not message.get("more_body", False))

    HTTP: ClassVar["MessageTable"] = {
        (WAITING, "http.response.early_hint"): _early_hint,  # -> WAITING
        (WAITING, "http.response.start"): _hold_head,  # -> HELD
        (HELD, "http.response.early_hint"): _early_hint,  # -> HELD
        (HELD, "http.response.body"): _first_body,  # -> STREAMING, TRAILERS or COMPLETE
        # A path "cannot be mixed with http.response.body. It can be called just one time".
        (HELD, "http.response.pathsend"): _path,  # -> TRAILERS or COMPLETE
        (HELD, "http.response.zerocopysend"): _descriptor,  # as http.response.body
        (STREAMING, "http.response.early_hint"): _late_hint,  # -> STREAMING
        (STREAMING, "http.response.body"): _next_body,  # -> STREAMING, TRAILERS or COMPLETE
        (STREAMING, "http.response.zerocopysend"): _descriptor,  # as http.response.body
        (TRAILERS, "http.response.trailers"): _next_trailers,  # -> TRAILERS or COMPLETE
    }
    # The response of an app that refuses a WebSocket has neither trailers nor early hints.
    DENIAL: ClassVar["MessageTable"] = {
        (WAITING, "websocket.http.response.start"): _hold_head,
        (HELD, "websocket.http.response.body"): _first_body,
        (STREAMING, "websocket.http.response.body"): _next_body,
    }


MessageTable = dict[
    tuple[State, str], Callable[[Response, Message], ResponseEvent | FileRequest | None]
]
"""The messages that are allowed in each state, and the method that handles each."""


def _copy_body(body: object) -> bytes:
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise InvalidMessage(f"a response body is bytes, not {type(body).__name__}")
    return bytes(body)  # the len of a memoryview may count larger items


def _file_position(message: Message, key: str) -> int | None:
    """Return an offset or a count in bytes; None if the message has none."""
    value = message.get(key)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= _LARGEST_FILE:
        raise InvalidMessage(f"the {key} of a file to send is a number of bytes, not {value!r}")
    return value


_LARGEST_FILE = 2**63 - 1  # bytes, which system calls take


def body_event(data: bytes, *, more: bool) -> Message:
    """Return the message that sends a part of the response's body, in place of a file's."""
    return {"type": "http.response.body", "body": data, "more_body": more}


def request_event(body: bytes, *, more: bool) -> HTTPRequestEvent:
    """Return the message that carries a part of the request's body."""
    return {"type": "http.request", "body": body, "more_body": more}
