"""Another worker of the machine, as this one sees it: what it wants, and what waits for it."""

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from wsgate.brokers.local.frame_connection import FrameConnection
from wsgate.brokers.local.waiting_frames import WaitingFrames
from wsgate.topics.messages import AllWanted, Delivered, Detach, Message, Noted, Wanted
from wsgate.topics.wire_format import WireError

MAX_QUEUE = 16 * 2**20  # bytes that may wait for one worker, besides one large message
PART_TOPICS = 1000  # of the topics that are named in one message


class Peer:
    """Another worker, and the connection to it while there is one.

    It is synced when it has named all topics that it has attached. Until then publications wait,
    because nobody knows whether it wants them; later it gets what it wants, and nothing else.

    Args:
        name: Its name.
        topics: The topics that this worker has attached.
        on_publication: Called with each publication of the other worker.
        count_dropped: Called with the cause for each publication that is dropped.
        frames: Publications that have waited for it before it was known.

    Attributes:
        connection: The connection; None while there is none.
        is_synced: It has named all topics that it has attached, on this connection.
        is_silent: It has not answered in time, so nobody waits for its answers.
        is_stuck: It has not read in time, so nobody waits until it does.
    """

    def __init__(
        self,
        name: str,
        topics: Iterable[str],
        on_publication: Callable[[Delivered], object],
        count_dropped: Callable[[str], object],
        frames: Iterable[tuple[str, bytes]] = (),
    ) -> None:
        self.name = name
        self.connection: FrameConnection | None = None
        self.is_synced = False
        self.is_silent = False
        self.is_stuck = False
        self._topics = topics
        self._on_publication = on_publication
        self._count_dropped = functools.partial(count_dropped, "worker")
        self._wanted: set[str] = set()
        self._waiting = WaitingFrames(self._count_dropped, frames)
        self._request = 0  # of the last Wanted
        self._noted = -1  # up to which it has noted them on this connection
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._handlers: dict[type[Any], Callable[[Any], object]] = {
            Delivered: on_publication,
            Wanted: self._take_wanted,
            AllWanted: self._take_all_wanted,
            Detach: self._take_detach,
            Noted: self._take_noted,
        }

    # -- the connection ----------------------------------------------------------------------------

    def begin(self, connection: FrameConnection) -> None:
        """Use a new connection, and name all topics on it."""
        former, self.connection = self.connection, connection
        if former is not None:
            former.abort()  # the other end has given it up
        self._forget_connection()
        names = list(self._topics)
        for start in range(0, len(names), PART_TOPICS):
            connection.send(Wanted(0, names[start : start + PART_TOPICS]))
        connection.send(AllWanted(self._request))

    def end(self, connection: FrameConnection) -> None:
        """Note that a connection has ended."""
        if connection is self.connection:
            self.connection = None
            self._forget_connection()

    def _forget_connection(self) -> None:
        """Forget what was known from the last connection; the next one begins anew."""
        self._wanted = set()
        self.is_synced = self.is_stuck = False
        self._noted = -1

    def close(self) -> None:
        """End: the other worker is gone, or this one stops. Nobody waits for it any more."""
        self._release(self._request)
        if self.connection is not None:
            self.connection.close()

    def take(self, message: Message) -> None:
        """Handle a message. Raises WireError if it is out of place."""
        handler = self._handlers.get(type(message))
        if handler is None:
            raise WireError(f"{type(message).__name__} is out of place")
        self.is_silent = False
        handler(message)

    # -- what this worker wants --------------------------------------------------------------------

    def want(self, topic: str) -> None:
        """Ask for the publications of a topic."""
        self._request += 1
        if self.connection is not None:
            self.connection.send(Wanted(self._request, [topic]))

    def detach(self, topic: str) -> None:
        """Ask for no more publications of a topic."""
        if self.connection is not None:
            self.connection.send(Detach(topic))

    def wait_until_noted(self) -> asyncio.Future[None] | None:
        """Return a future that is done when it has noted all topics until now.

        Returns:
            None if it has, or if it is silent.
        """
        if self.is_silent or self._noted >= self._request:
            return None
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((self._request, waiter))
        return waiter

    def _take_noted(self, message: Noted) -> None:
        self._noted = message.request
        self._release(message.request)

    def _release(self, request: int) -> None:
        while self._waiters and self._waiters[0][0] <= request:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    # -- what the other one wants ------------------------------------------------------------------

    def _take_wanted(self, message: Wanted) -> None:
        self._wanted.update(message.topics)
        if message.request:
            self._answer(message.request)

    def _take_all_wanted(self, message: AllWanted) -> None:
        self.is_synced = True
        self._answer(message.request)
        for topic, frame in self._waiting.take_all():
            if topic in self._wanted:
                self._send(frame)

    def _answer(self, request: int) -> None:
        if self.connection is not None:
            self.connection.send(Noted(request))

    def _take_detach(self, message: Detach) -> None:
        self._wanted.discard(message.topic)

    # -- publications ------------------------------------------------------------------------------

    def wants(self, topic: str) -> bool:
        """Return whether it gets the publications of a topic, or may turn out to get them."""
        return topic in self._wanted or not self.is_synced

    def publish(self, topic: str, frame: bytes) -> None:
        """Send a publication that it wants."""
        if self.is_synced:
            self._send(frame)
        else:
            self._waiting.add(topic, frame)

    def _send(self, frame: bytes) -> None:
        assert self.connection is not None  # it is synced
        self.is_stuck = self.is_stuck and self.connection.is_full
        if self.connection.backlog > MAX_QUEUE:
            self._count_dropped()
        else:
            self.connection.send_frame(frame)

    @property
    def is_full(self) -> bool:
        """Whether a publisher should wait until it has read more."""
        return self.connection is not None and self.connection.is_full and not self.is_stuck

    async def drain(self) -> None:
        """Wait until it has read enough, or its connection has ended."""
        if self.connection is not None:
            await self.connection.drain()
