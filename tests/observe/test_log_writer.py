import errno
import io
import os
import threading
from pathlib import Path

import pytest

from wsgate.observe.log_writer import LineWriter, after_prints, to_descriptor, to_stream

FULL = OSError(errno.ENOSPC, "No space left on device")


class Disk:
    """Something to write to. room: bytes that fit, None for any; reports: of errors."""

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


# -- what cannot be written ------------------------------------------------------------------------


def test_lines_are_written(disk: Disk, writer: LineWriter) -> None:
    writer.put(b"one\n")
    writer.write([b"two\n", b"three\n"])
    writer.write([])
    assert disk.data == b"one\ntwo\nthree\n"
    assert not writer.is_failing


def test_a_device_that_takes_a_byte_at_a_time() -> None:
    taken: list[bytes] = []

    def write(data: bytes) -> int:
        taken.append(data[:1])
        return 1

    LineWriter(write, lambda *_: b"", lambda _: True).write([b"one\n", b"two\n"])
    assert b"".join(taken) == b"one\ntwo\n"


def test_an_error_is_reported_once_and_lines_are_counted(disk: Disk, writer: LineWriter) -> None:
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


def test_a_further_error_is_reported_again(disk: Disk, writer: LineWriter) -> None:
    for _ in range(2):
        disk.room = 0
        writer.put(b"lost\n")
        disk.room = None
        writer.put(b"fine\n")
    assert len(disk.reports) == 2
    assert disk.lines == ["<1 No space left on device>", "fine"] * 2


def test_an_error_is_reported_until_that_works(disk: Disk, writer: LineWriter) -> None:
    disk.room, disk.can_report = 0, False
    writer.put(b"lost\n")
    disk.can_report = True
    writer.put(b"lost\n")
    writer.put(b"lost\n")
    assert len(disk.reports) == 2


@pytest.mark.parametrize(("room", "whole", "lost"), [(0, 0, 3), (3, 0, 3), (4, 1, 2), (9, 2, 1)])
def test_a_line_that_is_cut_off_is_lost(
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


def test_the_notice_itself_is_cut_off(disk: Disk, writer: LineWriter) -> None:
    disk.room = 0
    writer.put(b"lost\n")
    disk.room = 3
    writer.put(b"lost\n")
    disk.room = None
    writer.put(b"fine\n")
    assert disk.lines == ["<1 ", "<2 No space left on device>", "fine"]


def test_lines_that_others_have_dropped(disk: Disk, writer: LineWriter) -> None:
    writer.count_lost(7, "too slow")
    writer.write([])
    assert disk.lines == ["<7 too slow>"]


def test_a_reset_forgets_what_was_lost(disk: Disk, writer: LineWriter) -> None:
    disk.room = 0
    writer.put(b"lost\n")
    writer.reset()
    disk.room = None
    writer.put(b"fine\n")
    assert disk.lines == ["fine"]


@pytest.mark.parametrize("error", [ValueError("closed"), RuntimeError("closed")])
def test_any_error_of_a_stream(disk: Disk, error: Exception) -> None:
    def write(data: bytes) -> int:
        raise error

    writer = LineWriter(write, lambda *_: b"", disk.report)
    writer.put(b"lost\n")
    writer.flush(1.0)
    writer.close(1.0)
    assert disk.reports == ["closed"]


# -- where it goes ---------------------------------------------------------------------------------


def test_a_file_gets_lines_after_what_was_printed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as stream:
        write = after_prints(stream)
        for word in ("one", "two"):
            stream.write(f"print {word}\n")
            line = f"line {word}\n".encode()
            assert write(line) == len(line)
        assert path.read_text() == "print one\nline one\nprint two\nline two\n"


def test_a_closed_file(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        write = after_prints(stream)
        write_later = to_descriptor(stream)
    with pytest.raises(ValueError, match="closed file"):
        write(b"x")
    with pytest.raises(ValueError, match="is closed"):
        write_later(b"x")


def test_a_stream_without_a_descriptor() -> None:
    stream = io.StringIO()
    assert to_stream(stream, "latin-1")(b"\xe9\n") == 2
    assert stream.getvalue() == "é\n"


def test_a_pipe_that_does_not_block() -> None:
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
        writer = LineWriter(to_descriptor(stream), lambda *_: b"", lambda _: True)
        writer.put(sent)
        thread.join(30)
    assert b"".join(received) == sent
    assert not writer.is_failing
