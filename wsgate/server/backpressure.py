"""Flow control both ways: the gate that senders wait at, the queue that receivers wait at."""

import asyncio
from collections import deque
from sys import getsizeof
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Waiters:
    """Tasks that wait until something may have changed, and then look for themselves."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: Sequence[asyncio.Future[None]] = ()

    def __bool__(self) -> bool:
        return bool(self._futures)

    def wake(self) -> None:
        """Let everyone look."""
        futures = self._futures
        if not futures:
            return
        self._futures = ()
        for future in futures:
            if not future.done():
                future.set_result(None)

    async def wait(self) -> None:
        """Wait for the next `wake`."""
        future = asyncio.get_running_loop().create_future()
        self._futures = [*self._futures, future]
        try:
            await future
        except asyncio.CancelledError:
            self._futures = [other for other in self._futures if other is not future]
            raise


class Gate(Waiters):
    """Open while the transport's write buffer is below its mark; senders wait while it is shut.

    is_shut: a sender has to wait. shut_since: when it was shut, None while it is open.
    """

    __slots__ = ("is_shut", "shut_since")

    def __init__(self) -> None:
        self._futures = ()
        self.is_shut = False  # kept beside the time, for each message asks
        self.shut_since: float | None = None

    def shut(self, now: float) -> None:
        """Let senders wait from now on."""
        self.is_shut, self.shut_since = True, now

    def open(self) -> None:
        """Let everyone through."""
        self.is_shut, self.shut_since = False, None
        self.wake()

    async def passed(self) -> None:
        """Wait until it is open."""
        while self.is_shut:
            await self.wait()


class ReceiveQueue:
    """Messages that wait for the app, bounded in number and in bytes of memory.

    A message larger than the queue's bytes enters an empty queue.
    """

    __slots__ = ("_max_messages", "_max_size", "_messages", "_size")

    def __init__(self, max_messages: int, max_size: int) -> None:
        self._max_messages = max_messages
        self._max_size = max_size
        self._messages: deque[str | bytes] = deque()
        self._size = 0

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
        """Add a message in front of all others."""
        self._messages.appendleft(message)
        self._size += getsizeof(message)

    def pop(self) -> str | bytes:
        """Take the oldest message."""
        message = self._messages.popleft()
        self._size -= getsizeof(message)
        return message
