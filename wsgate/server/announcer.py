"""Announces the members of topics who have joined and left: calls the app's `announce`."""

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from wsgate.observe.throttled_log import throttled
from wsgate.topics.names import check_data, check_id
from wsgate.topics.presence import Change
from wsgate.topics.rules import Announce, Announced

if TYPE_CHECKING:
    import contextvars

TIMEOUT = 10.0  # seconds for one call of the app
STOP_TIMEOUT = 1.0  # seconds for a call that is cancelled at the stop
MAX_WAITING = 100_000  # changes that wait for the app; more are not announced

Publish = Callable[[str, str | bytes, str | None], Awaitable[object]]


class Announcer:
    """Calls the app's functions one after the other, and publishes what they return.

    Args:
        publish: Publishes a message; without an id it is live only.
        variables: Returns the context variables for a call of the app.
    """

    def __init__(self, publish: Publish, variables: Callable[[], "contextvars.Context"]) -> None:
        self._publish = publish
        self._variables = variables
        self._changes: deque[tuple[Announce, Change]] = deque()
        self._is_running = False
        self._task: asyncio.Task[None] | None = None  # the last one

    def announce(self, announce: Announce, change: Change) -> None:
        """Have a change announced after all earlier ones."""
        if len(self._changes) >= MAX_WAITING:
            throttled.error("Too many members wait to be announced; one was left out")
            return
        self._changes.append((announce, change))
        if not self._is_running:
            self._is_running = True  # an eager task runs at once
            self._task = self._variables().run(asyncio.ensure_future, self._run())

    async def stop(self) -> None:
        """Announce nothing more."""
        self._changes.clear()
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=STOP_TIMEOUT)

    async def _run(self) -> None:
        try:
            while self._changes:
                await self._announce(*self._changes.popleft())
        finally:
            self._is_running = False

    async def _announce(self, announce: Announce, change: Change) -> None:
        """Announce a change. Whatever the app raises ends only this call."""
        try:
            async with asyncio.timeout(TIMEOUT):
                returned = announce(change.topic, change.member, change.has_joined)
                if inspect.isawaitable(returned):
                    returned = await returned
                message = _message(returned)
                if message is not None:
                    await self._publish(change.topic, *message)
        except GeneratorExit:  # the loop was closed
            raise
        except BaseException as error:  # as of any call of the app
            if _is_cancelled(error):
                raise
            throttled.exception("Exception in the announce of topic %r", change.topic)


def _is_cancelled(error: BaseException) -> bool:
    """Return whether our own task was cancelled, and not only something that the app awaits."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _message(returned: Announced) -> tuple[str | bytes, str | None] | None:
    """Return the data and the id of what the app has returned; None for nothing."""
    if returned is None:
        return None
    data, id_ = returned if isinstance(returned, tuple) else (returned, None)
    check_data(data)
    if id_ is not None:
        check_id(id_)
    return data, id_
