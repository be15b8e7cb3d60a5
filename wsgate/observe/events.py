"""What happened in a server, as data for observers.

Events are named tuples: as immutable as frozen dataclasses, but built in a quarter of the time, and
one is built for each HTTP request. They carry plain values only, so that an observer needs to know
nothing about the protocols.

In all of them, `client` is the client's host and port, or None on a Unix socket. `target` is the
request target as the client sent it: ASCII, with query, still percent-encoded.
"""

from typing import Literal, NamedTuple

from wsgate.types import Address

# Who ended a WebSocket. "app": it sent websocket.close, or its call ended. "server": a limit, a
# timeout, a bad frame, the shutdown. "lost": TCP ended without a Close frame.
ClosedBy = Literal["client", "app", "server", "lost"]


class RequestDone(NamedTuple):
    """The response to an HTTP request is complete, or will not be completed.

    A request that cannot be parsed, or that a limit of its head refuses, has no event: the error
    log has a line for it.

    http_version: such as "1.1". status: the response's status.
    """

    client: Address | None
    method: str
    target: bytes
    http_version: str
    status: int


class HandshakeRefused(NamedTuple):
    """A WebSocket did not open.

    status: of the HTTP response that the client got. reason: why, in English.
    """

    client: Address | None
    target: bytes
    status: int
    reason: str


class WebSocketOpened(NamedTuple):
    """The app accepted a WebSocket."""

    client: Address | None
    target: bytes


class WebSocketClosed(NamedTuple):
    """A WebSocket that had opened is closed.

    code, reason: of the first Close that either side sent; 1006 without one, 1005 for a Close
    without a code. duration: seconds since it opened. received_bytes, sent_bytes: of all frames,
    headers included. dropped_messages: published messages that a slow client did not get.
    """

    client: Address | None
    target: bytes
    code: int
    reason: str
    closed_by: ClosedBy
    duration: float
    received_messages: int
    received_bytes: int
    sent_messages: int
    sent_bytes: int
    dropped_messages: int


class ServerStarted(NamedTuple):
    """A server accepts connections. addresses: as its "running on" lines show them."""

    addresses: tuple[str, ...]


class ServerStopping(NamedTuple):
    """A server accepts no more connections and ends those that are open."""

    addresses: tuple[str, ...]


class ServerStopped(NamedTuple):
    """A server has stopped, and so has the app's lifespan."""

    addresses: tuple[str, ...]


Event = (
    RequestDone
    | HandshakeRefused
    | WebSocketOpened
    | WebSocketClosed
    | ServerStarted
    | ServerStopping
    | ServerStopped
)
