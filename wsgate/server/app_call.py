"""One call of the app: its task, and what is done at its end."""

import asyncio
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol, TypeVar, cast

from wsgate import loggers
from wsgate.errors import ClientDisconnected
from wsgate.server.worker import Worker
from wsgate.types import Message

_NAME = "wsgate app"  # one for all: asyncio would create one for each
_getpid = os.getpid


class Call(Protocol):
    """One call of the app, as the server runs it."""

    async def receive(self) -> Any:
        """Return the app's next message."""

    async def send(self, message: Message) -> None:
        """Take a message of the app."""

    def done(self, error: BaseException | None) -> None:
        """Process the app's end: None when it returned, else what it raised."""


AnyCall = TypeVar("AnyCall", bound=Call)


def start(
    worker: Worker,
    scope: Mapping[str, Any],
    call: AnyCall,
    registry: dict[asyncio.Task[None], AnyCall],
) -> None:
    """Call the app in a task of its own.

    registry: the worker's exchanges or its websockets, which holds the call until it ends.
    """
    loop, variables = worker.loop, worker.app_variables.copy()
    work = _run(worker, scope, call)
    task: asyncio.Task[None]
    if loop.get_task_factory() is None:
        task = loop.create_task(work, name=_NAME, context=variables)
    else:  # which may not know `context`; but a task copies the context that it is created in
        task = variables.run(loop.create_task, work, name=_NAME)
    registry[task] = call
    task.add_done_callback(worker.on_task_end, context=worker.variables)


async def _run(worker: Worker, scope: Mapping[str, Any], call: Call) -> None:
    try:
        await worker.app(cast("dict[str, Any]", scope), call.receive, call.send)
    except GeneratorExit:  # the loop is gone, and with it everything that could be reported
        raise
    except BaseException as error:  # noqa: BLE001  # whatever an app raises ends its call alone
        if _getpid() != worker.process:
            _end_child(error)
        call.done(error)
    else:
        if _getpid() != worker.process:
            _end_child(None)
        call.done(None)


def _end_child(error: BaseException | None) -> NoReturn:
    """End a process that the app has forked and that comes back to the server, as Python would.

    It shares the sockets and the selector with its parent: it must neither answer nor close.
    """
    status = 0
    try:
        if isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
            if isinstance(error.code, str):
                sys.stderr.write(f"{error.code}\n")
        elif error is not None:
            status = 1
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def report(error: BaseException, *, client_left: bool) -> None:
    """Log what an app raised; at debug level if it only says that its client has left."""
    if client_left and _is_caused_by_disconnect(error):
        loggers.error.debug("The client left during the app's call", exc_info=error)
        return
    if isinstance(error, asyncio.CancelledError):
        loggers.error.warning("An app's call was cancelled before it ended")
        return
    loggers.error.error("Exception in ASGI application", exc_info=error)


def _is_caused_by_disconnect(error: BaseException) -> bool:
    """Return whether the client's disconnect is anywhere in an exception's chain.

    Frameworks turn our ClientDisconnected into an exception of their own, or make one of the
    disconnect message that they received.
    """
    waiting, seen = [error], set[int]()
    while waiting:
        found = waiting.pop()
        if isinstance(found, ClientDisconnected) or _name_of(found) in _DISCONNECTS:
            return True
        if id(found) not in seen:  # a chain may be a ring
            seen.add(id(found))
            waiting += [e for e in (found.__cause__, found.__context__) if e is not None]
            if isinstance(found, BaseExceptionGroup):
                waiting += found.exceptions
    return False


def _name_of(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


# What Starlette and FastAPI raise once they have received a disconnect message.
_DISCONNECTS = frozenset(
    {"starlette.requests.ClientDisconnect", "starlette.websockets.WebSocketDisconnect"}
)
