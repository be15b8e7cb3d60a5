"""Scopes: the first argument of every call of the app.

Source: ASGI HTTP & WebSocket message format 2.5, lifespan 2.0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote, unquote

from wsgate.http.request import Request
from wsgate.types import Address, HTTPScope, LifespanScope, WebSocketScope

EXTENSION = "wsgate"  # has the connection's id
Extensions = dict[str, dict[Any, Any]]
_WEBSOCKET_SCHEME = {"http": "ws", "https": "wss"}


@dataclass(slots=True)  # not frozen: creation would take four times as long
class Peer:
    """The addresses of both ends of a request.

    client: None for the client of a Unix socket. server: the local address, (path, None) for a Unix
    socket. scheme: "http" or "https". tls: the value of the ASGI extension `tls`, None without TLS.
    """

    client: Address | None
    server: Address | None
    scheme: str = "http"
    tls: Mapping[str, Any] | None = None


@dataclass(slots=True)
class ForwardedPeer(Peer):
    """The peer of one request, on a connection that a trusted proxy shares among its clients.

    client: None if the proxy does not know it. scheme: that of the client's request to the proxy.
    root_path: the prefix that the proxy has removed from the path, None for that of the mount.
    """

    root_path: str | None = None


@dataclass(slots=True)
class Mount:
    """What the scopes of all requests have in common.

    root_path: prefix of every path, where the app is mounted. state: the lifespan state; every
    scope gets a shallow copy.
    """

    root_path: str
    state: Mapping[str, Any]


def host_and_port(name: object) -> Address | None:
    """Return the host and the port of an internet socket's name, None for any other name.

    Args:
        name: As `getsockname` and `getpeername` return it. For IPv6 it has two more items.
    """
    if not isinstance(name, tuple):
        return None
    return name if len(name) == 2 else name[:2]  # noqa: PLR2004  # host and port


def http_scope(request: Request, peer: Peer, mount: Mount, connection_id: str) -> HTTPScope:
    """Return the scope of a request, with the extensions for trailers, early hints and files."""
    extensions: Extensions = {
        "http.response.trailers": {},
        "http.response.early_hint": {},
        "http.response.pathsend": {},
        "http.response.zerocopysend": {},
        EXTENSION: {"connection_id": connection_id},
    }
    scope = _connection_scope(request, peer, mount, peer.scheme, extensions)
    scope["type"] = "http"
    scope["method"] = request.method
    return cast("HTTPScope", scope)


def websocket_scope(
    request: Request, peer: Peer, mount: Mount, connection_id: str, subprotocols: list[str]
) -> WebSocketScope:
    """Return the scope of a WebSocket, with the denial response extension.

    Args:
        request: The handshake.
        peer: The addresses of both ends.
        mount: Root path and lifespan state.
        connection_id: Of the connection.
        subprotocols: Offered by the client, in its order.
    """
    extensions: Extensions = {
        "websocket.http.response": {},
        EXTENSION: {"connection_id": connection_id},
    }
    scope = _connection_scope(request, peer, mount, _WEBSOCKET_SCHEME[peer.scheme], extensions)
    scope["type"] = "websocket"
    scope["subprotocols"] = subprotocols
    return cast("WebSocketScope", scope)


def _connection_scope(
    request: Request, peer: Peer, mount: Mount, scheme: str, extensions: Extensions
) -> dict[str, Any]:
    if peer.tls is not None:
        extensions["tls"] = dict(peer.tls)
    raw_path, root_path = request.raw_path, mount.root_path
    if type(peer) is ForwardedPeer and peer.root_path is not None:
        root_path = peer.root_path
    # The target `*` of OPTIONS is not a path, so it gets no root path.
    root = "" if raw_path == b"*" else root_path
    path = raw_path.decode("ascii")
    if "%" in path:
        path = unquote(path)
    return {
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": request.version,
        "scheme": scheme,
        "path": root + path,
        "raw_path": quote(root).encode("ascii") + raw_path if root else raw_path,
        "query_string": request.query,
        "root_path": root_path,
        "headers": request.headers,
        "client": peer.client,
        "server": peer.server,
        "state": dict(mount.state),
        "extensions": extensions,
    }


def lifespan_scope(state: dict[str, Any], extensions: Extensions) -> LifespanScope:
    """Return the lifespan scope. state: filled by the app, then copied into every other scope."""
    return {
        "type": "lifespan",
        "asgi": {"version": "3.0", "spec_version": "2.0"},
        "state": state,
        "extensions": extensions,
    }
