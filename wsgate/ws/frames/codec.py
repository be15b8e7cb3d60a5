"""The interface between a WebSocket session and whatever reads and writes its frames.

A data message is its payload: `str` for text, `bytes` for binary. Objects are made only for what
is rare. Nothing raises for what the peer sent: a bad frame is a `Fail`, after which the codec
yields nothing more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class Ping:
    """The peer asks for a Pong with the same payload."""

    payload: bytes


@dataclass(slots=True)
class Pong:
    """The peer's Pong."""

    payload: bytes


@dataclass(slots=True)
class PeerClose:
    """The peer's Close frame; code 1005 when it carried none (RFC 6455 section 7.1.5)."""

    code: int
    reason: str


@dataclass(slots=True)
class Fail:
    """What the peer sent fails the connection (RFC 6455 section 7.1.7) with this code."""

    code: int
    reason: str


Item = str | bytes | Ping | Pong | PeerClose | Fail

# 2 KiB are 340 frames at the most, some 4 ms of wsproto's, or inflate to 2 MiB in some 15 ms.
SLICE = 2_048

ReadMessage = Callable[[bytes, int], str | bytes | None]
"""As `frames.read_message`: data, most -> the one message that it is, or None."""


class FrameCodec(Protocol):
    """Frames of one connection, from bytes and to bytes."""

    @property
    def encoding(self) -> object | None:
        """How messages are written, shared by connections; None if a frame depends on others."""

    @property
    def read_message(self) -> ReadMessage:
        """What reads a whole message while the codec is at rest, without a word to it."""

    def feed(self, data: bytes) -> None:
        """Add bytes from the peer; what comes behind its Close or a fault is dropped."""

    def take(self, limit: int, data: bytes = b"") -> Sequence[Item]:
        """Add bytes, look at some of what is there and return the items in it, at most `limit`.

        It looks at a bounded part, so that the loop has its turn: no item is not the end. At least
        one is asked for.
        """

    @property
    def pending(self) -> bool:
        """Whether `take` has something left to look at; else it needs more bytes."""

    @property
    def is_at_rest(self) -> bool:
        """Whether no message is under way and nothing waits, so that `take` may be left out."""

    @property
    def buffered(self) -> int:
        """How many bytes wait to be looked at."""

    def drop(self) -> None:
        """Forget what waits to be looked at."""

    def message(self, payload: str | bytes) -> bytes:
        """Return a data message. Raises UnicodeEncodeError for text with a lone surrogate."""

    def ping(self, payload: bytes) -> bytes:
        """Return a Ping of at most 125 bytes."""

    def pong(self, payload: bytes) -> bytes:
        """Return a Pong of at most 125 bytes."""

    def close(self, code: int, reason: str) -> bytes:
        """Return a Close; 1005 for one without code, then nothing but Close can be sent."""
