"""The event loop of a program: which one, its limit of open files, errors that reach it."""

import asyncio
import contextlib
import errno
import resource
import socket
import sys
import threading
from typing import Any

import pytest
import uvloop

from tests.harness.log import capture_log
from wsgate.errors import ConfigError
from wsgate.observe.throttled_log import ThrottledLog
from wsgate.process import event_loop as module

# -- the loop --------------------------------------------------------------------------------------


def test_loop_setting_selects_the_loop() -> None:
    assert module.factory("asyncio") is asyncio.new_event_loop
    assert module.factory("uvloop") is uvloop.new_event_loop
    assert module.factory("auto") is uvloop.new_event_loop


def test_auto_falls_back_to_asyncio_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert module.factory("auto") is asyncio.new_event_loop
    with pytest.raises(ConfigError) as raised:
        module.factory("uvloop")
    assert str(raised.value) == "--loop uvloop: uvloop is not installed"
    assert raised.value.setting == "loop"


# -- open files ------------------------------------------------------------------------------------


def test_file_limit_is_raised_to_the_hard_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 512))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_to.append(limits))
    module.raise_file_limit()
    assert set_to == [(512, 512)]


@pytest.mark.parametrize("error", [ValueError, OSError])
def test_failure_to_raise_the_file_limit_is_ignored(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(resource, "setrlimit", refuse)
    module.raise_file_limit()


class Loop:
    """Records the calls of the default handler. left: their contexts."""

    def __init__(self) -> None:
        self.left: list[dict[str, Any]] = []

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.left.append(context)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_lack_of_file_descriptors_is_logged_once(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop: Any = Loop()
    monkeypatch.setattr(module, "throttled", ThrottledLog())
    with capture_log() as log:
        for _ in range(100):
            module._on_loop_error(loop, {"exception": OSError(number, "too many"), "socket": 1})
    assert log.warnings == ["No file descriptor is left to accept a connection (ulimit -n)"]
    assert loop.left == []


def test_retry_of_an_accept_on_a_closed_socket_is_ignored() -> None:
    handler: Any = Loop()
    loop = asyncio.SelectorEventLoop()
    loop.set_exception_handler(lambda _, context: module._on_loop_error(handler, context))
    sock = socket.socket()
    sock.close()
    # asyncio calls this later, after an accept that failed for lack of a file descriptor.
    loop.call_soon(loop._start_serving, asyncio.Protocol, sock)  # type: ignore[attr-defined]
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert handler.left == []


@pytest.mark.parametrize(
    "context",
    [
        {"message": "a task was destroyed"},
        {"message": "m", "exception": OSError(errno.EPIPE, "broken")},
        {"message": "m", "exception": ValueError()},
    ],
)
def test_other_errors_go_to_the_default_handler(context: dict[str, Any]) -> None:
    loop: Any = Loop()
    module._on_loop_error(loop, context)
    assert loop.left == [context]


def test_failing_logger_of_asyncio_does_not_end_the_loop() -> None:
    class Fails(Loop):
        def default_exception_handler(self, context: dict[str, Any]) -> None:
            raise OSError(errno.EMFILE, "too many open files")

    loop: Any = Fails()
    with capture_log() as log:
        module._on_loop_error(loop, {"message": "a task was destroyed"})
    assert log.errors == [
        (
            "An error of the event loop cannot be logged (OSError(24, 'too many open files')): "
            "a task was destroyed"
        )
    ]


# -- the end ---------------------------------------------------------------------------------------

LOOPS = pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])


@LOOPS
def test_the_loop_is_closed_with_its_tasks_threads_and_generators(make_loop: Any) -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("task")

    async def generate() -> Any:
        try:
            yield 1
        finally:
            ended.append("generator")

    async def main() -> None:
        kept.append(asyncio.create_task(wait()))
        kept.append(generate())
        await anext(kept[1])
        await asyncio.to_thread(ended.append, "thread")

    kept: list[Any] = []
    with module.opened(make_loop) as loop:
        loop.run_until_complete(main())
        assert ended == ["thread"]
    assert ended == ["thread", "task", "generator"]
    assert loop.is_closed()


@LOOPS
def test_the_loop_is_closed_after_an_error(make_loop: Any) -> None:
    made = []

    def fail() -> None:
        with module.opened(make_loop) as loop:
            made.append(loop)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert made[0].is_closed()


@LOOPS
def test_a_task_that_ignores_its_cancellation_does_not_keep_the_loop(
    make_loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CANCEL_TIMEOUT", 0.01)

    async def ignore() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    with module.opened(make_loop) as loop:
        task = loop.create_task(ignore())
        loop.run_until_complete(asyncio.sleep(0))
    assert loop.is_closed()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio would warn of it


@LOOPS
def test_a_blocked_thread_does_not_keep_the_loop(
    make_loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CANCEL_TIMEOUT", 0.01)
    release = threading.Event()
    with module.opened(make_loop) as loop:
        loop.run_in_executor(None, release.wait)
        loop.run_until_complete(asyncio.sleep(0))
    assert loop.is_closed()
    release.set()
