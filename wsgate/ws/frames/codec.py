"""The interface between a WebSocket session and the codec that reads and writes its frames.

A data message is its payload: `str` for text, `bytes` for binary. Other objects are made only for
rare frames. Nothing raises for data from the peer: a bad frame is a `Fail`, after which the codec
returns nothing more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from wsgate.ws.encoded import Encoding


@dataclass(slots=True)
class Ping:
    """The peer's Ping, which asks for a Pong with the same payload."""

    payload: bytes


@dataclass(slots=True)
class Pong:
    """The peer's Pong."""

    payload: bytes


@dataclass(slots=True)
class PeerClose:
    """The peer's Close frame; code 1005 if it had none (RFC 6455 section 7.1.5)."""

    code: int
    reason: str


@dataclass(slots=True)
class Fail:
    """The peer's data fails the connection (RFC 6455 section 7.1.7) with this code.

    rule: which one was broken, as `ws/rules.py` names it; empty if that is not known.
    """

    code: int
    reason: str
    rule: str = field(default="", compare=False)


Item = str | bytes | Ping | Pong | PeerClose | Fail

# Bytes that wsproto parses in one `take`. 2 KiB are at most 340 frames, which take wsproto some
# 4 ms, or inflate to 2 MiB in some 15 ms.
SLICE = 2_048

ReadMessage = Callable[[bytes, int], str | bytes | None]
"""As `messages.read_message`: data, max_size -> the message, or None."""

IsPong = Callable[[bytes], bool]
"""As `messages.is_pong`."""


class FrameCodec(Protocol):
    """Reads and writes the frames of one connection."""

    @property
    def encoding(self) -> Encoding | None:
        """How messages are written; None if a frame depends on the messages sent before it."""

    @property
    def read_message(self) -> ReadMessage:
        """A function that reads one whole message without changing the codec, while it is idle."""

    @property
    def is_pong(self) -> IsPong:
        """A function that recognizes a lone Pong, which needs no further reading.

        It is used while the codec is idle, and may return False for any Pong.
        """

    def feed(self, data: bytes) -> None:
        """Add bytes from the peer; they are dropped after its Close or a fault."""

    def take(self, limit: int, data: bytes = b"") -> Sequence[Item]:
        """Add bytes, parse some of what is buffered and return at most `limit` items.

        Only a bounded part is parsed, so that the event loop is not blocked: an empty result does
        not mean that nothing is left. `limit` is at least one.
        """

    @property
    def pending(self) -> bool:
        """Whether `take` has anything left to parse; if not, it needs more bytes."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is buffered and no message is incomplete."""

    @property
    def buffered(self) -> int:
        """Number of bytes that are not parsed yet."""

    def drop(self) -> None:
        """Discard the bytes that are not parsed yet."""

    def message(self, payload: str | bytes) -> bytes:
        """Return a message as a frame. Raises UnicodeEncodeError for text with a lone surrogate."""

    def ping(self, payload: bytes) -> bytes:
        """Return a Ping of at most 125 bytes."""

    def pong(self, payload: bytes) -> bytes:
        """Return a Pong of at most 125 bytes."""

    def close(self, code: int, reason: str) -> bytes:
        """Return a Close, without a code for 1005. Only another Close may be sent after it."""
