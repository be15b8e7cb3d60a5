"""Lines that may occur a thousand times a second, limited to one a second each."""

import logging
import time
from collections.abc import Callable

from wsgate import loggers


class ThrottledLog:
    """Logs a line unless the same text was logged less than `interval` seconds ago.

    It keeps every text that it was given, so texts must be constants. What varies is an argument.
    """

    def __init__(self, interval: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._logged_at: dict[str, float] = {}

    def warning(self, text: str, *arguments: object) -> None:
        """Log a warning to `wsgate.error`, or drop it."""
        self._log(logging.WARNING, text, arguments)

    def error(self, text: str, *arguments: object) -> None:
        """Log a line at level ERROR to `wsgate.error`, or drop it."""
        self._log(logging.ERROR, text, arguments)

    def info(self, text: str, *arguments: object) -> None:
        """Log a line at level INFO to `wsgate.error`, or drop it."""
        self._log(logging.INFO, text, arguments)

    def exception(self, text: str, *arguments: object) -> None:
        """Log an error with the traceback of the exception that is being handled, or drop it."""
        self._log(logging.ERROR, text, arguments, exc_info=True)

    def _log(
        self, level: int, text: str, arguments: tuple[object, ...], *, exc_info: bool = False
    ) -> None:
        now = self._clock()
        if now - self._logged_at.get(text, -self._interval) >= self._interval:
            self._logged_at[text] = now
            loggers.error.log(level, text, *arguments, stacklevel=3, exc_info=exc_info)


throttled = ThrottledLog()
