"""One call of the app: creates its task and reports its end."""

import asyncio
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol, TypeVar, cast

from wsgate import loggers
from wsgate.errors import ClientDisconnected
from wsgate.observe.throttled_log import throttled
from wsgate.server.worker import Worker
from wsgate.types import Message

_NAME = "wsgate app"  # of all tasks: asyncio would create a name for each
_getpid = os.getpid


class Call(Protocol):
    """The server's side of one call of the app."""

    async def receive(self) -> Any:
        """Return the next event for the app."""

    async def send(self, message: Message) -> None:
        """Process a message from the app."""

    def done(self, error: BaseException | None) -> None:
        """Process the end of the call.

        Args:
            error: What the app raised, None if it returned.
        """


AnyCall = TypeVar("AnyCall", bound=Call)


def start(
    worker: Worker,
    scope: Mapping[str, Any],
    call: AnyCall,
    registry: dict[asyncio.Task[None], AnyCall],
) -> None:
    """Call the app in a new task.

    Args:
        worker: Its app is called, with a copy of its context variables.
        scope: The scope of the request.
        call: Provides `receive` and `send`; its `done` is called at the end.
        registry: The worker's exchanges or websockets; holds the call until its task has ended.
    """
    loop, variables = worker.loop, worker.app_variables.copy()
    work = _run(worker, scope, call)
    task: asyncio.Task[None]
    if loop.get_task_factory() is None:
        task = loop.create_task(work, name=_NAME, context=variables)
    else:  # a factory may not accept `context`, but a task copies the current context
        task = variables.run(loop.create_task, work, name=_NAME)
    if not task.done():  # an eager task may have ended already
        registry[task] = call
    task.add_done_callback(worker.on_task_end, context=worker.variables)


async def _run(worker: Worker, scope: Mapping[str, Any], call: Call) -> None:
    try:
        await worker.app(cast("dict[str, Any]", scope), call.receive, call.send)
    except GeneratorExit:  # the loop was closed: nothing can be reported any more
        raise
    except BaseException as error:  # noqa: BLE001  # whatever an app raises ends only its call
        if _getpid() != worker.process:
            _end_child(error)
        call.done(error)
    else:
        if _getpid() != worker.process:
            _end_child(None)
        call.done(None)
    # Not only when the task's callbacks run: the next pipelined request is processed before them,
    # and must not count this call as running.
    worker.task_ended(cast("asyncio.Task[None]", asyncio.current_task()))


def _end_child(error: BaseException | None) -> NoReturn:
    """Exit from a process that the app has forked, with the status that Python would use.

    It shares the sockets and the selector with its parent, so it must not write to or close them.
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
    """Log what an app raised.

    Args:
        error: The exception.
        client_left: The client has disconnected; an exception caused by that is logged at debug
            level.
    """
    if client_left and _is_caused_by_disconnect(error):
        loggers.error.debug("The client left during the app's call", exc_info=error)
        return
    if isinstance(error, asyncio.CancelledError):
        throttled.warning("An app's call was cancelled before it ended")
        return
    throttled.exception("Exception in ASGI application", error=error)


def _is_caused_by_disconnect(error: BaseException) -> bool:
    """Return whether the client's disconnect is anywhere in an exception's chain.

    Frameworks convert our ClientDisconnected to their own exception, or raise one when they receive
    a disconnect event.
    """
    waiting, seen = [error], set[int]()
    while waiting:
        found = waiting.pop()
        if isinstance(found, ClientDisconnected) or _name_of(found) in _DISCONNECTS:
            return True
        if id(found) not in seen:  # a chain can be circular
            seen.add(id(found))
            waiting += [e for e in (found.__cause__, found.__context__) if e is not None]
            if isinstance(found, BaseExceptionGroup):
                waiting += found.exceptions
    return False


def _name_of(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


# What Starlette and FastAPI raise after they have received a disconnect event.
_DISCONNECTS = frozenset(
    {"starlette.requests.ClientDisconnect", "starlette.websockets.WebSocketDisconnect"}
)
