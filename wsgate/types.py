"""Types of ASGI scopes, messages and callables.

Source: ASGI HTTP & WebSocket message format 2.5, lifespan 2.0.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Literal, NotRequired, TypedDict

Header = tuple[bytes, bytes]
"""The name of a header in lower case, and its value."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Factory = Callable[[], App | Awaitable[App]]
Interface = Literal["auto", "asgi3", "asgi2", "wsgi"]
LogFormat = Literal["text", "json", "logfmt"]

Address = tuple[str, int | None]
"""A host and a port, or the path of a Unix socket and None."""


class Versions(TypedDict):
    """The `asgi` entry of a scope."""

    version: Literal["3.0"]
    spec_version: str


class ConnectionScope(TypedDict):
    """The keys that the scopes of a request and of a WebSocket have in common."""

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
    """The scope of the lifespan call."""

    type: Literal["lifespan"]
    asgi: Versions
    state: dict[str, Any]
    extensions: dict[str, dict[object, object]]


class HTTPRequestEvent(TypedDict):
    """A part of the request's body. more_body: further parts follow."""

    type: Literal["http.request"]
    body: bytes
    more_body: bool


class HTTPDisconnect(TypedDict):
    """The client has disconnected, or the response is complete."""

    type: Literal["http.disconnect"]


class HTTPResponseStart(TypedDict):
    """The head of the app's response. trailers: trailers follow the body."""

    type: Literal["http.response.start"]
    status: int
    headers: NotRequired[Iterable[Header]]
    trailers: NotRequired[bool]


class HTTPResponseBody(TypedDict):
    """A part of the app's response body. more_body: further parts follow."""

    type: Literal["http.response.body"]
    body: NotRequired[bytes]
    more_body: NotRequired[bool]


class HTTPResponseTrailers(TypedDict):
    """Trailers after the body. more_trailers: further trailers follow."""

    type: Literal["http.response.trailers"]
    headers: NotRequired[Iterable[Header]]
    more_trailers: NotRequired[bool]


class HTTPResponsePathsend(TypedDict):
    """A file as the whole body. path: absolute."""

    type: Literal["http.response.pathsend"]
    path: str


class HTTPResponseZerocopysend(TypedDict):
    """A part of an open file as a part of the body.

    file: its descriptor, or a binary file. offset: in bytes, the file's position by default.
    count: bytes at most, all to the end of the file by default. more_body: further parts follow.
    """

    type: Literal["http.response.zerocopysend"]
    file: Any
    offset: NotRequired[int | None]
    count: NotRequired[int | None]
    more_body: NotRequired[bool]


class HTTPEarlyHint(TypedDict):
    """A 103 response before the app's own. links: values of Link headers (RFC 8288)."""

    type: Literal["http.response.early_hint"]
    links: Iterable[bytes]


class WebSocketConnect(TypedDict):
    """A client asks to open a WebSocket."""

    type: Literal["websocket.connect"]


class WebSocketAccept(TypedDict):
    """The app accepts the WebSocket."""

    type: Literal["websocket.accept"]
    subprotocol: NotRequired[str | None]
    headers: NotRequired[Iterable[Header]]


class WebSocketReceive(TypedDict):
    """A message of the client, with exactly one of the keys `text` and `bytes`."""

    type: Literal["websocket.receive"]
    text: NotRequired[str]
    bytes: NotRequired[bytes]


class WebSocketSend(TypedDict):
    """A message to the client; exactly one of `text` and `bytes` is present and not None."""

    type: Literal["websocket.send"]
    text: NotRequired[str | None]
    bytes: NotRequired[bytes | None]


class WebSocketDisconnect(TypedDict):
    """The WebSocket is closed; each further receive returns this again."""

    type: Literal["websocket.disconnect"]
    code: int
    reason: str


class WebSocketClose(TypedDict):
    """The app closes the WebSocket; before an accept this refuses the handshake with 403."""

    type: Literal["websocket.close"]
    code: NotRequired[int]
    reason: NotRequired[str | None]


HTTPEvent = HTTPRequestEvent | HTTPDisconnect
WebSocketEvent = WebSocketConnect | WebSocketReceive | WebSocketDisconnect
