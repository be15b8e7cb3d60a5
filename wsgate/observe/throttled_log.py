"""Warnings that may occur a thousand times a second, limited to one line a second each."""

import time
from collections.abc import Callable

from wsgate import loggers


class ThrottledLog:
    """Logs a warning unless the same text was logged less than `interval` seconds ago.

    It keeps every text that it was given, so texts must be constants. What varies is an argument.
    """

    def __init__(self, interval: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._logged_at: dict[str, float] = {}

    def warning(self, text: str, *arguments: object) -> None:
        """Log a text, formatted with its arguments, to `wsgate.error`, or drop it."""
        now = self._clock()
        if now - self._logged_at.get(text, -self._interval) >= self._interval:
            self._logged_at[text] = now
            loggers.error.warning(text, *arguments, stacklevel=2)


throttled = ThrottledLog()
