"""Reopens log files after logrotate, or someone else, has moved them away."""

import logging
import os
from pathlib import Path
from typing import IO

from wsgate import loggers


def reopen() -> None:
    """Reopen each log file that was moved or deleted; log how many these were, also if none."""
    if not reopen_moved():
        loggers.error.info("Log files reopened: 0")


def reopen_moved() -> int:
    """Reopen each log file that was moved or deleted; return how many, and log it if any.

    If a file cannot be opened, the error is logged and its handler keeps the old file.
    """
    reopened = 0
    for handler in _file_handlers():
        try:
            reopened += _reopen_if_moved(handler)
        except Exception as error:  # noqa: BLE001  # any handler class; the other files must follow
            loggers.error.error("Cannot reopen log file %s: %s", handler.baseFilename, error)
    if reopened:
        loggers.error.info("Log files reopened: %d", reopened)
    return reopened


def _file_handlers() -> list[logging.FileHandler]:
    """Return all file handlers of the process.

    Those of the loggers would not do: a handler that a queue or a buffer hands its records to is
    attached to no logger.
    """
    handlers = [ref() for ref in logging._handlerList]  # type: ignore[attr-defined] # noqa: SLF001
    return [handler for handler in handlers if isinstance(handler, logging.FileHandler)]


def _reopen_if_moved(handler: logging.FileHandler) -> bool:
    handler.acquire()
    try:
        stream = handler.stream  # None if it is closed, or opens at its first record
        if stream is None or _is_file_at(handler.baseFilename, stream):
            return False
        handler.stream = handler._open()  # noqa: SLF001  # as logging.handlers does
        stream.close()
    finally:
        handler.release()
    return True


def _is_file_at(path: str, stream: IO[str]) -> bool:
    try:
        return os.path.samestat(Path(path).stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False
