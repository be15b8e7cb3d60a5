import errno
import io
import os
import select
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from wsgate.observe.log_writer import (
    LineWriter,
    make_descriptor_write,
    make_flushing_write,
    make_stream_write,
)

FULL = OSError(errno.ENOSPC, "No space left on device")


class Disk:
    """A disk. room: bytes that fit, None for any number. reports: the reported errors."""

    def __init__(self) -> None:
        self.data = b""
        self.room: int | None = None
        self.reports: list[str] = []
        self.can_report = True

    def write(self, data: bytes) -> int:
        if self.room == 0:
            raise FULL
        taken = data if self.room is None else data[: self.room]
        self.data += taken
        if self.room is not None:
            self.room -= len(taken)
        return len(taken)

    def report(self, reason: str) -> bool:
        self.reports.append(reason)
        return self.can_report

    @property
    def lines(self) -> list[str]:
        return self.data.decode().splitlines()


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def writer(disk: Disk) -> LineWriter:
    return LineWriter(
        disk.write, lambda count, reason: b"<%d %b>\n" % (count, reason.encode()), disk.report
    )


# -- lines that cannot be written ------------------------------------------------------------------


def test_lines_are_written(disk: Disk, writer: LineWriter) -> None:
    writer.put(b"one\n")
    writer.write([b"two\n", b"three\n"])
    writer.write([])
    assert disk.data == b"one\ntwo\nthree\n"
    assert not writer.is_failing


def test_short_writes_are_continued() -> None:
    taken: list[bytes] = []

    def write(data: bytes) -> int:
        taken.append(data[:1])
        return 1

    LineWriter(write, lambda *_: b"", lambda _: True).write([b"one\n", b"two\n"])
    assert b"".join(taken) == b"one\ntwo\n"


def test_error_is_reported_once_and_lost_lines_are_counted(disk: Disk, writer: LineWriter) -> None:
    disk.room = 0
    for _ in range(3):
        writer.put(b"lost\n")
    writer.write([b"lost\n", b"lost\n"])
    assert disk.reports == ["No space left on device"]
    assert writer.is_failing
    disk.room = None
    writer.put(b"works\n")
    writer.put(b"again\n")
    assert disk.lines == ["<5 No space left on device>", "works", "again"]
    assert not writer.is_failing


def test_next_error_is_reported_again(disk: Disk, writer: LineWriter) -> None:
    for _ in range(2):
        disk.room = 0
        writer.put(b"lost\n")
        disk.room = None
        writer.put(b"fine\n")
    assert len(disk.reports) == 2
    assert disk.lines == ["<1 No space left on device>", "fine"] * 2


def test_report_is_repeated_until_it_is_written(disk: Disk, writer: LineWriter) -> None:
    disk.room, disk.can_report = 0, False
    writer.put(b"lost\n")
    disk.can_report = True
    writer.put(b"lost\n")
    writer.put(b"lost\n")
    assert len(disk.reports) == 2


@pytest.mark.parametrize(("room", "whole", "lost"), [(0, 0, 3), (3, 0, 3), (4, 1, 2), (9, 2, 1)])
def test_line_that_is_cut_off_counts_as_lost(
    disk: Disk, writer: LineWriter, room: int, whole: int, lost: int
) -> None:
    disk.room = room
    lines = [b"one\n", b"two\n", b"six\n"]
    writer.write(lines)
    disk.room = None
    writer.put(b"ten\n")
    cut_off = b"".join(lines)[:room].decode().splitlines()[whole:]
    full = [line.decode().strip() for line in lines[:whole]]
    assert disk.lines == [*full, *cut_off, f"<{lost} No space left on device>", "ten"]


def test_notice_that_is_cut_off_is_repeated(disk: Disk, writer: LineWriter) -> None:
    disk.room = 0
    writer.put(b"lost\n")
    disk.room = 3
    writer.put(b"lost\n")
    disk.room = None
    writer.put(b"fine\n")
    assert disk.lines == ["<1 ", "<2 No space left on device>", "fine"]


def test_lines_dropped_elsewhere_are_counted(disk: Disk, writer: LineWriter) -> None:
    writer.count_lost(7, "too slow")
    writer.write([])
    assert disk.lines == ["<7 too slow>"]


def test_reset_forgets_lost_lines(disk: Disk, writer: LineWriter) -> None:
    disk.room = 0
    writer.put(b"lost\n")
    writer.reset()
    disk.room = None
    writer.put(b"fine\n")
    assert disk.lines == ["fine"]


@pytest.mark.parametrize("error", [ValueError("closed"), RuntimeError("closed")])
def test_any_exception_of_a_stream_is_caught(disk: Disk, error: Exception) -> None:
    def write(data: bytes) -> int:
        raise error

    writer = LineWriter(write, lambda *_: b"", disk.report)
    writer.put(b"lost\n")
    writer.flush(1.0)
    writer.close(1.0)
    assert disk.reports == ["closed"]


# -- where lines are written -----------------------------------------------------------------------


def test_file_gets_prints_before_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as stream:
        write = make_flushing_write(stream)
        for word in ("one", "two"):
            stream.write(f"print {word}\n")
            line = f"line {word}\n".encode()
            assert write(line) == len(line)
        assert path.read_text() == "print one\nline one\nprint two\nline two\n"


def test_closed_file_raises(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        write = make_flushing_write(stream)
        write_later = make_descriptor_write(stream)
    with pytest.raises(ValueError, match="closed file"):
        write(b"x")
    with pytest.raises(ValueError, match="is closed"):
        write_later(b"x")


def test_stream_without_a_descriptor() -> None:
    stream = io.StringIO()
    assert make_stream_write(stream, "latin-1")(b"\xe9\n") == 2
    assert stream.getvalue() == "é\n"


def test_write_to_a_non_blocking_pipe_waits() -> None:
    reader, descriptor = os.pipe()
    os.set_blocking(descriptor, False)
    with open(descriptor, "w") as stream, open(reader, "rb", buffering=0) as read:  # noqa: PTH123
        sent = b"x" * 500_000
        received: list[bytes] = []

        def read_all() -> None:
            while sum(map(len, received)) < len(sent):
                received.append(read.read(65_536) or b"")

        thread = threading.Thread(target=read_all)
        thread.start()
        writer = LineWriter(make_descriptor_write(stream), lambda *_: b"", lambda _: True)
        writer.put(sent)
        thread.join(30)
    assert b"".join(received) == sent
    assert not writer.is_failing


# -- several processes on one pipe -----------------------------------------------------------------


def test_lines_of_several_processes_are_not_mixed() -> None:
    # A reader that is slow makes the pipe full, so that writes are cut where they may be.
    reader, end = os.pipe()
    children = []
    for name in b"ab":
        if not (child := os.fork()):
            line = bytes([name]) * 96 + b"\n"
            writer = LineWriter(lambda data: os.write(end, data), _never, _never)
            writer.write([line] * 5_000)
            os._exit(0)
        children.append(child)
    os.close(end)
    with os.fdopen(reader, "rb") as pipe:
        lines = set(pipe)
    assert lines == {b"a" * 96 + b"\n", b"b" * 96 + b"\n"}
    for child in children:
        assert os.waitpid(child, 0)[1] == 0


def _never(*_: object) -> Any:
    raise AssertionError("no line is lost")


@given(st.lists(st.integers(0, 9_000), min_size=1, max_size=20))
def test_pieces_are_whole_lines(sizes: list[int]) -> None:
    lines = [b"x" * size + b"\n" for size in sizes]
    pieces: list[bytes] = []

    def write(data: bytes) -> int:
        pieces.append(data)
        return len(data)

    writer = LineWriter(write, _never, _never)
    writer.write(lines)
    assert b"".join(pieces) == b"".join(lines)
    for piece in pieces:
        assert piece.endswith(b"\n")
        assert len(piece) <= select.PIPE_BUF or piece.count(b"\n") == 1
