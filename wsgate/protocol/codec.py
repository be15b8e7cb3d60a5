"""The interface between a WebSocket session and whatever reads and writes its frames.

A data message is its payload: `str` for text, `bytes` for binary. Objects are made only for what
is rare. Nothing raises for what the peer sent: a bad frame is a `Fail`, after which the codec
yields nothing more.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Ping:
    """The peer asks for a Pong with the same payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """The peer's Pong."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class PeerClose:
    """The peer's Close frame; code 1005 when it carried none (RFC 6455 section 7.1.5)."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """What the peer sent fails the connection (RFC 6455 section 7.1.7) with this code."""

    code: int
    reason: str


Item = str | bytes | Ping | Pong | PeerClose | Fail


class FrameCodec(Protocol):
    """Frames of one connection, from bytes and to bytes."""

    def feed(self, data: bytes) -> None:
        """Add bytes from the peer."""

    def take(self, limit: int) -> list[Item]:
        """Return the next items, at most `limit`; fewer mean that more bytes are needed."""

    def message(self, payload: str | bytes) -> bytes:
        """Return a data message. Raises UnicodeEncodeError for text with a lone surrogate."""

    def ping(self, payload: bytes) -> bytes:
        """Return a Ping of at most 125 bytes."""

    def pong(self, payload: bytes) -> bytes:
        """Return a Pong of at most 125 bytes."""

    def close(self, code: int, reason: str) -> bytes:
        """Return a Close; 1005 for one without code, then nothing but Close can be sent."""
