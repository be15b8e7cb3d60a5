"""A thread that tells what blocks the event loop, while it does."""

import sys
import threading
import time
import traceback
from pathlib import Path

from wsgate import loggers, threads

BLOCKED = 1.0  # seconds without a beat that are worth a warning
_PERIOD = 0.25
_FRAMES = 3


class Watchdog:
    """Watches the beat of one event loop, which `beat` gives, from a thread of its own.

    A loop that is blocked cannot say so itself, and afterwards nobody knows what it was: so the
    stack of its thread is looked at while it hangs.
    """

    def __init__(self) -> None:
        self._beat = time.monotonic()
        self._told = False
        self._stopped = threading.Event()
        self._watched = threading.get_ident()
        self._thread = threads.daemon_thread(self._watch, "wsgate-watchdog")

    def start(self) -> None:
        """Begin; the calling thread is the one that is watched."""
        self._watched = threading.get_ident()
        self.beat()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def beat(self) -> None:
        """Note that the loop runs."""
        self._beat = time.monotonic()
        self._told = False

    def _watch(self) -> None:
        woken = time.monotonic()
        while not self._stopped.wait(_PERIOD):
            now = time.monotonic()
            # A thread that was late itself knows nothing: the whole process stood still.
            if now - woken < 2 * _PERIOD:
                self.look(now)
            woken = now

    def look(self, now: float) -> None:
        """Warn once about a beat that is missing at `now`."""
        silent = now - self._beat
        if silent < BLOCKED or self._told:
            return
        self._told = True
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001  # documented so
        stack = traceback.extract_stack(frame)[-_FRAMES:] if frame else []
        loggers.error.warning(
            "The event loop has been blocked for %.1f s by %s",
            silent,
            " < ".join(map(_told, reversed(stack))) or "an unknown call",
        )


def _told(frame: traceback.FrameSummary) -> str:
    return f"{frame.name} ({Path(frame.filename).name}, line {frame.lineno})"
