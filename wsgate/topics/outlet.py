"""The outlet: a socket's bounded queue of outgoing messages while its client reads too slowly.

Messages are sent in the order in which they were published or given to the app's `send`. Only
published messages count towards the limits. A message of `send` makes its sender wait, so the
number of the app's tasks already limits these.
"""

from collections import OrderedDict, deque
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


class OutletFull(Exception):
    """A message would exceed the limits, and their policy is to disconnect the client."""


class Sender(Protocol):
    """The part of a socket that publishing needs."""

    def publish(self, encoded: Encoded, limits: OutletLimits) -> None:
        """Send a message after all earlier ones, or queue it while the client is slow."""


class Waiting:
    """A message that waits in an outlet.

    encoded: the message. on_end: called with None when the message was sent, or with the exception
    for its sender; None for a published message.
    """

    __slots__ = ("encoded", "on_end")

    def __init__(
        self, encoded: Encoded, on_end: Callable[[Exception | None], None] | None = None
    ) -> None:
        self.encoded = encoded
        self.on_end = on_end

    def end(self, error: Exception | None) -> None:
        """Resume the sender, if there is one."""
        if self.on_end is not None:
            self.on_end(error)


class Outlet:
    """Outgoing messages of one socket in order."""

    __slots__ = ("_messages", "_published", "_size")

    def __init__(self) -> None:
        # An OrderedDict, because tasks may be cancelled in any order: removing takes constant time.
        self._messages: OrderedDict[Waiting, None] = OrderedDict()
        self._published: deque[Waiting] = deque()  # those of the messages that were published
        self._size = 0  # bytes of the published ones

    def __len__(self) -> int:
        return len(self._messages)

    def publish(self, encoded: Encoded, limits: OutletLimits) -> int:
        """Queue a published message, and return how many messages were dropped.

        Raises:
            OutletFull: The client has to be disconnected.
        """
        dropped = 0
        while self._published and self._exceeds(encoded, limits):
            if limits.policy is Policy.DISCONNECT:
                raise OutletFull
            dropped += 1
            if limits.policy is Policy.DROP_NEWEST:
                return dropped
            self.remove(self._published[0])
        message = Waiting(encoded)
        self._messages[message] = None
        self._published.append(message)
        self._size += encoded.size
        return dropped

    def _exceeds(self, encoded: Encoded, limits: OutletLimits) -> bool:
        is_full = len(self._published) >= limits.max_messages
        return is_full or self._size + encoded.size > limits.max_size

    def add(self, encoded: Encoded, on_end: Callable[[Exception | None], None]) -> Waiting:
        """Queue a message whose sender waits; returns it, for `remove`."""
        message = Waiting(encoded, on_end)
        self._messages[message] = None
        return message

    def remove(self, message: Waiting) -> None:
        """Remove a message if it is still there: its sender was cancelled."""
        if message in self._messages:
            del self._messages[message]
            self._discount(message)

    def pop(self) -> Waiting:
        """Remove the first message and return it."""
        message, _ = self._messages.popitem(last=False)
        self._discount(message)
        return message

    def pop_published(self) -> list[Waiting]:
        """Remove the published messages and return them in order."""
        published = list(self._published)
        for message in published:
            self.remove(message)
        return published

    def _discount(self, message: Waiting) -> None:
        if self._published and self._published[0] is message:  # they leave in order
            self._published.popleft()
            self._size -= message.encoded.size

    def end(self, error: Exception) -> None:
        """Raise an exception in all waiting senders: nothing is sent any more."""
        for message in self._messages:
            message.end(error)
