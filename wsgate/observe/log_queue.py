"""A bounded queue of log lines and the thread that writes them, so that readers cannot block us."""

import os
import threading

from wsgate import threads
from wsgate.observe.log_writer import LineWriter

QUEUE_SIZE = 1024 * 1024  # bytes of lines that may be queued; further lines are dropped
FLUSH_TIMEOUT = 1.0  # seconds that a flush of the log waits for a reader
BATCH_INTERVAL = 0.01  # seconds between two writes, so that a busy log is written in batches


class QueueWriter:
    """Passes lines to a thread that writes them.

    Lines for which the queue has no room are dropped; a notice in their place says how many. The
    thread starts with the first line, and with the first one in a forked child.
    """

    def __init__(self, output: LineWriter) -> None:
        self._output = output
        self._reset()

    def _reset(self) -> None:
        """Start with an empty queue and without a thread."""
        self._pid = os.getpid()
        self._changed = threading.Condition()  # reentrant: a signal handler may log
        self._thread: threading.Thread | None = None
        self._lines: list[bytes] = []
        self._size = 0  # bytes of lines that are queued or being written
        self._dropped = 0  # lines dropped after those in the queue
        self._is_thread_waiting = False  # for lines
        self._flushes = 0  # running calls of `flush`
        self._batches = 0  # written so far
        self._gave_up_at = -1  # the value of `_batches` when a flush timed out

    @property
    def is_failing(self) -> bool:
        """Whether lines are lost because the last write raised an error."""
        return self._output.is_failing

    def put(self, line: bytes) -> None:
        """Queue a line, or drop it if the queue is full."""
        self._reset_after_fork()
        size = len(line)  # before the lock: a signal handler may log within the call
        with self._changed:
            if self._dropped or self._size + size > QUEUE_SIZE:
                self._dropped += 1
            else:
                self._lines.append(line)
                self._size += size
            if self._thread is None:
                self._start_thread()
            elif self._is_thread_waiting:
                self._changed.notify_all()

    def _reset_after_fork(self) -> None:
        """Start anew in a forked child: the thread and the lines belong to the parent."""
        if self._pid != os.getpid():
            self._reset()
            self._output.reset()

    def _start_thread(self) -> None:
        self._thread = threads.daemon_thread(self._run, "wsgate-log")
        try:
            self._thread.start()
        except RuntimeError as error:  # the system's limit of threads, or the interpreter's end
            self._thread = None
            self._output.count_lost(len(self._lines) + self._dropped, str(error))
            self._lines.clear()
            self._size = self._dropped = 0

    def _run(self) -> None:
        while not self._has_ended():
            lines, dropped = self._take()
            self._output.write(lines)
            if dropped:
                self._output.count_lost(dropped, "nobody read them in time")
                self._output.write([])
            self._finish_batch(sum(map(len, lines)))

    def _has_ended(self) -> bool:
        """Return whether the calling thread is no longer the one that writes."""
        return self._thread is not threading.current_thread()

    def _take(self) -> tuple[list[bytes], int]:
        """Wait for lines; return them, and the number of lines dropped after them."""
        with self._changed:
            self._is_thread_waiting = True
            self._changed.wait_for(lambda: self._lines or self._dropped or self._has_ended())
            self._is_thread_waiting = False
            batch = self._lines, self._dropped
            self._lines, self._dropped = [], 0
            return batch

    def _finish_batch(self, size: int) -> None:
        with self._changed:
            self._size -= size
            self._batches += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._flushes or self._has_ended(), BATCH_INTERVAL)

    def _is_empty(self) -> bool:
        return not (self._size or self._dropped)

    def flush(self, timeout: float) -> None:
        """Wait until all lines are written.

        Returns at once if an earlier flush timed out and nothing has been written since.

        Args:
            timeout: seconds to wait at most.
        """
        self._reset_after_fork()
        with self._changed:
            if self._is_empty() or self._gave_up_at == self._batches:
                return
            self._flushes += 1
            self._changed.notify_all()
            try:
                if not self._changed.wait_for(self._is_empty, timeout):
                    self._gave_up_at = self._batches
            finally:
                self._flushes -= 1

    def close(self, timeout: float) -> None:
        """Flush and end the thread, unless it is blocked in a write. Another line restarts it.

        The thread must not be left running: at the interpreter's end glibc opens a library to end
        it, and aborts the process if no file descriptor is left.

        Args:
            timeout: seconds for the flush, and again for the thread to end.
        """
        self.flush(timeout)
        thread = self._detach_thread()
        if thread is not None:
            thread.join(timeout)

    def _detach_thread(self) -> threading.Thread | None:
        """Ask the thread to end and return it; leave it alone while it has lines to write."""
        with self._changed:
            if not self._is_empty():
                return None
            thread, self._thread = self._thread, None
            self._changed.notify_all()
            return thread
