"""What an event loop is doing now: the stack of its thread, and those of its tasks, as text."""

import asyncio
import contextlib
import gc
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any

from wsgate import threads

MOST_FRAMES = 50  # of a stack; of a longer one the innermost
_PAUSE = 0.01  # seconds for the event loop to go on with what it would do without the question


def thread_stack(thread: int) -> list[str]:
    """Return the stack of a thread, the innermost call first; empty if it has ended.

    Args:
        thread: Its `threading.get_ident`.
    """
    frame = sys._current_frames().get(thread)  # noqa: SLF001  # documented so
    calls = [_place(one.f_code, line) for one, line in traceback.walk_stack(frame)] if frame else []
    return calls[:MOST_FRAMES]


def task_stack(task: "asyncio.Task[Any]") -> list[str]:
    """Return where a task waits, the innermost call first.

    `Task.get_stack` returns only the outermost coroutine of a task that waits.
    """
    calls = [_place(frame.f_code, frame.f_lineno) for frame in _frames(task.get_coro())]
    return calls[-MOST_FRAMES:][::-1]


def _frames(awaited: object) -> Iterator[FrameType]:
    """Yield the frames of a coroutine and of what it waits for, as far as they are of Python."""
    while awaited is not None:
        names = _names_of(awaited)
        if names is None:  # the iterator of an asynchronous generator does not name that
            awaited = next(filter(_names_of, gc.get_referents(awaited)), None)
            continue
        frame_name, next_name = names
        frame = getattr(awaited, frame_name)
        if frame is not None:
            yield frame
        awaited = getattr(awaited, next_name)


def _names_of(awaited: object) -> tuple[str, str] | None:
    """Return the attributes with the frame of a coroutine or generator, and with what it awaits."""
    return next((names for kind, names in _CHAINS if isinstance(awaited, kind)), None)


_CHAINS: tuple[tuple[type, tuple[str, str]], ...] = (
    (CoroutineType, ("cr_frame", "cr_await")),
    (GeneratorType, ("gi_frame", "gi_yieldfrom")),
    (AsyncGeneratorType, ("ag_frame", "ag_await")),
)


def _place(code: CodeType, line: int | None) -> str:
    """Return a place in the form of `faulthandler`."""
    return f'File "{code.co_filename}", line {line} in {code.co_name}'


async def loop_stack() -> list[str]:
    """Return what the running event loop does shortly after this call, as another thread sees it.

    While it waits for events, that is the call of `select` or the like.
    """
    loop, watched = asyncio.get_running_loop(), threading.get_ident()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def give(stack: list[str]) -> None:
        if not answer.done():
            answer.set_result(stack)

    def read() -> None:
        time.sleep(_PAUSE)
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(give, thread_stack(watched))

    # A thread of its own: those of the loop's executor may all be in use.
    threads.daemon_thread(read, "wsgate-stack").start()
    return await answer
