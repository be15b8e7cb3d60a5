"""A listener: the messages of a topic for the app itself."""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from wsgate.server.backpressure import Waiters
from wsgate.topics.counts import SLOW_LISTENER
from wsgate.topics.errors import Overrun
from wsgate.topics.outlet import counted_size
from wsgate.topics.publication import Publication
from wsgate.topics.rules import Rules

if TYPE_CHECKING:
    from wsgate.server.topic_service import Owner, TopicService


class TopicListener:
    """The messages of one topic: what was missed, then what is published.

    A listener that falls behind by more than --topics-max-outlet bytes loses messages: of a plain
    topic the new ones; of a topic with history all further ones, and the iteration ends with
    `Overrun` after those before them.

    Attributes:
        topic: The name of the topic.
        complete: No message is missing before the first one.
    """

    def __init__(
        self,
        service: "TopicService",
        owner: "Owner | None",
        topic: str,
        after: str | None,
        last: int,
    ) -> None:
        self.topic = topic
        self.complete = True
        self._service = service
        self._owner = owner
        self._after = after
        self._last = last
        self._messages: deque[Publication] = deque()
        self._size = 0  # bytes of the live ones that wait
        self._missed = 0  # number of the first messages, which do not count as waiting
        self._live: list[Publication] | None = None  # until what was missed is known
        self._is_entered = self._has_ended = self._has_overrun = False
        self._waiters = Waiters()

    async def __aenter__(self) -> Self:
        """Listen from now on.

        Raises:
            LimitReached: There are too many topics.
            Unavailable: The broker did not answer in time.
            RuntimeError: It was entered before.
        """
        if self._is_entered:
            raise RuntimeError("a listener is entered once: call listen() again")
        self._is_entered = True
        self._live = []
        missed = await self._service.add_listener(self._owner, self, self._after, self._last)
        live, self._live = self._live, None
        if missed is not None:
            self.complete = missed.is_complete
            self._messages.extend(missed.publications)
            self._missed = len(missed.publications)
            live = [one for one in live if not one.place or one.place > missed.place]
        for publication in live:
            self.put(publication, self._service.rules_of(self.topic))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Listen no more."""
        self._service.remove_listener(self._owner, self)
        self.end()

    def __aiter__(self) -> AsyncIterator[Publication]:
        """Iterate over the messages; a listener that was not entered is entered and left here."""
        return self if self._is_entered else self._iterate()

    async def _iterate(self) -> AsyncGenerator[Publication]:
        async with self:
            async for message in self:
                yield message

    async def __anext__(self) -> Publication:
        """Return the next message, after waiting for it.

        Raises:
            Overrun: Messages of a topic with history would be missing from here on.
            StopAsyncIteration: The connection of the scope has ended, or the listener was left.
        """
        while not self._messages:
            if self._has_ended:
                raise StopAsyncIteration
            if self._has_overrun:
                raise Overrun(f"a listener of {self.topic!r} has fallen behind")
            await self._waiters.wait()
        message = self._messages.popleft()
        if self._missed:
            self._missed -= 1
        else:
            self._size -= counted_size(message.encoded)
        return message

    def put(self, publication: Publication, rules: Rules) -> None:
        """Add a message that was published."""
        if self._live is not None:
            self._live.append(publication)
            return
        if self._has_overrun:
            return
        size = counted_size(publication.encoded)
        if self._size and self._size + size > self._service.max_outlet:
            self._has_overrun = rules.history > 0
            self._service.counts.dropped[SLOW_LISTENER] += 1
        else:
            self._size += size
            self._service.counts.delivered += 1
            self._messages.append(publication)
        self._waiters.wake()

    def overrun(self) -> None:
        """Raise `Overrun` after the messages that wait: those that follow are missing."""
        self._has_overrun = True
        self._waiters.wake()

    def end(self) -> None:
        """End the iteration after the messages that wait."""
        self._has_ended = True
        self._waiters.wake()
