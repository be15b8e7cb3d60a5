"""The log's set-up for the command line, and warnings that come too often."""

import logging
import sys
import time
from collections.abc import Callable
from typing import TextIO

from wsgate import streams
from wsgate.loggers import access, error
from wsgate.observe.log_format import ConsoleFormatter, address, escaped, indented
from wsgate.observe.log_handler import ConsoleHandler
from wsgate.observe.log_queue import FLUSH_TIME

__all__ = [
    "ConsoleFormatter",
    "Throttled",
    "access",
    "address",
    "configure",
    "end",
    "error",
    "escaped",
    "flush",
    "indented",
    "throttled",
]


_handlers: list[ConsoleHandler] = []  # that `configure` has attached


def configure(level: str, *, access_log: bool) -> None:
    """Set up the loggers `wsgate.error` (to stderr) and `wsgate.access` (to stdout).

    Handlers that the host program has, on these loggers or elsewhere, stay as they are.
    """
    _remove_handlers()
    errors = _console("error log", sys.stderr)
    accesses = _console("access log", sys.stdout)
    errors.connect(accesses)
    _handlers[:] = errors, accesses
    _attach("wsgate", level, errors)
    if access_log:
        _attach("wsgate.access", level, accesses)
    else:
        _attach("wsgate.access", "critical")
    # `logging.config` disables the loggers that it does not name, and this one has no handler.
    error.logger.disabled = False


def flush(seconds: float = FLUSH_TIME) -> None:
    """Wait until what was logged is written, some seconds at most; flush the app's prints too."""
    until = time.monotonic() + seconds
    for handler in _handlers:
        handler.writer.flush(max(0.0, until - time.monotonic()))
    streams.flush(sys.stdout)


def end() -> None:
    """Flush, and end the threads that write; a further line starts them again."""
    flush()
    for handler in _handlers:
        handler.writer.close(FLUSH_TIME)


def _remove_handlers() -> None:
    """Remove the handlers that an earlier `configure` has attached."""
    for handler in _handlers:
        for name in ("wsgate", "wsgate.access"):
            logging.getLogger(name).removeHandler(handler)
        handler.close()
    _handlers.clear()


def _console(title: str, stream: TextIO) -> ConsoleHandler:
    colours = not stream.closed and stream.isatty()
    return ConsoleHandler(title, stream, ConsoleFormatter(colours=colours))


def _attach(name: str, level: str, *handlers: logging.Handler) -> None:
    logger = logging.getLogger(name)
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = logger.disabled = False


class Throttled:
    """Warnings that may come a thousand times a second and are told once in that time."""

    def __init__(self, seconds: float = 1.0, time: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._time = time
        self._told: dict[str, float] = {}

    def warning(self, text: str) -> None:
        """Log a text, unless it was logged just now."""
        now = self._time()
        if now - self._told.get(text, -self._seconds) >= self._seconds:
            self._told[text] = now
            error.warning(text, stacklevel=2)


throttled = Throttled()
