"""One WebSocket as its app sees it: which message is legal in which state, and what it asks for.

Source: ASGI HTTP & WebSocket message format 2.5, with the denial response extension.
"""

from dataclasses import dataclass
from enum import Enum

from wsgate.errors import IllegalMessage, InvalidMessage
from wsgate.types import Header, Message, WebSocketDisconnect, WebSocketReceive
from wsgate.ws.codes import MAX_REASON_SIZE, NORMAL, is_valid_reason, may_be_in_frame
from wsgate.ws.handshake import Handshake, accept_headers, check_subprotocol

DENIAL = ("websocket.http.response.start", "websocket.http.response.body")


class State(Enum):
    """The state of a conversation; DENYING: the app sends a denial response."""

    CONNECTING = "connecting"
    DENYING = "denying"
    OPEN = "open"
    CLOSED = "closed"

    __hash__ = object.__hash__  # Enum's own is a Python call


CONNECTING, DENYING, OPEN, CLOSED = State  # State.OPEN is a call in CPython 3.11


class _DenialEvent(Enum):
    """An event of the app's own response; no message of the app has such a type."""

    INVALID = "its start was malformed"
    ENDED = "it is complete, or the app ended"

    __hash__ = object.__hash__  # as above


TRANSITIONS: dict[tuple[State, str | _DenialEvent], State] = {
    (CONNECTING, "websocket.accept"): OPEN,
    (CONNECTING, "websocket.close"): CLOSED,
    (CONNECTING, DENIAL[0]): DENYING,
    (DENYING, DENIAL[1]): DENYING,
    (DENYING, _DenialEvent.INVALID): CONNECTING,
    (DENYING, _DenialEvent.ENDED): CLOSED,
    (OPEN, "websocket.close"): CLOSED,
}


@dataclass(slots=True)
class Accept:
    """Open the WebSocket, with these values, already checked, in the 101."""

    subprotocol: str | None
    headers: list[Header]


@dataclass(slots=True)
class Refuse:
    """Refuse the WebSocket; the server answers 403."""


@dataclass(slots=True)
class Deny:
    """Send a part of the app's own response to a WebSocket that it refuses."""

    message: Message


@dataclass(slots=True)
class Close:
    """Close the WebSocket."""

    code: int
    reason: str


_PLAIN_ACCEPT = Accept(None, [])  # the common case
_SEQUENCES = (list, tuple)
Action = str | bytes | Accept | Refuse | Deny | Close
"""What a message of the app asks for; a str or bytes is a payload to send."""


class Conversation:
    """The app's side of one WebSocket. `state` is changed by the methods only."""

    __slots__ = ("_handshake", "state")

    def __init__(self, handshake: Handshake) -> None:
        self._handshake: Handshake | None = handshake  # until the app has accepted
        self.state = CONNECTING

    def handle(self, message: Message) -> Action:
        """Return the action that a message of the app asks for, and change the state.

        Raises IllegalMessage if the state forbids the message, InvalidMessage if it is malformed;
        the state stays the same.
        """
        kind = message.get("type")
        if kind == "websocket.send" and self.state is OPEN:
            return payload_of(message)
        if not isinstance(kind, str) or (state := TRANSITIONS.get((self.state, kind))) is None:
            raise IllegalMessage(kind, self.state.value)
        action = self._action(kind, message)
        self.state = state
        if state is OPEN:
            self._handshake = None
        return action

    def revert_denial(self) -> None:
        """Let the app decide again: the start of its response was invalid, and nothing was sent."""
        self.state = TRANSITIONS[self.state, _DenialEvent.INVALID]

    def end_denial(self) -> None:
        """Close the conversation: the app's response is complete, or the app ended within it."""
        self.state = TRANSITIONS[self.state, _DenialEvent.ENDED]

    def _action(self, kind: str, message: Message) -> Action:
        if kind == "websocket.accept":
            assert self._handshake is not None  # only what is not open can be accepted
            subprotocol, headers = message.get("subprotocol"), message.get("headers", ())
            if subprotocol is None and type(headers) in _SEQUENCES and not headers:
                return _PLAIN_ACCEPT
            return Accept(check_subprotocol(self._handshake, subprotocol), accept_headers(headers))
        if kind == "websocket.close":
            # A refusal has no Close frame: its code and reason reach nobody. FastAPI's is a list.
            return _close(message) if self.state is OPEN else Refuse()
        assert kind in DENIAL  # the table has no other type
        return Deny(message)


def common_payload(message: Message) -> str | bytes | None:
    """Return the payload of a common `websocket.send`; None for any other message.

    Common: a dict with a str or bytes payload; instances of subclasses are not common. `payload_of`
    has the rules for all messages. server/_fast_path.c has the compiled twin.
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
    """Return the payload of a `websocket.send`. Raises InvalidMessage if it has not exactly one."""
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
    code, reason = message.get("code", NORMAL), message.get("reason") or ""
    if not isinstance(code, int) or not may_be_in_frame(code):
        raise InvalidMessage(f"{code!r} is not a close code that an endpoint may send")
    if not isinstance(reason, str) or not is_valid_reason(reason):
        raise InvalidMessage(f"a close reason is text of at most {MAX_REASON_SIZE} bytes in UTF-8")
    return Close(int(code), reason)


def receive_event(payload: str | bytes) -> WebSocketReceive:
    """Return the message that carries a payload to the app, with either text or bytes."""
    if isinstance(payload, str):
        return {"type": "websocket.receive", "text": payload}
    return {"type": "websocket.receive", "bytes": payload}


def disconnect_event(code: int, reason: str) -> WebSocketDisconnect:
    """Return the message that reports the end of the WebSocket to the app."""
    return {"type": "websocket.disconnect", "code": code, "reason": reason}
