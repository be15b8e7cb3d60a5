"""The event loop of a program: makes it, and closes it with all tasks and threads."""

import asyncio
import contextlib
import errno
import resource
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from wsgate import loggers, threads
from wsgate.config import Loop
from wsgate.errors import ConfigError
from wsgate.observe import console_log
from wsgate.observe.throttled_log import throttled
from wsgate.server.lifecycle import CANCEL_TIMEOUT


@contextlib.contextmanager
def opened(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> Iterator[asyncio.AbstractEventLoop]:
    """Make an event loop; at the end, close it with what is left in it, and flush the log."""
    loop = make_loop()
    loop.set_exception_handler(_on_loop_error)
    executor = ThreadPoolExecutor(thread_name_prefix="asyncio")
    loop.set_default_executor(executor)
    try:
        yield loop
    finally:
        _close_loop(loop, executor)
        throttled.report_all()  # what was counted after the server's stop
        console_log.flush()


def raise_file_limit() -> None:
    """Raise the limit of open files to the hard limit: each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems refuse their own hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        throttled.warning("No file descriptor is left to accept a connection (ulimit -n)")
    elif not _is_late_retry(error, context):
        try:
            loop.default_exception_handler(context)
        except Exception as failure:  # noqa: BLE001  # a host's handler of the logger `asyncio`
            text = "An error of the event loop cannot be logged (%r): %s"
            loggers.error.error(text, failure, context.get("message"))


def _is_late_retry(error: object, context: dict[str, Any]) -> bool:
    """Return whether asyncio tried again to accept on a socket that had been closed.

    It does so a second after an accept failed for lack of a file descriptor.
    """
    return isinstance(error, ValueError) and "._start_serving(" in context.get("message", "")


def factory(name: Loop) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the function that makes an event loop. Raises ConfigError if it is not installed."""
    if name in ("asyncio", "none"):
        return asyncio.new_event_loop
    try:
        import uvloop  # noqa: PLC0415  # it is optional
    except ImportError:
        if name == "uvloop":
            raise ConfigError("--loop uvloop: uvloop is not installed", setting="loop") from None
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _close_loop(loop: asyncio.AbstractEventLoop, executor: ThreadPoolExecutor) -> None:
    """Cancel the tasks, end the threads and close the loop.

    Tasks and threads may not end: each wait has a timeout.
    """
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=CANCEL_TIMEOUT))
        _run_with_timeout(loop, loop.shutdown_asyncgens())
        loop.run_until_complete(_shut_down(executor))
    finally:
        loop.close()


def _run_with_timeout(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None]
) -> None:
    loop.run_until_complete(asyncio.wait([loop.create_task(coroutine)], timeout=CANCEL_TIMEOUT))


async def _shut_down(executor: ThreadPoolExecutor) -> None:
    """Wait for an executor's threads for `CANCEL_TIMEOUT` seconds: an app may have blocked them.

    `loop.shutdown_default_executor` has no timeout in Python 3.11. Its thread also raises an error
    if the loop is closed before the executor's threads end.
    """
    loop = asyncio.get_running_loop()
    has_ended = asyncio.Event()

    def shut_down() -> None:
        executor.shutdown()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(has_ended.set)

    threads.daemon_thread(shut_down, "wsgate-executor-end").start()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CANCEL_TIMEOUT):
            await has_ended.wait()
