"""The outlet: a socket's bounded queue of outgoing messages while its client reads too slowly.

Messages are sent in the order in which they were published or given to the app's `send`. Only
published messages count towards the limit. A message of `send` makes its sender wait, so the
number of the app's tasks already limits these.
"""

from collections import OrderedDict
from collections.abc import Callable

from wsgate.topics.publication import Publication
from wsgate.topics.rules import Slow
from wsgate.ws.encoded import Encoded

# The least that a waiting message counts, in bytes: about what its place in the queue takes.
MIN_COUNTED = 64


class OutletFull(Exception):
    """A message would exceed the limit, and its topic's rule is to close the socket."""


class Waiting:
    """A message that waits in an outlet.

    encoded: the message. topic, slow: its topic and the rule of that; None if the app's `send` gave
    it. on_end: called with None when the message was sent, or with the exception for its sender;
    None for a published message.
    """

    __slots__ = ("encoded", "on_end", "slow", "topic")

    def __init__(
        self,
        encoded: Encoded,
        topic: str | None = None,
        slow: Slow | None = None,
        on_end: Callable[[Exception | None], None] | None = None,
    ) -> None:
        self.encoded = encoded
        self.topic = topic
        self.slow = slow
        self.on_end = on_end

    def end(self, error: Exception | None) -> None:
        """Resume the sender, if there is one."""
        if self.on_end is not None:
            self.on_end(error)


class Outlet:
    """Outgoing messages of one socket in order.

    max_size: bytes of the published ones that may wait. An outlet without any takes one of any
    size.
    """

    __slots__ = ("_max_size", "_messages", "_published", "_size")

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        # OrderedDicts, because tasks may be cancelled in any order: removing takes constant time.
        self._messages: OrderedDict[Waiting, None] = OrderedDict()
        self._published: OrderedDict[Waiting, None] = OrderedDict()
        self._size = 0  # bytes of the published ones

    def __len__(self) -> int:
        return len(self._messages)

    def publish(self, publication: Publication, slow: Slow) -> int:
        """Queue a published message, and return how many messages were dropped.

        Raises:
            OutletFull: The socket has to be closed.
        """
        dropped = 0
        if self._published and self._size + counted_size(publication.encoded) > self._max_size:
            if slow is Slow.CLOSE:
                raise OutletFull
            if slow is Slow.DROP:
                return 1
            dropped = self._drop_topic(publication.topic)
        message = Waiting(publication.encoded, publication.topic, slow)
        self._messages[message] = None
        self._published[message] = None
        self._size += counted_size(message.encoded)
        return dropped

    def _drop_topic(self, topic: str) -> int:
        """Drop all messages of a topic, and return how many there were.

        The new one is queued even if there is no room: so at most one message of each topic that
        the socket has is above the limit, and none is missing its latest one.
        """
        waiting = [message for message in self._published if message.topic == topic]
        for message in waiting:
            self.remove(message)
        return len(waiting)

    def add(self, encoded: Encoded, on_end: Callable[[Exception | None], None]) -> Waiting:
        """Queue a message whose sender waits; returns it, for `remove`."""
        message = Waiting(encoded, on_end=on_end)
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
        if message.topic is not None:
            del self._published[message]
            self._size -= counted_size(message.encoded)

    def end(self, error: Exception) -> None:
        """Raise an exception in all waiting senders: nothing is sent any more."""
        for message in self._messages:
            message.end(error)


def counted_size(encoded: Encoded) -> int:
    """Return how many bytes a waiting message counts."""
    return max(encoded.size, MIN_COUNTED)
