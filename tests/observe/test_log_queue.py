import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.harness.processes import ROOT
from wsgate.observe import log_queue
from wsgate.observe.log_queue import QUEUE_SIZE, QueueWriter
from wsgate.observe.log_writer import LineWriter

PATIENCE = 30.0  # seconds after which a test stops waiting
LINE = b"x" * 999 + b"\n"
CAPACITY = QUEUE_SIZE // len(LINE)  # lines that fit into the queue


class Reader:
    """Receives what is written; while `is_open` is not set, it blocks. writes: the data of each."""

    def __init__(self) -> None:
        self.is_open = threading.Event()
        self.is_entered = threading.Event()
        self.writes: list[bytes] = []
        self.error: OSError | None = None
        self.reports: list[str] = []
        self._grown = threading.Condition()

    def wait_for(self, count: int) -> None:
        """Wait until `count` lines have arrived."""
        with self._grown:
            assert self._grown.wait_for(lambda: len(self.lines) >= count, PATIENCE)

    def write(self, data: bytes) -> int:
        self.is_entered.set()
        assert self.is_open.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        with self._grown:
            self.writes.append(data)
            self._grown.notify_all()
        return len(data)

    def report(self, reason: str) -> bool:
        self.reports.append(reason)
        return True

    @property
    def lines(self) -> list[bytes]:
        return b"".join(self.writes).splitlines(keepends=True)


@pytest.fixture
def reader() -> Reader:
    reader = Reader()
    reader.is_open.set()
    return reader


@pytest.fixture
def count_threads() -> Callable[[], int]:
    """Count the log's threads that the test has started: an earlier test may have left one."""
    before = set(threading.enumerate())

    def count() -> int:
        started = set(threading.enumerate()) - before
        return sum(thread.name == "wsgate-log" for thread in started)

    return count


@pytest.fixture
def queue(reader: Reader, count_threads: Callable[[], int]) -> Iterator[QueueWriter]:
    queue = QueueWriter(
        LineWriter(
            reader.write,
            lambda count, reason: f"<{count} {reason}>\n".encode(),
            reader.report,
        )
    )
    yield queue
    reader.is_open.set()
    queue.close(PATIENCE)
    assert not count_threads()


def test_thread_writes_in_order(
    queue: QueueWriter, reader: Reader, count_threads: Callable[[], int]
) -> None:
    assert not count_threads()
    lines = [b"%d\n" % number for number in range(10_000)]
    for line in lines:
        queue.put(line)
    queue.flush(PATIENCE)
    assert reader.lines == lines
    assert not queue.is_failing


def test_queued_lines_are_written_in_one_write(queue: QueueWriter, reader: Reader) -> None:
    reader.is_open.clear()
    queue.put(b"first\n")
    assert reader.is_entered.wait(PATIENCE)
    for _ in range(100):
        queue.put(b"line\n")
    reader.is_open.set()
    queue.flush(PATIENCE)
    assert reader.writes == [b"first\n", b"line\n" * 100]


def test_lines_beyond_the_queue_are_dropped_and_counted(queue: QueueWriter, reader: Reader) -> None:
    reader.is_open.clear()
    queue.put(LINE)
    assert reader.is_entered.wait(PATIENCE)  # the thread takes no more, so there is one notice
    for _ in range(CAPACITY - 1 + 500):
        queue.put(LINE)
    reader.is_open.set()
    queue.flush(PATIENCE)
    queue.put(b"next\n")
    queue.flush(PATIENCE)
    assert reader.lines == [LINE] * CAPACITY + [b"<500 nobody read them in time>\n", b"next\n"]


def test_short_line_does_not_overtake_a_dropped_one(queue: QueueWriter, reader: Reader) -> None:
    reader.is_open.clear()
    queue.put(LINE)
    assert reader.is_entered.wait(PATIENCE)
    for _ in range(CAPACITY - 1):
        queue.put(LINE)
    queue.put(LINE)  # no room
    queue.put(b"\n")  # this would fit
    reader.is_open.set()
    queue.flush(PATIENCE)
    assert reader.lines == [LINE] * CAPACITY + [b"<2 nobody read them in time>\n"]


def test_line_larger_than_the_queue_is_dropped(queue: QueueWriter, reader: Reader) -> None:
    queue.put(b"x" * (QUEUE_SIZE + 1))
    queue.flush(PATIENCE)
    assert reader.lines == [b"<1 nobody read them in time>\n"]


def test_error_is_reported_once(queue: QueueWriter, reader: Reader) -> None:
    reader.error = BrokenPipeError(32, "Broken pipe")
    for _ in range(3):
        queue.put(b"lost\n")
        queue.flush(PATIENCE)
    assert reader.reports == ["Broken pipe"]
    assert queue.is_failing
    reader.error = None
    queue.put(b"fine\n")
    queue.flush(PATIENCE)
    assert reader.lines == [b"<3 Broken pipe>\n", b"fine\n"]
    assert not queue.is_failing


# -- flush and close -------------------------------------------------------------------------------


def test_flush_times_out_once(queue: QueueWriter, reader: Reader) -> None:
    reader.is_open.clear()
    queue.put(b"line\n")
    queue.flush(0.05)
    queue.flush(PATIENCE * 10)  # returns at once: the first timed out, nothing was written since
    assert reader.writes == []
    reader.is_open.set()
    queue.put(b"line\n")
    reader.wait_for(2)
    assert reader.lines == [b"line\n"] * 2


def test_blocked_thread_is_not_replaced(
    queue: QueueWriter, reader: Reader, count_threads: Callable[[], int]
) -> None:
    reader.is_open.clear()
    queue.put(b"one\n")
    queue.close(0.05)
    queue.put(b"two\n")
    assert count_threads() == 1
    reader.is_open.set()
    reader.wait_for(2)
    assert reader.lines == [b"one\n", b"two\n"]


def test_line_after_close_restarts_the_thread(
    queue: QueueWriter, reader: Reader, count_threads: Callable[[], int]
) -> None:
    for _ in range(3):
        queue.put(b"line\n")
        queue.close(PATIENCE)
        assert not count_threads()
    assert reader.lines == [b"line\n"] * 3


def fail_to_start(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_lines_are_lost_while_no_thread_can_be_started(
    queue: QueueWriter, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail_to_start)
        queue.put(b"lost\n")
        queue.put(b"lost\n")
        queue.flush(PATIENCE)
    queue.put(b"fine\n")
    queue.flush(PATIENCE)
    assert reader.lines == [b"<2 can't start new thread>\n", b"fine\n"]


def test_signal_handler_may_log(queue: QueueWriter, reader: Reader) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: queue.put(b"signal\n"))
    try:
        with queue._changed:  # as if the signal arrived within `put`
            os.kill(os.getpid(), signal.SIGUSR1)
            queue.put(b"line\n")
    finally:
        signal.signal(signal.SIGUSR1, before)
    queue.flush(PATIENCE)
    assert sorted(reader.lines) == [b"line\n", b"signal\n"]


def test_busy_log_is_written_in_batches(
    queue: QueueWriter, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_queue, "BATCH_INTERVAL", PATIENCE)
    queue.put(b"first\n")
    with queue._changed:
        assert queue._changed.wait_for(lambda: queue._batches == 1, PATIENCE)
    for _ in range(100):
        queue.put(b"line\n")
    assert reader.writes == [b"first\n"]
    queue.flush(PATIENCE)  # does not wait for the interval to end
    assert reader.writes == [b"first\n", b"line\n" * 100]


# -- forked children -------------------------------------------------------------------------------


def test_forked_child_starts_with_an_empty_queue(
    queue: QueueWriter, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail_to_start)
        queue.put(b"lost\n")  # in the parent
    pid = os.getpid() + 1
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: pid)
        queue.flush(PATIENCE)
        queue.put(b"child\n")
        queue.close(PATIENCE)
    assert reader.lines == [b"child\n"]


def test_forked_child_logs_its_own_lines_only() -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.apps.forked_log"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "child\nparent\nparent again\n"
    assert done.stderr == ""
