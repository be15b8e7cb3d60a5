"""Notifications to systemd: what is sent, when, and that no failure does any harm."""

import asyncio
import errno
import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.log import LogCapture, capture_log
from tests.harness.service_manager import NotifySocket, notify_socket
from tests.harness.waiting import turns
from wsgate.config import Config
from wsgate.observe import log_files
from wsgate.process import server as server_module
from wsgate.process.server import Server
from wsgate.process.systemd import Notifier

LINUX = hasattr(socket, "SO_PEERCRED")
NAMES = ("http://127.0.0.1:8000", "unix socket s")
RUNNING = {"READY": "1", "STATUS": "Running on http://127.0.0.1:8000, unix socket s"}


@pytest.fixture(autouse=True)
def log() -> Iterator[LogCapture]:
    with capture_log() as lines:
        yield lines


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NotifySocket]:
    monkeypatch.chdir(tmp_path)
    with notify_socket("n") as found:
        yield found


async def app(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError


class Clock:
    """Calls what is scheduled with `call_later` when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pauses: list[float] = []
        self._call: Callable[[], object] = lambda: None
        self.cancelled = 0
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", self.call_later)

    def call_later(self, pause: float, callback: Any, *arguments: Any) -> "Clock":
        self.pauses.append(pause)
        self._call = lambda: callback(*arguments)
        return self

    def cancel(self) -> None:
        self.cancelled += 1

    def advance(self) -> None:
        self._call()


# -- the state -------------------------------------------------------------------------------------


async def test_a_server_reports_its_start_and_its_stop(manager: NotifySocket) -> None:
    server = Server(app, Config(port=0, lifespan="off"), notifier=Notifier("n"))
    assert not manager.waiting()
    await server.start()
    host, port = server.sockets[0].getsockname()
    started = {"READY": "1", "STATUS": f"Running on http://{host}:{port}"}
    assert manager.waiting() == [started]
    await server.stop()
    assert manager.waiting() == [{"STOPPING": "1", "STATUS": "Shutting down"}]
    await server.stop()
    assert not manager.waiting()


async def test_a_server_that_does_not_start_reports_nothing(manager: NotifySocket) -> None:
    server = Server(app, Config(port=0, lifespan="on"), notifier=Notifier("n"))
    with pytest.raises(Exception, match="lifespan"):
        await server.start()
    assert not manager.waiting()


async def test_a_server_within_a_program_reports_nothing(
    manager: NotifySocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "n")
    server = Server(app, Config(port=0, lifespan="off"))
    await server.start()
    server.reload()
    await server.stop()
    assert not manager.waiting()


async def test_a_reload_has_a_beginning_and_an_end(manager: NotifySocket) -> None:
    notifier = Notifier("n")
    notifier.ready(NAMES)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
    with notifier.reloading():
        ready, reloading = manager.waiting()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
    assert ready == RUNNING
    assert before <= int(reloading.pop("MONOTONIC_USEC")) <= after
    assert reloading == {"RELOADING": "1", "STATUS": "Reloading"}
    assert manager.waiting() == [RUNNING]
    notifier.close()


async def test_a_reload_that_fails_ends(manager: NotifySocket) -> None:
    notifier = Notifier("n")
    notifier.ready(NAMES)
    with pytest.raises(RuntimeError), notifier.reloading():
        raise RuntimeError
    assert manager.waiting()[-1] == RUNNING
    notifier.close()


async def test_a_reload_before_the_start_and_during_the_stop_is_not_reported(
    manager: NotifySocket,
) -> None:
    notifier = Notifier("n")
    with notifier.reloading():
        pass
    assert not manager.waiting()
    notifier.ready(NAMES)
    notifier.stopping(None)
    manager.waiting()
    with notifier.reloading():
        pass
    notifier.ready(NAMES)
    manager.waiting()
    with notifier.reloading():
        notifier.stopping(None)
    assert "READY" not in manager.waiting()[-1]
    notifier.close()


async def test_the_reload_of_a_server_reopens_the_log_files(
    manager: NotifySocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    notifier = Notifier("n")
    notifier.ready(NAMES)
    manager.waiting()
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(log_files, "reopen", lambda: seen.extend(manager.waiting()))
    Server(app, Config(), notifier=notifier).reload()
    assert [notification["RELOADING"] for notification in seen] == ["1"]
    assert manager.waiting() == [RUNNING]
    notifier.close()


@pytest.mark.parametrize(
    ("drain", "graceful", "seconds"), [(0, 10, None), (20, 10, 47.0), (0.5, 0, 9.5)]
)
def test_a_stop_with_a_drain_extends_the_timeout(
    drain: float, graceful: float, seconds: float | None
) -> None:
    config = Config(drain_seconds=drain, timeout_graceful_shutdown=graceful)
    assert server_module.stop_seconds(config) == seconds


@pytest.mark.parametrize(
    ("seconds", "usec"),
    [(47.5, 47_500_000), (math.inf, 2**62), (1e300, 2**62), (0.1, 100_000)],
)
def test_the_extension_is_in_microseconds(manager: NotifySocket, seconds: float, usec: int) -> None:
    notifier = Notifier("n")
    notifier.stopping(seconds)
    (stopping,) = manager.waiting()
    assert stopping["EXTEND_TIMEOUT_USEC"] == str(usec)
    notifier.close()


async def test_a_name_cannot_add_a_line(manager: NotifySocket) -> None:
    notifier = Notifier("n")
    notifier.ready(["unix socket a\nMAINPID=1"])
    assert manager.waiting() == [{"READY": "1", "STATUS": "Running on unix socket a\\nMAINPID=1"}]
    notifier.close()


# -- the watchdog ----------------------------------------------------------------------------------


async def test_the_watchdog_is_notified_twice_as_often_as_it_expects(
    manager: NotifySocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    notifier = Notifier("n", watchdog=30.0)
    notifier.ready(NAMES)
    assert manager.waiting() == [RUNNING, {"WATCHDOG": "1"}]
    for _ in range(3):
        clock.advance()
        assert manager.waiting() == [{"WATCHDOG": "1"}]
    notifier.stopping(None)  # a stop may be blocked, too
    clock.advance()
    assert manager.waiting()[1:] == [{"WATCHDOG": "1"}]
    assert clock.pauses == [15.0] * 5
    notifier.close()
    assert clock.cancelled == 1


async def test_a_watchdog_that_is_too_quick_does_not_occupy_the_loop(
    manager: NotifySocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    notifier = Notifier("n", watchdog=1e-6)
    notifier.ready(NAMES)
    assert clock.pauses == [0.01]
    notifier.close()


@pytest.mark.parametrize(
    ("variables", "pauses"),
    [
        ({"WATCHDOG_USEC": "4000000"}, [2.0]),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}, [2.0]),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": ""}, [2.0]),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}, []),
        ({"WATCHDOG_USEC": ""}, []),
        ({}, []),
    ],
)
async def test_the_environment_sets_the_watchdog(
    manager: NotifySocket,
    monkeypatch: pytest.MonkeyPatch,
    log: LogCapture,
    variables: dict[str, str],
    pauses: list[float],
) -> None:
    clock = Clock(monkeypatch)
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": "n", **variables})
    notifier.ready(NAMES)
    assert manager.waiting()[0] == RUNNING
    assert clock.pauses == pauses
    assert not log.records
    notifier.close()


@pytest.mark.parametrize("usec", ["0", "-1", "soon", "1.5", str(2**64 - 1), "9" * 5_000])
def test_a_malformed_watchdog_is_ignored(log: LogCapture, usec: str) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": "n", "WATCHDOG_USEC": usec})
    assert notifier._pause is None
    assert log.warnings == [f"WATCHDOG_USEC={usec} is ignored: not microseconds"]


# -- the socket ------------------------------------------------------------------------------------


@pytest.mark.parametrize("variables", [{}, {"NOTIFY_SOCKET": ""}, {"WATCHDOG_USEC": "soon"}])
async def test_without_a_socket_nothing_is_done(
    monkeypatch: pytest.MonkeyPatch, log: LogCapture, variables: dict[str, str]
) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(socket, "socket", None)
    notifier = Notifier.from_environment(variables)
    notifier.ready(NAMES)
    with notifier.reloading():
        pass
    notifier.stopping(1.0)
    notifier.close()
    assert not clock.pauses
    assert not log.records


@pytest.mark.skipif(not LINUX, reason="only Linux has abstract sockets")
async def test_a_socket_may_be_abstract() -> None:
    name = f"@wsgate-notify-{os.getpid()}"
    with notify_socket(name) as manager:
        notifier = Notifier(name)
        notifier.ready(NAMES)
        assert manager.waiting() == [RUNNING]
        notifier.close()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("/nowhere/notify", os.strerror(errno.ENOENT)),
        ("vsock:2:1234", os.strerror(errno.ENOENT)),
        ("/" + "a" * 200, "AF_UNIX path too long"),
        ("/a\nb", os.strerror(errno.ENOENT)),
    ],
)
async def test_a_failure_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, log: LogCapture, address: str, reason: str
) -> None:
    clock = Clock(monkeypatch)
    notifier = Notifier(address, watchdog=1.0)
    notifier.ready(NAMES)
    clock.advance()
    with notifier.reloading():
        pass
    notifier.stopping(None)
    notifier.close()
    escaped = address.replace("\n", "\\n")
    assert log.problems == [f"NOTIFY_SOCKET={escaped}: systemd is not notified: {reason}"]


async def test_a_manager_that_does_not_read_is_waited_for_a_little(
    manager: NotifySocket, monkeypatch: pytest.MonkeyPatch, log: LogCapture
) -> None:
    monkeypatch.setattr("wsgate.process.systemd._SEND_TIMEOUT", 0.01)
    clock = Clock(monkeypatch)
    notifier = Notifier("n", watchdog=1.0)
    notifier.ready(NAMES)
    for _ in range(1_000):  # more than the kernel keeps; none of them waits or is reported
        clock.advance()
    assert not log.records
    notifier.stopping(None)
    assert log.warnings == ["NOTIFY_SOCKET=n: systemd is not notified: timed out"]
    notifier.close()


async def test_the_socket_stays_open_for_the_watchdog(
    manager: NotifySocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When no descriptor is free, a server that runs must not be restarted."""
    clock = Clock(monkeypatch)
    notifier = Notifier("n", watchdog=1.0)
    notifier.ready(NAMES)
    manager.waiting()

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", refuse)
        clock.advance()
    assert manager.waiting() == [{"WATCHDOG": "1"}]
    notifier.close()


async def test_a_forked_child_is_silent(
    manager: NotifySocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    notifier = Notifier("n")
    monkeypatch.setattr(os, "getpid", lambda: 1)
    notifier.ready(NAMES)
    notifier.stopping(None)
    notifier.close()
    await turns(1)
    assert not manager.waiting()
