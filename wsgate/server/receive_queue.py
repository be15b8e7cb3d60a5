"""The queue of messages that no receiver waited for, bounded in number and in memory."""

from collections import deque
from sys import getsizeof


class ReceiveQueue:
    """Messages that wait for the app.

    max_messages: how many. max_size: bytes of memory that they take; a message larger than that
    enters an empty queue.
    """

    __slots__ = ("_given_back", "_max_messages", "_max_size", "_messages", "_size")

    def __init__(self, max_messages: int, max_size: int) -> None:
        self._max_messages = max_messages
        self._max_size = max_size
        self._messages: deque[str | bytes] = deque()
        self._size = 0
        self._given_back = 0  # messages at the front that were put back

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def room(self) -> int:
        """How many more messages may enter."""
        return self._max_messages - len(self._messages) if self._size < self._max_size else 0

    def put(self, message: str | bytes) -> None:
        """Add a message."""
        self._messages.append(message)
        self._size += getsizeof(message)

    def put_back(self, message: str | bytes) -> None:
        """Add a message in front of those that were never taken.

        Several receivers that are cancelled together put their messages back in the order in which
        they got them.
        """
        self._messages.insert(self._given_back, message)
        self._given_back += 1
        self._size += getsizeof(message)

    def pop(self) -> str | bytes:
        """Remove the oldest message and return it."""
        message = self._messages.popleft()
        self._given_back = max(0, self._given_back - 1)
        self._size -= getsizeof(message)
        return message
