"""One WebSocket as its app sees it: which message is legal when, and what it asks for.

Source: ASGI HTTP & WebSocket message format 2.5, with the denial response extension.
"""

from dataclasses import dataclass
from enum import Enum

from wsgate.errors import IllegalMessage, InvalidMessage
from wsgate.types import Header, Message, WebSocketDisconnect, WebSocketReceive
from wsgate.ws.codes import may_be_in_frame
from wsgate.ws.handshake import Handshake, accept_headers, check_subprotocol

DENIAL = ("websocket.http.response.start", "websocket.http.response.body")
_MAX_REASON = 123  # RFC 6455 section 5.5: a control frame has 125 octets, two are the code's


class State(Enum):
    """Where the app stands; DENYING: it refuses with a response of its own."""

    CONNECTING = "connecting"
    DENYING = "denying"
    OPEN = "open"
    CLOSED = "closed"

    __hash__ = object.__hash__  # Enum's own is a call of Python's


CONNECTING, DENYING, OPEN, CLOSED = State  # State.OPEN is a call in CPython 3.11
_NEXT = {
    (CONNECTING, "websocket.accept"): OPEN,
    (CONNECTING, "websocket.close"): CLOSED,
    (CONNECTING, DENIAL[0]): DENYING,
    (DENYING, DENIAL[1]): DENYING,
    (OPEN, "websocket.close"): CLOSED,
}


@dataclass(slots=True)
class Accept:
    """The app takes the WebSocket, with what is fit to stand in the 101."""

    subprotocol: str | None
    headers: list[Header]


@dataclass(slots=True)
class Refuse:
    """The app refuses the WebSocket; the server answers 403."""


@dataclass(slots=True)
class Deny:
    """A piece of the app's own response to a WebSocket that it refuses."""

    message: Message


@dataclass(slots=True)
class Close:
    """The app ends the WebSocket."""

    code: int
    reason: str


_PLAIN_ACCEPT = Accept(None, [])  # as nearly all are
_SEQUENCES = (list, tuple)
Wish = str | bytes | Accept | Refuse | Deny | Close


class Conversation:
    """The app's side of one WebSocket."""

    __slots__ = ("_handshake", "state")

    def __init__(self, handshake: Handshake) -> None:
        self._handshake: Handshake | None = handshake  # until the app has decided
        self.state = CONNECTING

    def say(self, message: Message) -> Wish:
        """Return what a message of the app asks for: a payload to send, or one of the wishes.

        Raises IllegalMessage where the state forbids it and InvalidMessage where it is malformed;
        the state stays as it was.
        """
        kind = message.get("type")
        if kind == "websocket.send" and self.state is OPEN:
            return payload_of(message)
        if not isinstance(kind, str) or (state := _NEXT.get((self.state, kind))) is None:
            raise IllegalMessage(kind, self.state.value)
        wish = self._wish(kind, message)
        self.state = state
        if state is OPEN:
            self._handshake = None
        return wish

    def _wish(self, kind: str, message: Message) -> Wish:
        if kind == "websocket.accept":
            assert self._handshake is not None  # only what is not open can be accepted
            subprotocol, headers = message.get("subprotocol"), message.get("headers", ())
            if subprotocol is None and type(headers) in _SEQUENCES and not headers:
                return _PLAIN_ACCEPT
            return Accept(check_subprotocol(self._handshake, subprotocol), accept_headers(headers))
        if kind == "websocket.close":
            close = _close(message)
            return close if self.state is OPEN else Refuse()
        return Deny(message)


def common_payload(message: Message) -> str | bytes | None:
    """Return what a common `websocket.send` carries, None for another message.

    It is the plain twin of the function of that name in server/_fast_path.c.
    """
    if type(message) is not dict or message.get("type") != "websocket.send":
        return None
    text, data = message.get("text"), message.get("bytes")
    if text is None and type(data) is bytes:
        return data
    if data is None and type(text) is str:
        return text
    return None


def payload_of(message: Message) -> str | bytes:
    """Return what a `websocket.send` carries. Raises InvalidMessage."""
    text, data = message.get("text"), message.get("bytes")
    if (text is None) is (data is None):
        raise InvalidMessage("websocket.send has exactly one of text and bytes")
    if text is not None:
        if not isinstance(text, str):
            raise InvalidMessage(f"text is a str, not {type(text).__name__}")
        return text
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidMessage(f"bytes is bytes, not {type(data).__name__}")
    return bytes(data)


def _close(message: Message) -> Close:
    code, reason = message.get("code", 1000), message.get("reason") or ""
    if not isinstance(code, int) or not may_be_in_frame(code):
        raise InvalidMessage(f"{code!r} is no close code that an endpoint may send")
    if not isinstance(reason, str) or not _fits(reason):
        raise InvalidMessage(f"a close reason is text of at most {_MAX_REASON} bytes in UTF-8")
    return Close(int(code), reason)


def _fits(reason: str) -> bool:
    try:
        return len(reason.encode()) <= _MAX_REASON
    except UnicodeEncodeError:  # a surrogate of no pair
        return False


def receive_event(payload: str | bytes) -> WebSocketReceive:
    """Return the message that carries a payload to the app: one key of the two, never both."""
    if isinstance(payload, str):
        return {"type": "websocket.receive", "text": payload}
    return {"type": "websocket.receive", "bytes": payload}


def disconnect_event(code: int, reason: str) -> WebSocketDisconnect:
    """Return the message that tells the app of the end."""
    return {"type": "websocket.disconnect", "code": code, "reason": reason}
