"""One call of the app: its task, and what its end means."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol, cast

from wsgate.errors import ClientDisconnected
from wsgate.server import logs
from wsgate.server.context import Context
from wsgate.types import App, Message


class Call(Protocol):
    """One call of the app, as the server sees it."""

    async def receive(self) -> Any:
        """Return the app's next message."""

    async def send(self, message: Message) -> None:
        """Take a message of the app."""

    def done(self, error: BaseException | None) -> None:
        """Take note of the app's end: None when it returned, else what it raised."""


def start(context: Context, scope: Mapping[str, Any], call: Call) -> asyncio.Task[None]:
    """Call the app in a task of its own; the context keeps it until it ends."""
    # One name for all: asyncio would keep one of its own for each.
    task = context.loop.create_task(_run(context.app, scope, call), name="wsgate app")
    context.tasks.add(task)
    task.add_done_callback(context.on_task_end, context=context.variables)
    return task


async def _run(app: App, scope: Mapping[str, Any], call: Call) -> None:
    try:
        await app(cast("dict[str, Any]", scope), call.receive, call.send)
    except GeneratorExit:  # the loop is gone, and with it everything that could be told
        raise
    except BaseException as error:  # noqa: BLE001  # whatever an app raises ends its call alone
        call.done(error)
    else:
        call.done(None)


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
