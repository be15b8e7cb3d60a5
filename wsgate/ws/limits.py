"""The limits on one incoming WebSocket message."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """Limits on one incoming message; a message above one of them fails with 1009.

    size: bytes of the whole message, after inflating. fragments: frames of the message.
    """

    size: int = 16 * 1024 * 1024
    fragments: int = 131_072
