"""The command line's log: `wsgate.error` goes to stderr, `wsgate.access` to stdout.

So does what an app logs to the loggers of uvicorn.
"""

import logging
import sys
import time
from typing import TextIO

from wsgate import loggers, streams
from wsgate.observe.log_format import ConsoleFormatter
from wsgate.observe.log_handler import ConsoleHandler
from wsgate.observe.log_queue import FLUSH_TIMEOUT

_handlers: list[ConsoleHandler] = []  # attached by `configure`
_loggers: list[logging.Logger] = []  # those that have them


def configure(level: str, *, use_colors: bool | None = None) -> None:
    """Attach a console handler to each of the two loggers and set their level.

    The host program's handlers, on these loggers or elsewhere, stay as they are. Handlers of an
    earlier call are replaced. Loggers of uvicorn get the same handlers, because apps log to them;
    one that the host program has given a handler is left alone.

    Args:
        level: the name of a level of `logging`, in any case.
        use_colors: show levels in colour, None for those on a terminal.
    """
    remove()
    errors = _console_handler("error log", sys.stderr, use_colors)
    accesses = _console_handler("access log", sys.stdout, use_colors)
    errors.connect(accesses)
    _handlers[:] = errors, accesses
    _attach("wsgate", errors, level)
    _attach("wsgate.access", accesses, level)
    for name, handler in (("uvicorn", errors), ("uvicorn.access", accesses)):
        if not logging.getLogger(name).handlers:
            _attach(name, handler, level)
    # `logging.config` disables loggers that it does not name. `wsgate.error` has no handler of its
    # own here, so `_attach` has not enabled it again.
    loggers.error.logger.disabled = False


def flush(timeout: float = FLUSH_TIMEOUT) -> None:
    """Wait until all lines are written, for `timeout` seconds at most; flush the app's prints."""
    deadline = time.monotonic() + timeout
    for handler in _handlers:
        handler.writer.flush(max(0.0, deadline - time.monotonic()))
    streams.flush(sys.stdout)


def close() -> None:
    """Flush, and end the threads that write; another line starts them again."""
    flush()
    for handler in _handlers:
        handler.writer.close(FLUSH_TIMEOUT)


def remove() -> None:
    """Undo an earlier `configure`: records propagate, and the levels are those of the root."""
    for logger in _loggers:
        for handler in _handlers:
            logger.removeHandler(handler)
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    for handler in _handlers:
        handler.close()
    _loggers.clear()
    _handlers.clear()


def _console_handler(title: str, stream: TextIO, use_colors: bool | None) -> ConsoleHandler:
    is_terminal = not stream.closed and stream.isatty()
    has_colours = is_terminal if use_colors is None else use_colors
    return ConsoleHandler(title, stream, ConsoleFormatter(has_colours=has_colours))


def _attach(name: str, handler: logging.Handler, level: str) -> None:
    logger = logging.getLogger(name)
    _loggers.append(logger)
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = logger.disabled = False
