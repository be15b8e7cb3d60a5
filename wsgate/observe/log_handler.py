"""The handler of the command line's log: slow readers do not block it, errors do not escape it."""

import io
import logging
import os
import stat
from typing import TextIO, TypeGuard

from wsgate import streams
from wsgate.observe.log_queue import FLUSH_TIMEOUT, QueueWriter
from wsgate.observe.log_writer import (
    LineWriter,
    Writer,
    make_descriptor_write,
    make_flushing_write,
    make_stream_write,
)


class ConsoleHandler(logging.Handler):
    """Writes the error log or the access log to a standard stream.

    Pipes, sockets and terminals are written by a thread, because their reader may stop reading. All
    other streams are written in the calling thread.

    Attributes:
        title: the name of the log in reports about it.
        writer: writes the lines.
        other: the handler that reports this one's errors.
    """

    def __init__(self, title: str, stream: TextIO, formatter: logging.Formatter) -> None:
        super().__init__()
        self.formatter = formatter
        self.title = title
        self.other: ConsoleHandler | None = None
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._encode("\u20ac")  # Python imports the codec now: later, descriptors may run out
        self._must_flush_prints = False  # the app's prints are buffered in the stream
        self.writer = self._make_writer()

    def _make_writer(self) -> Writer:
        stream = self._stream
        if not _has_descriptor(stream):
            write = make_stream_write(stream, self._encoding)
            return LineWriter(write, self._format_loss, self._report_failure)
        if not _may_block(stream.fileno()):
            write = make_flushing_write(stream)
            return LineWriter(write, self._format_loss, self._report_failure)
        self._must_flush_prints = not (stream.line_buffering or stream.write_through)
        write = make_descriptor_write(stream)
        return QueueWriter(LineWriter(write, self._format_loss, self._report_failure))

    def connect(self, other: "ConsoleHandler") -> None:
        """Make two handlers report each other's errors.

        If both write to the same pipe, they share a queue, which keeps their lines in order.
        """
        self.other, other.other = other, self
        if self._is_queued_to_same_file(other):
            other.writer = self.writer

    def _is_queued_to_same_file(self, other: "ConsoleHandler") -> bool:
        are_queued = isinstance(self.writer, QueueWriter) and isinstance(other.writer, QueueWriter)
        streams = self._stream, other._stream  # noqa: SLF001  # the same class
        return are_queued and os.path.sameopenfile(*(stream.fileno() for stream in streams))

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record and pass it to the writer; never raises."""
        try:
            line = self._encode(self.format(record))
        except Exception:  # noqa: BLE001  # a record's arguments may raise anything
            self.handleError(record)
        else:
            self._flush_prints()
            self.writer.put(line)

    def _encode(self, text: str) -> bytes:
        return (text + "\n").encode(self._encoding, "backslashreplace")

    def _flush_prints(self) -> None:
        """Write the app's buffered prints to the pipe before the line, unless that would block."""
        if self._must_flush_prints:
            streams.flush(self._stream)

    def warn(self, text: str) -> bool:
        """Write a warning about the log itself; return whether it was written."""
        # A thread that holds this lock may wait for the lock of the calling handler. The caller
        # reports its error again with its next line.
        if self.lock is None or not self.lock.acquire(blocking=False):
            return False
        try:
            if not self.writer.is_failing:
                self.writer.put(self._format_warning(text))
            return not self.writer.is_failing
        finally:
            self.lock.release()

    def _format_warning(self, text: str) -> bytes:
        record = logging.LogRecord("wsgate.error", logging.WARNING, "", 0, text, (), None)
        return self._encode(self.format(record))

    def _format_loss(self, count: int, reason: str) -> bytes:
        lines = "1 line is" if count == 1 else f"{count} lines are"
        return self._format_warning(f"{lines} missing here: {reason}")

    def _report_failure(self, reason: str) -> bool:
        text = f"The {self.title} cannot be written: {reason}"
        return self.other is not None and self.other.warn(text)

    def flush(self) -> None:
        """Wait until all lines are written, for a second at most."""
        self.writer.flush(FLUSH_TIMEOUT)

    def close(self) -> None:
        """Write the lines that are left and end the thread, each for a second at most."""
        self.writer.close(FLUSH_TIMEOUT)
        super().close()


def _has_descriptor(stream: TextIO) -> TypeGuard[io.TextIOWrapper]:
    """Return whether a stream is a plain text file on a descriptor.

    A `fileno` alone does not show that: a notebook's stream returns that of the kernel's terminal.
    """
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return type(stream) is io.TextIOWrapper and isinstance(raw, io.FileIO) and not stream.closed


def _may_block(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)
