"""A worker's requests to the hub: their numbers, answers and deadlines."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from wsgate.topics.errors import Unavailable
from wsgate.topics.messages import Forget, GetMore, Members, Message, MissedPart
from wsgate.topics.publication import Publication

Send = Callable[[Message], bool]


class Request:
    """A request that is not answered yet.

    Attributes:
        message: What is sent.
        answer: Completed with the last message of the answer, or with an exception.
        parts: The messages of the answer before the last one.
        publication: What it publishes; None for other requests.
        placed: The answer to a publication that has its place, but is not delivered here yet.
        sent_at: When it was sent, to the present hub or to an earlier one, in seconds of the loop's
            clock; None if it was not.
        may_repeat: It may be sent again to the same hub after a new connection.
    """

    __slots__ = (*("answer", "may_repeat", "message", "parts", "placed", "publication", "sent_at"),)

    def __init__(
        self, message: Message, publication: Publication | None, *, may_repeat: bool
    ) -> None:
        self.message = message
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.parts: list[Any] = []
        self.publication = publication
        self.placed: Message | None = None
        self.sent_at: float | None = None
        self.may_repeat = may_repeat

    @property
    def is_answered(self) -> bool:
        """Whether the last message of the answer has come."""
        return self.answer.done() and not self.answer.cancelled()

    def complete(self, message: Message) -> None:
        """Set the last message of the answer, unless nobody waits for it any more."""
        if not self.answer.done():
            self.answer.set_result(message)

    def fail(self, error: Exception) -> None:
        """Raise an exception where the answer is waited for."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Requests:
    """The requests of one worker that are not answered yet.

    Args:
        send: Sends a message; returns False if there is no connection.
        no_answer: Returns the exception if there is no answer within so many seconds.
        timeout: Seconds to wait for an answer.

    Attributes:
        lag: Seconds until the hub began the answer that came last; None before the first one.
    """

    def __init__(
        self, send: Send, no_answer: Callable[[float], Unavailable], timeout: float
    ) -> None:
        self.lag: float | None = None
        self._send = send
        self._no_answer = no_answer
        self._timeout = timeout
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Request] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def next_number(self) -> int:
        """Return a number that no request has had."""
        return next(self._numbers)

    def find(self, number: int) -> Request | None:
        """Return a request that still waits."""
        return self._waiting.get(number)

    async def ask(
        self,
        make: Callable[[int], Message],
        publication: Publication | None = None,
        *,
        may_repeat: bool = True,
    ) -> tuple[list[Any], Any]:
        """Send a request, now or when there is a connection, and wait for its answer.

        Args:
            make: Returns the request, with this number.
            publication: What it publishes.
            may_repeat: See `Request`.

        Returns:
            The messages of the answer before the last one, and the last one.

        Raises:
            Unavailable: There is no answer in time.
        """
        number = self.next_number()
        request = self._waiting[number] = Request(make(number), publication, may_repeat=may_repeat)
        self._transmit(request)
        try:
            async with asyncio.timeout(self._timeout):
                last = await request.answer
        except TimeoutError:
            if request.placed is None:
                raise self._no_answer(self._timeout) from None
            last = request.placed
        finally:
            del self._waiting[number]
            if request.parts and not request.is_answered:
                self._send(Forget(number))
        return request.parts, last

    def _transmit(self, request: Request) -> None:
        """Send a request if there is a connection."""
        if self._send(request.message):
            request.sent_at = asyncio.get_running_loop().time()

    def note_answer(self, request: Request) -> None:
        """Measure how long the hub took until it began to answer."""
        if request.sent_at is not None:
            self.lag = asyncio.get_running_loop().time() - request.sent_at

    def take(self, number: int, message: Message) -> None:
        """Take an answer, or a part of one."""
        request = self._waiting.get(number)
        if request is None:
            return  # it is too late
        if not request.parts:
            self.note_answer(request)
        has_more = isinstance(message, MissedPart | Members) and message.has_more
        if not has_more:
            request.complete(message)
            return
        request.parts.append(message)
        if isinstance(message, MissedPart):
            self._send(GetMore(number))

    def repeat(self, *, is_same_hub: bool) -> None:
        """Send again, on a new connection, what was not answered.

        What was published to a hub that is gone may have arrived somewhere, and a new hub does not
        know it: it fails instead.
        """
        for request in self._waiting.values():
            publishes = request.publication is not None
            if request.placed is not None:
                request.complete(request.placed)
            elif (
                request.sent_at is not None
                and publishes
                and not (is_same_hub and request.may_repeat)
            ):
                request.fail(Unavailable("the topics hub has ended before it answered"))
            else:
                request.parts.clear()
                self._transmit(request)

    def fail_all(self) -> None:
        """Raise Unavailable where an answer is waited for: the worker stops."""
        for request in self._waiting.values():
            request.fail(Unavailable("the server stops"))
