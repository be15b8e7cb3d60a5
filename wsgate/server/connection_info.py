"""What an operator sees of one open connection."""

from dataclasses import dataclass
from enum import Enum

from wsgate.types import Address


class Kind(Enum):
    """What a connection does.

    IDLE: It waits for a request. HTTP: A request is running. WEBSOCKET: A WebSocket is open, or its
    handshake is running. CLOSING: The server has closed it and waits for the client.
    """

    IDLE = "idle"
    HTTP = "http"
    WEBSOCKET = "websocket"
    CLOSING = "closing"


@dataclass(slots=True)
class Traffic:
    """What a WebSocket has received and sent: messages, and bytes on the wire."""

    received_messages: int
    received_bytes: int
    sent_messages: int
    sent_bytes: int


@dataclass(slots=True)
class ConnectionInfo:
    """What is known of a connection.

    kind: what it does. client: its address, None for the client of a Unix socket. path: that of the
    request or WebSocket, without the query, which may hold a secret; None if there is none.
    opened_at: time of the worker's clock in seconds when it, or its WebSocket, was opened; None if
    that is not known any more. traffic: None except for an open WebSocket. round_trip: seconds from
    its last Ping that was answered to the Pong, None if there was none.
    """

    kind: Kind
    client: Address | None
    path: bytes | None = None
    opened_at: float | None = None
    traffic: Traffic | None = None
    round_trip: float | None = None
