import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from wsgate.observe import log_queue
from wsgate.observe.log_queue import QUEUE_SIZE, QueueWriter
from wsgate.observe.log_writer import LineWriter

PATIENCE = 30.0  # seconds after which what a test waits for will not come
LINE = b"x" * 999 + b"\n"
FIT = QUEUE_SIZE // len(LINE)  # lines that the queue has room for


class Reader:
    """Takes what is written, while it is open. writes: what came in each."""

    def __init__(self) -> None:
        self.is_open = threading.Event()
        self.is_entered = threading.Event()
        self.writes: list[bytes] = []
        self.error: OSError | None = None
        self.reports: list[str] = []
        self._grown = threading.Condition()

    def wait_for(self, count: int) -> None:
        """Wait until so many lines have come."""
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
def queue(reader: Reader) -> Iterator[QueueWriter]:
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
    assert "wsgate-log" not in {thread.name for thread in threading.enumerate()}


def test_a_thread_writes_in_order(queue: QueueWriter, reader: Reader) -> None:
    assert "wsgate-log" not in {thread.name for thread in threading.enumerate()}
    lines = [b"%d\n" % number for number in range(10_000)]
    for line in lines:
        queue.put(line)
    queue.flush(PATIENCE)
    assert reader.lines == lines
    assert not queue.is_failing


def test_what_is_queued_is_written_at_once(queue: QueueWriter, reader: Reader) -> None:
    reader.is_open.clear()
    queue.put(b"first\n")
    assert reader.is_entered.wait(PATIENCE)
    for _ in range(100):
        queue.put(b"line\n")
    reader.is_open.set()
    queue.flush(PATIENCE)
    assert reader.writes == [b"first\n", b"line\n" * 100]


def test_a_reader_that_stops(queue: QueueWriter, reader: Reader) -> None:
    reader.is_open.clear()
    queue.put(LINE)
    assert reader.is_entered.wait(PATIENCE)  # the thread takes no more, so there is one notice
    for _ in range(FIT - 1 + 500):
        queue.put(LINE)
    reader.is_open.set()
    queue.flush(PATIENCE)
    queue.put(b"next\n")
    queue.flush(PATIENCE)
    assert reader.lines == [LINE] * FIT + [b"<500 nobody read them in time>\n", b"next\n"]


def test_nothing_is_taken_out_of_order(queue: QueueWriter, reader: Reader) -> None:
    reader.is_open.clear()
    queue.put(LINE)
    assert reader.is_entered.wait(PATIENCE)
    for _ in range(FIT - 1):
        queue.put(LINE)
    queue.put(LINE)  # no room
    queue.put(b"\n")  # for this there would be
    reader.is_open.set()
    queue.flush(PATIENCE)
    assert reader.lines == [LINE] * FIT + [b"<2 nobody read them in time>\n"]


def test_a_line_that_is_larger_than_the_queue(queue: QueueWriter, reader: Reader) -> None:
    queue.put(b"x" * (QUEUE_SIZE + 1))
    queue.flush(PATIENCE)
    assert reader.lines == [b"<1 nobody read them in time>\n"]


def test_an_error(queue: QueueWriter, reader: Reader) -> None:
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


# -- waiting for the reader ------------------------------------------------------------------------


def test_a_flush_has_an_end(queue: QueueWriter, reader: Reader) -> None:
    reader.is_open.clear()
    queue.put(b"line\n")
    queue.flush(0.05)
    queue.flush(PATIENCE * 10)  # the first one was in vain, and nothing was written since
    assert reader.writes == []
    reader.is_open.set()
    queue.put(b"line\n")
    reader.wait_for(2)
    assert reader.lines == [b"line\n"] * 2


def test_a_thread_that_is_stuck_stays(queue: QueueWriter, reader: Reader) -> None:
    reader.is_open.clear()
    queue.put(b"one\n")
    queue.close(0.05)
    queue.put(b"two\n")
    assert [thread.name for thread in threading.enumerate()].count("wsgate-log") == 1
    reader.is_open.set()
    reader.wait_for(2)
    assert reader.lines == [b"one\n", b"two\n"]


def test_it_goes_on_after_its_close(queue: QueueWriter, reader: Reader) -> None:
    for _ in range(3):
        queue.put(b"line\n")
        queue.close(PATIENCE)
        assert "wsgate-log" not in {thread.name for thread in threading.enumerate()}
    assert reader.lines == [b"line\n"] * 3


def test_no_thread_can_be_started(
    queue: QueueWriter, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        queue.put(b"lost\n")
        queue.put(b"lost\n")
        queue.flush(PATIENCE)
    queue.put(b"fine\n")
    queue.flush(PATIENCE)
    assert reader.lines == [b"<2 can't start new thread>\n", b"fine\n"]


def test_a_signal_s_handler_may_log(queue: QueueWriter, reader: Reader) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: queue.put(b"signal\n"))
    try:
        with queue._changed:  # as if it came in the middle of `put`
            os.kill(os.getpid(), signal.SIGUSR1)
            queue.put(b"line\n")
    finally:
        signal.signal(signal.SIGUSR1, before)
    queue.flush(PATIENCE)
    assert sorted(reader.lines) == [b"line\n", b"signal\n"]


def test_a_busy_log_is_written_in_batches(
    queue: QueueWriter, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_queue, "PAUSE", PATIENCE)
    queue.put(b"first\n")
    with queue._changed:
        assert queue._changed.wait_for(lambda: queue._batches == 1, PATIENCE)
    for _ in range(100):
        queue.put(b"line\n")
    assert reader.writes == [b"first\n"]
    queue.flush(PATIENCE)  # which does not wait for the pause to end
    assert reader.writes == [b"first\n", b"line\n" * 100]


# -- a forked child --------------------------------------------------------------------------------

FORKS = """
import os, sys, threading
from wsgate.observe.log_queue import QueueWriter
from wsgate.observe.log_writer import LineWriter

may_write = threading.Event()

def write(data):
    may_write.wait(30)
    return os.write(1, data)

queue = QueueWriter(LineWriter(write, lambda *_: b"missing", lambda _: True))
queue.put(b"parent\\n")  # and is not written yet
child = os.fork()
if child == 0:
    may_write.set()
    queue.flush(30)  # the parent's lines are not the child's
    queue.close(30)
    queue.put(b"child\\n")
    queue.flush(30)
    os._exit(0)
os.waitpid(child, 0)
may_write.set()
queue.put(b"parent again\\n")
queue.close(30)
"""


def test_a_child_begins_with_an_empty_queue(
    queue: QueueWriter, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        queue.put(b"lost\n")  # in the parent
    pid = os.getpid() + 1
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: pid)
        queue.flush(PATIENCE)
        queue.put(b"child\n")
        queue.close(PATIENCE)
    assert reader.lines == [b"child\n"]


def test_a_forked_child_logs_its_own_lines() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKS]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout == "child\nparent\nparent again\n"
    assert found.stderr == ""
