"""Waiting in tests: for a result, a condition, or loop iterations; always with a timeout."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

PATIENCE = 10.0  # timeout in seconds for something in the same process
_T = TypeVar("_T")


async def turns(count: int = 20) -> None:
    """Let the loop run so many iterations: enough for everything that is ready."""
    for _ in range(count):
        await asyncio.sleep(0)


async def soon(awaitable: Awaitable[_T], seconds: float = PATIENCE) -> _T:
    """Return a result that is expected at once.

    Raises:
        TimeoutError: after so many seconds.
    """
    async with asyncio.timeout(seconds):
        return await awaitable


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Let the loop run until the condition is true.

    Raises:
        TimeoutError: after so many seconds.
    """
    async with asyncio.timeout(seconds):
        while not condition():
            await turns(1)


async def pause(seconds: float) -> None:
    """Let time pass between two checks of something that sends no event."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), seconds)


def start_task(awaitable: Awaitable[_T]) -> "asyncio.Task[_T]":
    """Run an awaitable in a task."""

    async def run() -> _T:
        return await awaitable

    return asyncio.create_task(run())


async def is_waiting(task: "asyncio.Task[Any]") -> bool:
    """Return whether the task still waits after all that is ready has run."""
    await turns()
    return not task.done()


@contextlib.asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Check that no task is left at the end, and that no error went to the loop's handler."""
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not errors
