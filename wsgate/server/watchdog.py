"""A watchdog thread that logs which call is blocking the event loop."""

import sys
import threading
import time
import traceback
from pathlib import Path

from wsgate import loggers, threads

BLOCKED = 1.0  # seconds without a beat after which a warning is logged
_PERIOD = 0.25  # seconds between beats, and between checks once one is missing
_FRAMES = 3  # stack frames in the warning, the innermost first


class Watchdog:
    """Watches one event loop from a separate thread; the loop calls `beat` regularly.

    A blocked loop cannot log anything, and once it runs again the cause is no longer on the stack:
    so the stack is read from another thread while the loop is blocked. While the loop runs, the
    thread wakes only when the last beat it knows of would be too old.
    """

    def __init__(self) -> None:
        self._beat = time.monotonic()
        self._has_warned = False
        self._stopped = threading.Event()
        self._watched = threading.get_ident()
        self._thread = threads.daemon_thread(self._watch, "wsgate-watchdog")

    def start(self) -> None:
        """Start the thread. It watches the calling thread."""
        self._watched = threading.get_ident()
        self.beat()
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for it to end."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def beat(self, pause: float = _PERIOD) -> None:
        """Record that the loop is running.

        Args:
            pause: Seconds until the next call. A longer one than the period is not held against
                the loop.
        """
        self._beat = time.monotonic() + max(pause - _PERIOD, 0.0)
        self._has_warned = False

    def report_blocked(self, seconds: float) -> None:
        """Log for how long the loop was blocked, now that it runs again."""
        text = "The event loop was blocked for %.1f s; deadlines are extended"
        loggers.error.warning(text, seconds)

    def _watch(self) -> None:
        now = time.monotonic()
        while not self._stopped.wait(asleep := max(self._beat + BLOCKED - now, _PERIOD)):
            due, now = now + asleep, time.monotonic()
            # If this thread was late, too, the whole process was suspended: the loop may be fine.
            if now - due < _PERIOD:
                self.check(now)

    def check(self, now: float) -> None:
        """Log a warning if the last beat is too old, once until the next beat.

        Args:
            now: Time of `time.monotonic` in seconds.
        """
        silent = now - self._beat
        if silent < BLOCKED or self._has_warned:
            return
        self._has_warned = True
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001  # documented so
        stack = traceback.extract_stack(frame)[-_FRAMES:] if frame else []
        loggers.error.warning(
            "The event loop has been blocked for %.1f s by %s",
            silent,
            " < ".join(map(_format_frame, reversed(stack))) or "an unknown call",
        )


class NoWatchdog(Watchdog):
    """In place of a watchdog, for a worker beside another one whose loop is watched."""

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""

    def report_blocked(self, seconds: float) -> None:
        """Log nothing."""


def _format_frame(frame: traceback.FrameSummary) -> str:
    return f"{frame.name} ({Path(frame.filename).name}, line {frame.lineno})"
