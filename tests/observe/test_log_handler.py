import contextlib
import io
import logging
import os
import pty
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from wsgate.observe.log_format import ConsoleFormatter
from wsgate.observe.log_handler import ConsoleHandler
from wsgate.observe.log_queue import QueueWriter
from wsgate.observe.log_writer import LineWriter

PATIENCE = 30.0  # seconds after which a test stops waiting
MIB = 1024 * 1024


def handler_of(stream: TextIO, title: str = "access log") -> ConsoleHandler:
    return ConsoleHandler(title, stream, ConsoleFormatter(has_colours=False))


def log(handler: logging.Handler, text: object, *args: object) -> None:
    record = logging.LogRecord("wsgate.access", logging.INFO, "", 0, text, args, None)
    handler.handle(record)


class Pipe:
    """A pipe. stream: a text stream that writes to it."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        self.stream = open(writer, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        self.seen = b""

    def read(self, size: int) -> bytes:
        """Wait for `size` bytes; return them."""
        data = b""
        while len(data) < size and select.select([self.reader], [], [], PATIENCE)[0]:
            data += os.read(self.reader, size - len(data))
        return data

    def read_until(self, end: bytes) -> bytes:
        """Wait for a line that contains `end`; return all that was read."""
        while end not in self.seen or not self.seen.endswith(b"\n"):
            assert select.select([self.reader], [], [], PATIENCE)[0], self.seen[-200:]
            self.seen += os.read(self.reader, MIB)
        return self.seen

    def fill(self) -> int:
        """Write until the pipe is full; return the number of bytes."""
        descriptor, size = self.stream.fileno(), 0
        os.set_blocking(descriptor, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                size += os.write(descriptor, bytes(4_096))
        os.set_blocking(descriptor, True)
        return size

    def hang_up(self) -> None:
        """Close the reader's end."""
        if self.reader >= 0:
            os.close(self.reader)
        self.reader = -1

    def close(self) -> None:
        self.hang_up()
        with contextlib.suppress(OSError):
            self.stream.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def handler(pipe: Pipe) -> Iterator[ConsoleHandler]:
    handler = handler_of(pipe.stream)
    yield handler
    pipe.close()  # this also ends a blocked write
    handler.close()


# -- which streams get a thread --------------------------------------------------------------------


def test_pipes_sockets_and_terminals_are_written_by_a_thread(pipe: Pipe) -> None:
    ours, theirs = socket.socketpair()
    master, slave = pty.openpty()
    with ours, theirs, ours.makefile("w") as sock, open(slave, "w") as tty:  # noqa: PTH123
        assert isinstance(handler_of(pipe.stream).writer, QueueWriter)
        assert isinstance(handler_of(tty).writer, QueueWriter)
        # A socket's file object is not a file on a descriptor; a file on a socket's descriptor is.
        assert isinstance(handler_of(sock).writer, LineWriter)
        with open(ours.fileno(), "w", closefd=False) as stream:
            assert isinstance(handler_of(stream).writer, QueueWriter)
    os.close(master)


def test_files_and_devnull_are_written_at_once(tmp_path: Path) -> None:
    for path in (tmp_path / "log", Path(os.devnull)):
        with path.open("w") as stream:
            assert isinstance(handler_of(stream).writer, LineWriter)


class Tee(io.TextIOWrapper):
    """A stream that does more than write to its descriptor."""

    copies = ""

    def write(self, text: str) -> int:
        self.copies += text
        return super().write(text)


def test_subclass_of_a_text_stream_is_written_by_its_own_method(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Tee((path).open("wb"), encoding="utf-8") as stream:
        log(handler_of(stream), "twice")
        assert stream.copies == path.read_text() == "INFO:     twice\n"


class Minimal:
    """The methods of a stream that `logging` needs."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_minimal_stream() -> None:
    stream: Any = Minimal()
    log(handler_of(stream), "line")
    assert stream.text == "INFO:     line\n"


def test_closed_stream_is_reported_by_the_other_handler() -> None:
    stream, other = io.StringIO(), io.StringIO()
    stream.close()
    handler = handler_of(stream)
    handler.connect(handler_of(other, "error log"))
    log(handler, "line")
    assert other.getvalue() == (
        "WARNING:  The access log cannot be written: I/O operation on closed file\n"
    )


# -- lines and prints ------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "koi8-r", "cp1252"])
def test_characters_outside_the_encoding_are_escaped(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "log"
    with path.open("w", encoding=encoding) as stream:
        log(handler_of(stream), "é \ud800 日本 %s", "\x80")
    expected = "INFO:     é \ud800 日本 \x80\n".encode(encoding, "backslashreplace")
    assert path.read_bytes() == expected


def test_record_that_cannot_be_formatted_is_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    with path.open("w") as stream:
        handler = handler_of(stream)
        log(handler, "%d", "no number")
        log(handler, "next")
    assert path.read_text() == "INFO:     next\n"
    assert "--- Logging error ---" in capsys.readouterr().err


def test_prints_to_a_file_stay_in_order_with_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as stream:
        handler = handler_of(stream)
        for number in range(3):
            print("print", number, file=stream)
            log(handler, "line %d", number)
    assert path.read_text() == "".join(f"print {n}\nINFO:     line {n}\n" for n in range(3))


def test_prints_to_a_pipe_arrive_before_the_next_line(pipe: Pipe, handler: ConsoleHandler) -> None:
    print("print", file=pipe.stream)
    log(handler, "line")
    assert pipe.read_until(b"line") == b"print\nINFO:     line\n"


def test_prints_to_a_full_pipe_do_not_block(pipe: Pipe, handler: ConsoleHandler) -> None:
    size = pipe.fill()
    print("print", file=pipe.stream)
    log(handler, "line")
    assert len(pipe.read(size)) == size
    log(handler, "next")
    assert b"print\n" in pipe.read_until(b"next")


def test_two_logs_on_one_pipe_keep_their_order(pipe: Pipe) -> None:
    with open(os.dup(pipe.stream.fileno()), "w") as same:  # noqa: PTH123
        one, two = handler_of(pipe.stream), handler_of(same, "error log")
        one.connect(two)
        for number in range(1_000):
            log((one, two)[number % 2], "%d", number)
        lines = pipe.read_until(b" 999\n").decode().splitlines()
        assert lines == [f"INFO:     {number}" for number in range(1_000)]
        one.close()
        two.close()


def test_two_pipes_get_a_thread_each(pipe: Pipe, handler: ConsoleHandler) -> None:
    other = Pipe()
    two = handler_of(other.stream)
    handler.connect(two)
    log(handler, "one")
    log(two, "two")
    assert pipe.read_until(b"\n") == b"INFO:     one\n"
    assert other.read_until(b"\n") == b"INFO:     two\n"
    two.close()
    other.close()


# -- readers that stop or leave --------------------------------------------------------------------


def test_lines_for_a_pipe_that_nobody_reads_are_dropped_and_counted(
    pipe: Pipe, handler: ConsoleHandler
) -> None:
    count, text = 4_000, "x" * 1_000
    for _ in range(count):
        log(handler, text)
    handler.flush()
    handler.flush()
    pipe.read_until(b"missing here")
    assert isinstance(handler.writer, QueueWriter)
    while (
        not handler.writer._is_empty()
    ):  # more lines were dropped meanwhile, or the thread is late
        handler.flush()
    log(handler, "the last")
    *lines, last = pipe.read_until(b"the last").decode().splitlines()
    whole = lines.count(f"INFO:     {text}")
    notices = [line for line in lines if line != f"INFO:     {text}"]
    assert all(
        line.endswith("lines are missing here: nobody read them in time") for line in notices
    )
    missing = sum(int(line.split()[1]) for line in notices)
    assert 0 < missing < count
    assert whole + missing == count
    assert last == "INFO:     the last"


def test_stopped_terminal_does_not_block() -> None:
    master, slave = pty.openpty()
    with open(slave, "w") as tty:  # noqa: PTH123
        handler = handler_of(tty)
        for _ in range(2_000):  # nobody reads the other end, as after Ctrl-S
            log(handler, "x" * 1_000)
        os.close(master)
        handler.close()


def test_reader_that_leaves_is_reported_once(pipe: Pipe, handler: ConsoleHandler) -> None:
    other = io.StringIO()
    handler.connect(handler_of(other, "error log"))
    pipe.hang_up()
    for _ in range(100):
        log(handler, "line")
        handler.flush()
    assert other.getvalue() == "WARNING:  The access log cannot be written: Broken pipe\n"


def test_full_disk_is_reported_once() -> None:
    other = io.StringIO()
    with Path("/dev/full").open("w") as stream:
        handler = handler_of(stream)
        handler.connect(handler_of(other, "error log"))
        for _ in range(100):
            log(handler, "line")
    assert other.getvalue() == (
        "WARNING:  The access log cannot be written: No space left on device\n"
    )


def test_both_logs_may_fail(pipe: Pipe, handler: ConsoleHandler) -> None:
    with Path("/dev/full").open("w") as stream:
        errors = handler_of(stream, "error log")
        errors.connect(handler)
        pipe.hang_up()
        for _ in range(3):
            log(handler, "line")
            log(errors, "line")
            handler.flush()
        assert handler.writer.is_failing
        assert errors.writer.is_failing


def test_report_does_not_wait_for_a_lock(pipe: Pipe, handler: ConsoleHandler) -> None:
    """Otherwise two threads that report to each other's handler would deadlock."""
    text = io.StringIO()
    other = handler_of(text, "error log")
    handler.connect(other)
    pipe.hang_up()
    assert other.lock is not None
    is_held, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with other.lock:  # type: ignore[union-attr]
            is_held.set()
            may_end.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    assert is_held.wait(PATIENCE)
    log(handler, "line")
    handler.flush()
    assert text.getvalue() == ""
    may_end.set()
    thread.join(PATIENCE)
    log(handler, "line")
    handler.flush()
    assert text.getvalue() == "WARNING:  The access log cannot be written: Broken pipe\n"


def test_logging_shutdown_does_not_hang(pipe: Pipe, handler: ConsoleHandler) -> None:
    size = pipe.fill()
    log(handler, "line")
    handler.flush()
    logging.shutdown([lambda: handler])  # handlers are kept as weak references there
    assert len(pipe.read(size)) == size
    assert pipe.read_until(b"line") == b"INFO:     line\n"
