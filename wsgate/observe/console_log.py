"""The command line's log: `wsgate.error` goes to stderr, `wsgate.access` to stdout.

So does what an app logs to the loggers of uvicorn.
"""

import logging
import sys
import time
from typing import TextIO

from wsgate import loggers, streams
from wsgate.observe.access_format import AccessLineFormatter
from wsgate.observe.log_format import ConsoleFormatter
from wsgate.observe.log_handler import ConsoleHandler
from wsgate.observe.log_queue import FLUSH_TIMEOUT
from wsgate.observe.structured_format import JsonFormatter, LogfmtFormatter
from wsgate.types import LogFormat

_handlers: list[ConsoleHandler] = []  # attached by `configure`
_loggers: list[logging.Logger] = []  # those that have them


def configure(
    level: str,
    *,
    use_colors: bool | None = None,
    log_format: LogFormat = "text",
    access_format: str | None = None,
) -> None:
    """Attach a console handler to each of the two loggers and set their level.

    The host program's handlers, on these loggers or elsewhere, stay as they are. Handlers of an
    earlier call are replaced. Loggers of uvicorn get the same handlers, because apps log to them;
    one that the host program has given a handler is left alone.

    Args:
        level: the name of a level of `logging`, in any case.
        use_colors: show levels in colour, None for those on a terminal.
        log_format: of all lines.
        access_format: of the lines of the access log, instead of `log_format`.

    Raises:
        ValueError: `access_format` has an unknown placeholder.
    """
    of_errors = _make_formatter(log_format, _has_colours(sys.stderr, use_colors))
    of_accesses = _make_formatter(log_format, _has_colours(sys.stdout, use_colors), access_format)
    remove()
    errors = ConsoleHandler("error log", sys.stderr, of_errors)
    accesses = ConsoleHandler("access log", sys.stdout, of_accesses)
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


def _has_colours(stream: TextIO, use_colors: bool | None) -> bool:
    is_terminal = not stream.closed and stream.isatty()
    return is_terminal if use_colors is None else use_colors


def _make_formatter(
    log_format: LogFormat, has_colours: bool, access_format: str | None = None
) -> logging.Formatter:
    if access_format is not None:
        return AccessLineFormatter(access_format, use_colors=has_colours)
    if log_format == "json":
        return JsonFormatter()
    if log_format == "logfmt":
        return LogfmtFormatter()
    return ConsoleFormatter(has_colours=has_colours)


def _attach(name: str, handler: logging.Handler, level: str) -> None:
    logger = logging.getLogger(name)
    _loggers.append(logger)
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = logger.disabled = False
