"""One call of the app: its task, and what its end means."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from wsgate.errors import ClientDisconnected
from wsgate.server import logs
from wsgate.server.context import Context
from wsgate.types import Message

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Message], Awaitable[None]]
Done = Callable[[BaseException | None], None]
"""Told of the app's end: None when it returned, else what it raised."""


def start(
    context: Context, scope: Mapping[str, Any], receive: Receive, send: Send, done: Done
) -> asyncio.Task[None]:
    """Call the app in a task of its own; the context keeps it until it ends."""
    loop = asyncio.get_running_loop()
    # One name for all: asyncio would keep one of its own for each.
    task = loop.create_task(_run(context, scope, receive, send, done), name="wsgate app")
    context.tasks.add(task)
    task.add_done_callback(context.task_ended)
    return task


async def _run(
    context: Context, scope: Mapping[str, Any], receive: Receive, send: Send, done: Done
) -> None:
    try:
        await context.app(cast("dict[str, Any]", scope), receive, send)
    except GeneratorExit:  # the loop is gone, and with it everything that could be told
        raise
    except BaseException as error:  # noqa: BLE001  # whatever an app raises ends its call alone
        done(error)
    else:
        done(None)


def report(error: BaseException, *, client_left: bool) -> None:
    """Log what an app raised, unless it is the ordinary end of a client that has left."""
    if client_left and _is_disconnect(error):
        return
    if isinstance(error, asyncio.CancelledError):
        logs.error.warning("An app's call was cancelled before it ended")
        return
    logs.error.error("Exception in ASGI application", exc_info=error)


def _is_disconnect(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_disconnect, error.exceptions))
    return isinstance(error, ClientDisconnected)
