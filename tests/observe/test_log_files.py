"""Reopening of log files that were moved away."""

import logging
import logging.handlers
import queue
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.log import LogCapture, capture_log
from wsgate.observe import log_files

Open = Callable[..., logging.FileHandler]


@pytest.fixture(autouse=True)
def log() -> Iterator[LogCapture]:
    with capture_log() as lines:
        yield lines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


@pytest.fixture
def opened(path: Path) -> Iterator[Open]:
    """Return a function that makes handlers of the file; they are closed after the test."""
    made: list[logging.FileHandler] = []

    def make(kind: Open = logging.FileHandler, **options: bool) -> logging.FileHandler:
        made.append(kind(path, encoding="utf-8", **options))
        return made[-1]

    yield make
    for handler in made:
        handler.close()


def emit(handler: logging.Handler, text: str) -> None:
    handler.handle(logging.makeLogRecord({"msg": text}))


def move(path: Path) -> Path:
    return path.rename(path.with_suffix(".1"))


@pytest.mark.parametrize(
    "kind",
    [
        logging.FileHandler,
        logging.handlers.WatchedFileHandler,
        logging.handlers.RotatingFileHandler,
        logging.handlers.TimedRotatingFileHandler,
    ],
)
def test_moved_file_is_reopened(path: Path, opened: Open, log: LogCapture, kind: Open) -> None:
    handler = opened(kind)
    emit(handler, "one")
    assert handler.stream is not None
    stream, moved = handler.stream, move(path)
    log_files.reopen()
    emit(handler, "two")
    assert (moved.read_text(), path.read_text()) == ("one\n", "two\n")
    assert stream.closed
    assert log.messages(logging.INFO) == ["Log files reopened: 1"]


def test_removed_or_replaced_file_is_reopened(path: Path, opened: Open) -> None:
    handler = opened()
    path.unlink()
    log_files.reopen()
    emit(handler, "one")
    assert path.read_text() == "one\n"
    path.unlink()
    path.write_text("from another program\n")
    log_files.reopen()
    emit(handler, "two")
    assert path.read_text() == "from another program\ntwo\n"


def test_file_that_was_not_moved_stays_open(opened: Open, log: LogCapture) -> None:
    handler = opened()
    stream = handler.stream
    log_files.reopen()
    assert handler.stream is stream
    assert log.messages(logging.INFO) == ["Log files reopened: 0"]


def test_a_restart_logs_nothing_if_no_file_was_moved(
    path: Path, opened: Open, log: LogCapture
) -> None:
    opened()
    assert log_files.reopen_moved() == 0
    assert log.messages(logging.INFO) == []
    move(path)
    assert log_files.reopen_moved() == 1
    assert log.messages(logging.INFO) == ["Log files reopened: 1"]


def test_file_that_is_not_open_is_not_opened(path: Path, opened: Open, log: LogCapture) -> None:
    closed = opened()
    closed.close()
    waiting = opened(delay=True)
    path.unlink()
    log_files.reopen()
    assert not path.exists()
    assert closed.stream is waiting.stream is None
    assert log.messages(logging.INFO) == ["Log files reopened: 0"]


def test_file_that_cannot_be_opened_is_logged_and_its_handler_keeps_the_old_one(
    path: Path, opened: Open, log: LogCapture
) -> None:
    handler = opened()
    moved = move(path)
    path.mkdir()
    log_files.reopen()
    emit(handler, "one")
    assert moved.read_text() == "one\n"
    assert len(log.errors) == 1
    assert log.errors[0].startswith(f"Cannot reopen log file {path}: [Errno 21] Is a directory")
    assert log.messages(logging.INFO) == ["Log files reopened: 0"]


def test_failing_handler_does_not_affect_the_others(
    path: Path, opened: Open, log: LogCapture
) -> None:
    class Strange(logging.FileHandler):
        def acquire(self) -> None:
            raise LookupError("strange")

    strange, handler = opened(Strange), opened()
    move(path)
    log_files.reopen()
    emit(handler, "one")
    assert path.read_text() == "one\n"
    assert log.errors == [f"Cannot reopen log file {path}: strange"]
    strange.acquire = logging.FileHandler.acquire.__get__(strange)  # type: ignore[method-assign]


def test_file_of_a_queue_listener_is_reopened(path: Path, opened: Open) -> None:
    lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(lines, opened())
    listener.start()
    move(path)
    log_files.reopen()
    emit(logging.handlers.QueueHandler(lines), "one")
    listener.stop()
    assert path.read_text() == "one\n"
