"""Writes log lines, counts those that cannot be written and says so in the log."""

import os
import select
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Protocol, TextIO

Write = Callable[[bytes], int]


class Writer(Protocol):
    """Writes the lines of a handler."""

    @property
    def is_failing(self) -> bool:
        """Whether lines are lost because the last write raised an error."""

    def put(self, line: bytes) -> None:
        """Write or queue a line; never raises, and never blocks on a reader."""

    def flush(self, timeout: float) -> None:
        """Wait until all lines are written, for `timeout` seconds at most."""

    def close(self, timeout: float) -> None:
        """Flush and end what runs in the background; another line starts it again."""


class LineWriter:
    """Writes lines in the calling thread.

    An error is reported once, until a write succeeds again. Lost lines are counted; once writing
    works again, a notice in their place says how many they were.

    Args:
        write: as `os.write` without its descriptor; called with the bytes of lines.
        format_loss: called with the number of lost lines and the reason; returns the notice's line.
        report_failure: reports that writing fails, called with the reason; returns whether that
            report was written.
    """

    def __init__(
        self,
        write: Write,
        format_loss: Callable[[int, str], bytes],
        report_failure: Callable[[str], bool],
    ) -> None:
        self._write = write
        self._format_loss = format_loss
        self._report_failure = report_failure
        self.reset()

    def reset(self) -> None:
        """Forget errors and lost lines."""
        self.is_failing = False
        self._is_reported = False
        self._is_line_cut = False  # an error cut off the last line
        self._lost = 0
        self._reason = ""

    def put(self, line: bytes) -> None:
        """Write a line."""
        if not (self._lost or self.is_failing):  # the common case, in one step
            try:
                written = self._write(line)
            except Exception:  # noqa: BLE001  # `write` gets the same error and handles it
                written = 0
            if written == len(line):
                return
            line = line[written:]
        self.write([line])

    def write(self, lines: Sequence[bytes]) -> None:
        """Write lines, after a notice about lines that were lost before them."""
        if self._lost and not self._write_loss():
            self._lost += len(lines)
            return
        written, error = self._write_all(b"".join(lines))
        if error is not None:
            self._lost = sum(end > written for end in accumulate(map(len, lines)))
            self._fail(error)
        elif self.is_failing:
            self.is_failing = self._is_reported = False

    def count_lost(self, count: int, reason: str) -> None:
        """Count lines that were dropped elsewhere; the next write starts with the notice."""
        self._lost += count
        self._reason = reason

    def _write_loss(self) -> bool:
        """Write the notice about lost lines; return whether that worked."""
        notice = self._format_loss(self._lost, self._reason)
        _, error = self._write_all(b"\n" + notice if self._is_line_cut else notice)
        if error is not None:
            self._fail(error)
            return False
        self._lost = 0
        return True

    def _write_all(self, data: bytes) -> tuple[int, Exception | None]:
        """Return how many bytes were written, and the error if these are not all."""
        written = 0
        error = None
        try:
            while written < len(data):
                written += self._write(_next_piece(data, written))
        except Exception as caught:  # noqa: BLE001  # the host's stream may raise anything
            error = caught
        if written:
            self._is_line_cut = data[written - 1 : written] != b"\n"
        return written, error

    def _fail(self, error: Exception) -> None:
        self.is_failing = True
        self._reason = getattr(error, "strerror", None) or str(error)
        if not self._is_reported:
            self._is_reported = self._report_failure(self._reason)

    def flush(self, timeout: float) -> None:
        """Do nothing: each line is written at once."""

    def close(self, timeout: float) -> None:
        """Do nothing: the stream belongs to the program."""


def _next_piece(data: bytes, start: int) -> bytes:
    """Return the next whole lines of data, as many as a pipe takes in one step.

    The lines of several workers go into one pipe. Only writes of up to PIPE_BUF bytes are not mixed
    with those of others (POSIX, write()), so a longer line may be.
    """
    end = start + select.PIPE_BUF
    if end >= len(data):
        return data[start:]
    after_line = data.rfind(b"\n", start, end) + 1 or data.find(b"\n", end) + 1
    return data[start : after_line or len(data)]


def make_descriptor_write(stream: TextIO) -> Write:
    """Return a function that writes to a stream's descriptor, and waits if it is non-blocking."""
    descriptor = stream.fileno()
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)

    def write(data: bytes) -> int:
        if stream.closed:
            raise ValueError("the stream is closed")  # its number may be another file's by now
        while True:
            try:
                return os.write(descriptor, data)
            except BlockingIOError:  # another process that shares the pipe made it non-blocking
                poll.poll()

    return write


def make_flushing_write(stream: TextIO) -> Write:
    """Return a function that writes to a stream's descriptor after flushing the app's prints."""
    descriptor = stream.fileno()

    def write(data: bytes) -> int:
        stream.flush()
        return os.write(descriptor, data)

    return write


def make_stream_write(stream: TextIO, encoding: str) -> Write:
    """Return a function that writes to a stream that has no descriptor."""

    def write(data: bytes) -> int:
        stream.write(data.decode(encoding))
        stream.flush()
        return len(data)

    return write
