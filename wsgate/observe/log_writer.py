"""Writes the lines of a log, and keeps account of those that cannot be written."""

import os
import select
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Protocol, TextIO

Write = Callable[[bytes], int]


class Writer(Protocol):
    """What a handler hands its lines to.

    is_failing: the last write raised an error.
    """

    @property
    def is_failing(self) -> bool:
        """Whether lines are lost because writing raises errors."""

    def put(self, line: bytes) -> None:
        """Take a line; never raises and never blocks on a reader."""

    def flush(self, seconds: float) -> None:
        """Wait until all lines are written, or until the seconds are over."""

    def close(self, seconds: float) -> None:
        """Flush, and end what runs; a further line starts it again."""


class LineWriter:
    """Writes lines in the calling thread.

    An error is reported once, until a write succeeds again. Lines that were lost are counted, and
    a notice in their place says how many once writing works.

    write: as `os.write`, for the bytes of lines. notice(count, reason): the line for lost lines.
    report(reason): reports that writing fails; returns whether it could.
    """

    def __init__(
        self,
        write: Write,
        notice: Callable[[int, str], bytes],
        report: Callable[[str], bool],
    ) -> None:
        self._write = write
        self._notice = notice
        self._report = report
        self.reset()

    def reset(self) -> None:
        """Forget about errors and lost lines."""
        self.is_failing = False
        self._is_reported = False
        self._is_torn = False  # a line was cut off by an error
        self._lost = 0
        self._reason = ""

    def put(self, line: bytes) -> None:
        """Write a line."""
        if not (self._lost or self.is_failing):  # as nearly always: the same in one step
            try:
                written = self._write(line)
            except Exception:  # noqa: BLE001  # `write` meets it again, and deals with it
                written = 0
            if written == len(line):
                return
            line = line[written:]
        self.write([line])

    def write(self, lines: Sequence[bytes]) -> None:
        """Write lines, after a notice of those that were lost before."""
        if self._lost and not self._write_notice():
            self._lost += len(lines)
            return
        written, error = self._write_all(b"".join(lines))
        if error is not None:
            self._lost = sum(end > written for end in accumulate(map(len, lines)))
            self._fail(error)
        elif self.is_failing:
            self.is_failing = self._is_reported = False

    def count_lost(self, count: int, reason: str) -> None:
        """Count lines that were dropped before they came here; the next write tells of them."""
        self._lost += count
        self._reason = reason

    def _write_notice(self) -> bool:
        notice = self._notice(self._lost, self._reason)
        _, error = self._write_all(b"\n" + notice if self._is_torn else notice)
        if error is not None:
            self._fail(error)
            return False
        self._lost = 0
        return True

    def _write_all(self, data: bytes) -> tuple[int, Exception | None]:
        """Return how many bytes were written, and the error that ended it."""
        written = 0
        error = None
        try:
            while written < len(data):
                written += self._write(data[written:])
        except Exception as caught:  # noqa: BLE001  # a stream of the host's may raise anything
            error = caught
        if written:
            self._is_torn = data[written - 1 : written] != b"\n"
        return written, error

    def _fail(self, error: Exception) -> None:
        self.is_failing = True
        self._reason = getattr(error, "strerror", None) or str(error)
        if not self._is_reported:
            self._is_reported = self._report(self._reason)

    def flush(self, seconds: float) -> None:
        """Do nothing: each line is written at once."""

    def close(self, seconds: float) -> None:
        """Do nothing: the stream is not ours."""


def to_descriptor(stream: TextIO) -> Write:
    """Return what writes to a stream's descriptor, and waits where that is non-blocking."""
    descriptor = stream.fileno()
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)

    def write(data: bytes) -> int:
        if stream.closed:
            raise ValueError("the stream is closed")  # its number may be another file's by now
        while True:
            try:
                return os.write(descriptor, data)
            except BlockingIOError:  # another process that shares the pipe has made it so
                poll.poll()

    return write


def after_prints(stream: TextIO) -> Write:
    """Return what writes to a stream's descriptor, after what the app has printed."""
    descriptor = stream.fileno()

    def write(data: bytes) -> int:
        stream.flush()
        return os.write(descriptor, data)

    return write


def to_stream(stream: TextIO, encoding: str) -> Write:
    """Return what writes to a stream without a descriptor."""

    def write(data: bytes) -> int:
        stream.write(data.decode(encoding))
        stream.flush()
        return len(data)

    return write
