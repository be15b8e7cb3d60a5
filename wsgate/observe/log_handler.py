"""The handlers of the command line's log: no reader blocks them, no failed write disturbs."""

import io
import logging
import os
import stat
from typing import TextIO, TypeGuard

from wsgate import streams
from wsgate.observe.log_queue import FLUSH_TIME, QueueWriter
from wsgate.observe.log_writer import LineWriter, Writer, after_prints, to_descriptor, to_stream


class ConsoleHandler(logging.Handler):
    """Writes one of the two logs to a standard stream.

    A pipe, a socket or a terminal is written by a thread, for its reader may stop reading. All else
    is written at once. Where writing fails, `other` reports it.

    title: what reports call the log. writer: where its lines go.
    """

    def __init__(self, title: str, stream: TextIO, formatter: logging.Formatter) -> None:
        super().__init__()
        self.formatter = formatter
        self.title = title
        self.other: ConsoleHandler | None = None
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._encode("\u20ac")  # so that Python imports the codec now
        self._buffers_prints = False  # the app's prints wait in the stream, to be flushed
        self.writer = self._make_writer()

    def _make_writer(self) -> Writer:
        stream = self._stream
        if not _has_descriptor(stream):
            return LineWriter(to_stream(stream, self._encoding), self._notice, self._report)
        if not _may_block(stream.fileno()):
            return LineWriter(after_prints(stream), self._notice, self._report)
        self._buffers_prints = not (stream.line_buffering or stream.write_through)
        return QueueWriter(LineWriter(to_descriptor(stream), self._notice, self._report))

    def connect(self, other: "ConsoleHandler") -> None:
        """Have two handlers report each other's errors, and keep the order of lines on one pipe."""
        self.other, other.other = other, self
        if self._is_queued_to_the_same(other):
            other.writer = self.writer

    def _is_queued_to_the_same(self, other: "ConsoleHandler") -> bool:
        queued = isinstance(self.writer, QueueWriter) and isinstance(other.writer, QueueWriter)
        streams = self._stream, other._stream  # noqa: SLF001  # of its own class
        return queued and os.path.sameopenfile(*(stream.fileno() for stream in streams))

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record and hand it to the writer."""
        try:
            line = self._encode(self.format(record))
        except Exception:  # noqa: BLE001  # whatever a record's arguments raise
            self.handleError(record)
        else:
            self._flush_prints()
            self.writer.put(line)

    def _encode(self, text: str) -> bytes:
        return (text + "\n").encode(self._encoding, "backslashreplace")

    def _flush_prints(self) -> None:
        """Let the app's prints reach a pipe before the line, where that does not block."""
        if self._buffers_prints:
            streams.flush(self._stream)

    def warn(self, text: str) -> bool:
        """Write a warning about the log itself; return whether that works."""
        # The other thread that has the lock may wait for ours: then the next line tries again.
        if self.lock is None or not self.lock.acquire(blocking=False):
            return False
        try:
            if not self.writer.is_failing:
                self.writer.put(self._warning(text))
            return not self.writer.is_failing
        finally:
            self.lock.release()

    def _warning(self, text: str) -> bytes:
        record = logging.LogRecord("wsgate.error", logging.WARNING, "", 0, text, (), None)
        return self._encode(self.format(record))

    def _notice(self, count: int, reason: str) -> bytes:
        lines = "1 line is" if count == 1 else f"{count} lines are"
        return self._warning(f"{lines} missing here: {reason}")

    def _report(self, reason: str) -> bool:
        text = f"The {self.title} cannot be written: {reason}"
        return self.other is not None and self.other.warn(text)

    def flush(self) -> None:
        """Wait until all is written, for a second at most."""
        self.writer.flush(FLUSH_TIME)

    def close(self) -> None:
        """Write what is left and end the thread, each for a second at most."""
        self.writer.close(FLUSH_TIME)
        super().close()


def _has_descriptor(stream: TextIO) -> TypeGuard[io.TextIOWrapper]:
    """Return whether a stream writes to a descriptor and to nothing else.

    Others have a `fileno` as well: a notebook's stream names that of the kernel's terminal.
    """
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return type(stream) is io.TextIOWrapper and isinstance(raw, io.FileIO) and not stream.closed


def _may_block(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)
