"""A queue of a log's lines, and the thread that writes them where a reader could block the loop."""

import os
import threading

from wsgate import threads
from wsgate.observe.log_writer import LineWriter

QUEUE_SIZE = 1024 * 1024  # bytes of lines that may wait to be written; further ones are dropped
FLUSH_TIME = 1.0  # seconds to wait for a reader when the log is flushed
PAUSE = 0.01  # seconds between two writes of a queue, so that a busy log is written in batches


class QueueWriter:
    """Hands lines to a thread that writes them, within a bound of bytes.

    Lines beyond the bound are dropped, and a notice in their place says how many. The thread starts
    at the first line, and again in a forked child.
    """

    def __init__(self, output: LineWriter) -> None:
        self._output = output
        self._reset()

    def _reset(self) -> None:
        """Begin with an empty queue and without a thread."""
        self._pid = os.getpid()
        self._changed = threading.Condition()  # reentrant: a signal's handler may log
        self._thread: threading.Thread | None = None
        self._lines: list[bytes] = []
        self._size = 0  # bytes of lines that are queued or being written
        self._dropped = 0  # lines after those in the queue
        self._is_waiting = False  # the thread waits for lines
        self._flushes = 0  # calls of `flush` that wait
        self._batches = 0  # written so far
        self._gave_up_at = -1  # batches that were written when a flush gave up

    @property
    def is_failing(self) -> bool:
        """Whether lines are lost because writing raises errors."""
        return self._output.is_failing

    def put(self, line: bytes) -> None:
        """Queue a line, or drop it where the queue is full."""
        self._notice_fork()
        size = len(line)  # before the lock: a signal's handler may log within the call
        with self._changed:
            if self._dropped or self._size + size > QUEUE_SIZE:
                self._dropped += 1
            else:
                self._lines.append(line)
                self._size += size
            if self._thread is None:
                self._start()
            elif self._is_waiting:
                self._changed.notify_all()

    def _notice_fork(self) -> None:
        """Begin anew in a forked child: the thread and the lines are the parent's."""
        if self._pid != os.getpid():
            self._reset()
            self._output.reset()

    def _start(self) -> None:
        self._thread = threads.daemon(self._run, "wsgate-log")
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads, or the interpreter shuts down
            self._thread = None
            self._output.count_lost(len(self._lines) + self._dropped, str(error))
            self._lines.clear()
            self._size = self._dropped = 0

    def _run(self) -> None:
        while not self._is_closed():
            lines, dropped = self._take()
            self._output.write(lines)
            if dropped:
                self._output.count_lost(dropped, "nobody read them in time")
                self._output.write([])
            self._note_written(sum(map(len, lines)))

    def _is_closed(self) -> bool:
        """Return whether the calling thread is no longer the one that writes."""
        return self._thread is not threading.current_thread()

    def _take(self) -> tuple[list[bytes], int]:
        """Wait for lines; return them, and the number of those that were dropped after them."""
        with self._changed:
            self._is_waiting = True
            self._changed.wait_for(lambda: self._lines or self._dropped or self._is_closed())
            self._is_waiting = False
            taken = self._lines, self._dropped
            self._lines, self._dropped = [], 0
            return taken

    def _note_written(self, size: int) -> None:
        with self._changed:
            self._size -= size
            self._batches += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._flushes or self._is_closed(), PAUSE)

    def _is_empty(self) -> bool:
        return not (self._size or self._dropped)

    def flush(self, seconds: float) -> None:
        """Wait until all lines are written.

        Returns at once where an earlier call has waited in vain and nothing was written since.
        """
        self._notice_fork()
        with self._changed:
            if self._is_empty() or self._gave_up_at == self._batches:
                return
            self._flushes += 1
            self._changed.notify_all()
            try:
                if not self._changed.wait_for(self._is_empty, seconds):
                    self._gave_up_at = self._batches
            finally:
                self._flushes -= 1

    def close(self, seconds: float) -> None:
        """Flush, and end the thread, which a further line starts again; one that is stuck stays.

        A thread that still runs at the interpreter's end can abort the process, where no file
        descriptor is left: glibc opens a library to end it.
        """
        self.flush(seconds)
        thread = self._stop()
        if thread is not None:
            thread.join(seconds)

    def _stop(self) -> threading.Thread | None:
        """Have the thread end, if it has nothing to do; return it."""
        with self._changed:
            if not self._is_empty():
                return None
            thread, self._thread = self._thread, None
            self._changed.notify_all()
            return thread
