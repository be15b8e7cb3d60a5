"""Restores the server's loggers after a test."""

import contextlib
import logging
from collections.abc import Iterator

LOGGERS = [logging.getLogger(name) for name in ("wsgate", "wsgate.error", "wsgate.access")]
UVICORN = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "uvicorn.access")]


@contextlib.contextmanager
def saved_loggers() -> Iterator[None]:
    """Restore handlers, level, `propagate` and `disabled` when the context ends."""
    saved = [(lg, lg.handlers[:], lg.level, lg.propagate, lg.disabled) for lg in LOGGERS + UVICORN]
    try:
        yield
    finally:
        for logger, handlers, level, propagate, disabled in saved:
            logger.handlers, logger.propagate, logger.disabled = handlers, propagate, disabled
            logger.setLevel(level)


@contextlib.contextmanager
def bare_loggers() -> Iterator[None]:
    """Remove all that was set up on the loggers while the context lasts: records propagate."""
    with saved_loggers():
        for logger in LOGGERS + UVICORN:
            logger.handlers, logger.propagate, logger.disabled = [], True, False
            logger.setLevel(logging.NOTSET)
        yield
