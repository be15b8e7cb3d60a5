"""What happened in a server, as data for observers.

Events are named tuples: as immutable as frozen dataclasses, but built in a quarter of the time, and
one is built for each HTTP request. They carry plain values only, so that an observer needs to know
nothing about the protocols.

In all of them, `client` is the client's host and port, or None on a Unix socket. `target` is the
request target as the client sent it: ASCII, with query, still percent-encoded. `connection` is the
id of the connection, as `wsgate ctl connections` lists it and as it is in the extension `wsgate` of
the scope. `headers` are those of the request, which an observer must not change.
"""

from collections.abc import Sequence
from typing import NamedTuple

from wsgate.errors import Refusal
from wsgate.observe.causes import CAUSES, Cause, Initiator, sentence_of
from wsgate.types import Address, Header


class RequestDone(NamedTuple):
    """The response to an HTTP request is complete, or will not be completed.

    A request that cannot be parsed, or that a limit of its head refuses, has no event: the error
    log has a line for it.

    http_version: such as "1.1". status: the response's status. duration: seconds from the head of
    the request to the end of the response. sent_bytes: of the response's body. response_headers:
    those that the app sent, empty for a response of the server's.
    """

    client: Address | None
    method: str
    target: bytes
    http_version: str
    status: int
    connection: str = ""
    headers: Sequence[Header] = ()
    duration: float = 0.0
    sent_bytes: int = 0
    response_headers: Sequence[Header] = ()


class HandshakeRefused(NamedTuple):
    """A WebSocket did not open.

    status: of the HTTP response that the client got. reason: why, in English. refusal: the kind of
    reason.
    """

    client: Address | None
    target: bytes
    status: int
    reason: str
    refusal: Refusal
    connection: str = ""
    headers: Sequence[Header] = ()


class WebSocketOpened(NamedTuple):
    """The app accepted a WebSocket.

    reconnect: what the client says about its previous connection (--ws-reconnect-field); None if it
    says nothing.
    """

    client: Address | None
    target: bytes
    connection: str = ""
    headers: Sequence[Header] = ()
    reconnect: str | None = None


class WebSocketClosed(NamedTuple):
    """A WebSocket that had opened is closed.

    code, reason: of the first Close that either side sent; 1006 without one, 1005 for a Close
    without a code. cause: why it ended. detail: what is known beyond the cause, such as the rule
    that was broken; empty for nothing. duration: seconds since it opened. received_bytes,
    sent_bytes: of all frames, headers included. dropped_messages: published messages that a slow
    client did not get. round_trip: seconds from the last Ping to its Pong, None if there was none.
    """

    client: Address | None
    target: bytes
    code: int
    reason: str
    cause: Cause
    detail: str
    duration: float
    received_messages: int
    received_bytes: int
    sent_messages: int
    sent_bytes: int
    dropped_messages: int
    round_trip: float | None = None
    connection: str = ""
    headers: Sequence[Header] = ()

    @property
    def initiator(self) -> Initiator:
        """Who ended it."""
        return CAUSES[self.cause].initiator

    @property
    def sentence(self) -> str:
        """What happened, without a full stop."""
        return sentence_of(self.cause, self.detail)


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
