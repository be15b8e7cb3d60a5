"""The thread that logs what blocks the event loop."""

import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.harness.log import LogCapture
from wsgate.server import watchdog as module
from wsgate.server.watchdog import BLOCKED, NoWatchdog, Watchdog

PATIENCE = 30.0


def test_a_missing_heartbeat_is_logged_once(log: LogCapture) -> None:
    watchdog = Watchdog()
    last = watchdog._beat
    watchdog.check(last + BLOCKED - 0.01)
    assert log.warnings == []
    watchdog.check(last + 1.25)
    watchdog.check(last + 2)
    (line,) = log.warnings
    assert line.startswith("The event loop has been blocked for 1.2 s by check (watchdog.py, line ")
    # Three calls, the innermost first.
    assert line.count(" < ") == 2
    assert " < test_a_missing_heartbeat_is_logged_once (test_watchdog.py, line " in line


def test_a_heartbeat_starts_a_new_interval(log: LogCapture) -> None:
    watchdog = Watchdog()
    watchdog.check(watchdog._beat + 1.25)
    watchdog.beat()
    watchdog.check(watchdog._beat + 0.9)
    assert len(log.warnings) == 1
    watchdog.check(watchdog._beat + 1.25)
    assert len(log.warnings) == 2


def test_a_thread_without_a_stack(log: LogCapture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_current_frames", dict)
    watchdog = Watchdog()
    watchdog.check(watchdog._beat + 3)
    assert log.warnings == ["The event loop has been blocked for 3.0 s by an unknown call"]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc")
def test_its_thread_leaves_signals_to_the_main_thread() -> None:
    watchdog = Watchdog()
    watchdog.start()
    try:
        deadline = time.monotonic() + PATIENCE
        while not {2, 15, 1} <= blocked(watchdog._thread):
            assert time.monotonic() < deadline
    finally:
        watchdog.stop()


def blocked(thread: threading.Thread) -> set[int]:
    """Return the signals that a thread has blocked."""
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    mask = int(next(line for line in status.splitlines() if line.startswith("SigBlk:"))[7:], 16)
    return {number for number in range(1, 65) if mask >> number - 1 & 1}


def test_it_stops_even_if_never_started() -> None:
    Watchdog().stop()


def test_it_reports_the_stack_of_the_thread_that_started_it(
    log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCKED", 0.0)
    monkeypatch.setattr(module, "_PERIOD", 0.05)
    logged = threading.Event()
    watchdog = Watchdog()

    def blocks() -> None:
        watchdog.start()
        assert logged.wait(PATIENCE)

    class FakeLogger:
        def warning(self, text: str, *more: object) -> None:
            log.records[:] = []
            lines.append(text % more)
            logged.set()

    lines: list[str] = []
    monkeypatch.setattr(module, "loggers", SimpleNamespace(error=FakeLogger()))
    thread = threading.Thread(target=blocks)
    thread.start()
    assert logged.wait(PATIENCE)
    thread.join(PATIENCE)
    watchdog.stop()
    assert not watchdog._thread.is_alive()
    assert "blocks (test_watchdog.py, line " in lines[0]


def test_a_watchdog_that_was_late_itself_logs_nothing(
    log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([10.0, 11.1, 12.0, 12.25])
    fake_time = SimpleNamespace(monotonic=lambda: next(times))
    watchdog = Watchdog()
    watchdog._beat = 10.0
    checks: list[float] = []
    waits = iter([False, False, False, True])
    monkeypatch.setattr(watchdog, "check", checks.append)
    monkeypatch.setattr(watchdog, "_stopped", SimpleNamespace(wait=lambda _: next(waits)))
    monkeypatch.setattr(module, "time", fake_time)
    watchdog._watch()
    assert checks == [11.1, 12.25]


def test_its_thread_sleeps_until_a_beat_would_be_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.0
    watchdog = Watchdog()
    slept: list[float] = []

    def wait(seconds: float) -> bool:
        nonlocal now
        slept.append(seconds)
        now += seconds
        if len(slept) == 2:
            watchdog._beat = now - 0.25  # the loop runs again
        return len(slept) == 4

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(watchdog, "_stopped", SimpleNamespace(wait=wait))
    watchdog.beat()
    watchdog._watch()
    assert slept == [1.0, 0.25, 0.75, 0.25]


def test_a_pause_that_was_announced_is_not_a_missing_beat(log: LogCapture) -> None:
    watchdog = Watchdog()
    before = time.monotonic()
    watchdog.beat(5.0)
    watchdog.check(before + 5.0 - 0.25 + BLOCKED - 0.01)
    assert log.warnings == []
    watchdog.check(before + 7.0)
    assert len(log.warnings) == 1


def test_the_real_clock_is_a_monotonic_one() -> None:
    before = time.monotonic()
    watchdog = Watchdog()
    assert before <= watchdog._beat <= time.monotonic()


def test_it_reports_how_long_the_loop_was_blocked(log: LogCapture) -> None:
    Watchdog().report_blocked(5.04)
    assert log.warnings == ["The event loop was blocked for 5.0 s; deadlines are extended"]


def test_in_its_place_nothing_watches_and_reports(log: LogCapture) -> None:
    before = threading.active_count()
    instead = NoWatchdog()
    instead.start()
    instead.beat()
    instead.report_blocked(5.0)
    assert threading.active_count() == before
    instead.stop()
    assert log.warnings == []
