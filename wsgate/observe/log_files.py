"""Reopens log files that were moved away, as logrotate does."""

import logging
import os
from pathlib import Path
from typing import IO

from wsgate.observe import logs


def reopen() -> None:
    """Reopen each log file whose path no longer leads to the file that is open; log how many.

    A file that cannot be opened is one line of the log, and its handler keeps the one it has.
    """
    reopened = 0
    for handler in _file_handlers():
        try:
            reopened += _reopen(handler)
        except Exception as error:  # noqa: BLE001  # handlers are of any kind, and others wait
            logs.error.error("Cannot reopen log file %s: %s", handler.baseFilename, error)
    logs.error.info("Log files reopened: %d", reopened)


def _file_handlers() -> list[logging.FileHandler]:
    """Return all that exist: a handler behind a queue or a buffer is attached to no logger."""
    found = [ref() for ref in logging._handlerList]  # type: ignore[attr-defined] # noqa: SLF001
    return [handler for handler in found if isinstance(handler, logging.FileHandler)]


def _reopen(handler: logging.FileHandler) -> bool:
    handler.acquire()
    try:
        moved = handler.stream  # None where it is closed, or waits for its first record
        if moved is None or _leads_to(handler.baseFilename, moved):
            return False
        handler.stream = handler._open()  # noqa: SLF001  # as logging.handlers does
        moved.close()
    finally:
        handler.release()
    return True


def _leads_to(path: str, stream: IO[str]) -> bool:
    try:
        return os.path.samestat(Path(path).stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False
