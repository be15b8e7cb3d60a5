"""The outlet: a socket's bounded queue of outgoing messages while its client reads too slowly.

Messages are sent in the order in which they were published or given to the app's `send`. Only
published messages count towards the limits. A message of `send` makes its sender wait, so the
number of the app's tasks already limits these.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from wsgate.ws.encoded import Encoded


class Policy(Enum):
    """What happens when a published message would exceed an outlet's limits.

    DROP_OLDEST: the oldest published messages are dropped until the new one has room.
    DROP_NEWEST: the new message is dropped.
    DISCONNECT: the client is disconnected. While it is connected it misses no message; after the
    disconnect it has to reconnect and catch up.
    """

    DROP_OLDEST = "drop oldest"
    DROP_NEWEST = "drop newest"
    DISCONNECT = "disconnect"


@dataclass(frozen=True, slots=True)
class OutletLimits:
    """Bounds on the published messages that wait for one socket.

    max_messages: how many may wait. max_size: bytes of their payloads; one larger message may wait
    alone. policy: what happens to a message that would exceed a limit.
    """

    max_messages: int = 64
    max_size: int = 1_048_576
    policy: Policy = Policy.DISCONNECT


class Sender(Protocol):
    """The part of a socket that publishing needs."""

    def publish(self, encoded: Encoded, limits: OutletLimits) -> None:
        """Send a message after all earlier ones, or queue it while the client is slow."""


class Waiting:
    """A message that waits in an outlet.

    encoded: the message. on_sent: called when the message was sent, or cannot be sent any more;
    None for a published message.
    """

    __slots__ = ("encoded", "on_sent", "size")

    def __init__(self, encoded: Encoded, on_sent: Callable[[], None] | None = None) -> None:
        self.encoded = encoded
        self.on_sent = on_sent
        self.size = len(encoded.payload)


class Outlet:
    """Outgoing messages of one socket in order. dropped: published messages that were dropped."""

    __slots__ = ("_count", "_messages", "_size", "dropped")

    def __init__(self) -> None:
        self._messages: deque[Waiting] = deque()
        self._count = self._size = 0  # of published messages
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._messages)

    def publish(self, encoded: Encoded, limits: OutletLimits) -> bool:
        """Queue a published message; returns False if the client has to be disconnected."""
        message = Waiting(encoded)
        while self._count and self._exceeds(message, limits):
            if limits.policy is Policy.DISCONNECT:
                return False
            self.dropped += 1
            if limits.policy is Policy.DROP_NEWEST:
                return True
            self._drop_oldest()
        self._messages.append(message)
        self._count += 1
        self._size += message.size
        return True

    def _exceeds(self, message: Waiting, limits: OutletLimits) -> bool:
        return self._count >= limits.max_messages or self._size + message.size > limits.max_size

    def _drop_oldest(self) -> None:
        oldest = next(message for message in self._messages if message.on_sent is None)
        self.remove(oldest)

    def add(self, encoded: Encoded, on_sent: Callable[[], None]) -> Waiting:
        """Queue a message whose sender waits; returns it, for `remove`."""
        message = Waiting(encoded, on_sent)
        self._messages.append(message)
        return message

    def remove(self, message: Waiting) -> None:
        """Remove a message if it is still there: its sender was cancelled."""
        if message in self._messages:
            self._messages.remove(message)
            self._discount(message)

    def __contains__(self, message: object) -> bool:
        """Return whether a message still waits."""
        return message in self._messages

    def release(self) -> None:
        """Resume all waiting senders: nothing is sent any more."""
        for message in self._messages:
            if message.on_sent is not None:
                message.on_sent()

    def pop(self) -> Waiting:
        """Remove the first message and return it."""
        message = self._messages.popleft()
        self._discount(message)
        return message

    def _discount(self, message: Waiting) -> None:
        if message.on_sent is None:
            self._count -= 1
            self._size -= message.size
