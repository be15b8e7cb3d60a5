"""ASGI scopes, messages and callables, as far as a type checker can hold them.

Source: ASGI HTTP & WebSocket message format 2.5, lifespan 2.0.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Literal, NotRequired, TypedDict

Header = tuple[bytes, bytes]
"""One header: a lower-case name and a value, both bytes."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Factory = Callable[[], App | Awaitable[App]]

Address = tuple[str, int | None]
"""A host and a port; the path of a Unix socket and None."""


class Versions(TypedDict):
    """The `asgi` entry of a scope."""

    version: Literal["3.0"]
    spec_version: str


class ConnectionScope(TypedDict):
    """What the scopes of a request and of a WebSocket share."""

    asgi: Versions
    http_version: str
    scheme: str
    path: str
    raw_path: bytes
    query_string: bytes
    root_path: str
    headers: list[Header]
    client: Address | None
    server: Address | None
    state: NotRequired[dict[str, Any]]
    extensions: dict[str, dict[object, object]]


class HTTPScope(ConnectionScope):
    """The scope of one HTTP request."""

    type: Literal["http"]
    method: str


class WebSocketScope(ConnectionScope):
    """The scope of one WebSocket."""

    type: Literal["websocket"]
    subprotocols: list[str]


class LifespanScope(TypedDict):
    """The scope of the app's life."""

    type: Literal["lifespan"]
    asgi: Versions
    state: dict[str, Any]


class HTTPRequestEvent(TypedDict):
    """A piece of the request's body."""

    type: Literal["http.request"]
    body: bytes
    more_body: bool


class HTTPDisconnect(TypedDict):
    """The client has left, or has its whole response."""

    type: Literal["http.disconnect"]


class HTTPResponseStart(TypedDict):
    """The head of the app's response."""

    type: Literal["http.response.start"]
    status: int
    headers: NotRequired[Iterable[Header]]
    trailers: NotRequired[bool]


class HTTPResponseBody(TypedDict):
    """A piece of the app's response body."""

    type: Literal["http.response.body"]
    body: NotRequired[bytes]
    more_body: NotRequired[bool]


class WebSocketConnect(TypedDict):
    """A client asks for the WebSocket."""

    type: Literal["websocket.connect"]


class WebSocketAccept(TypedDict):
    """The app takes the WebSocket."""

    type: Literal["websocket.accept"]
    subprotocol: NotRequired[str | None]
    headers: NotRequired[Iterable[Header]]


class WebSocketReceive(TypedDict):
    """A message of the client: exactly one of the two keys is there."""

    type: Literal["websocket.receive"]
    text: NotRequired[str]
    bytes: NotRequired[bytes]


class WebSocketSend(TypedDict):
    """A message to the client: exactly one of the two is there and not None."""

    type: Literal["websocket.send"]
    text: NotRequired[str | None]
    bytes: NotRequired[bytes | None]


class WebSocketDisconnect(TypedDict):
    """The WebSocket has ended; received again and again after that."""

    type: Literal["websocket.disconnect"]
    code: int
    reason: str


class WebSocketClose(TypedDict):
    """The app ends the WebSocket; before it accepted, this refuses it with 403."""

    type: Literal["websocket.close"]
    code: NotRequired[int]
    reason: NotRequired[str | None]


HTTPEvent = HTTPRequestEvent | HTTPDisconnect
WebSocketEvent = WebSocketConnect | WebSocketReceive | WebSocketDisconnect
