"""The loggers `wsgate.error` and `wsgate.access`, which never raise into their callers."""

import asyncio
import logging
import os
import sys
import threading
import time
from typing import Any

from wsgate import streams
from wsgate.diagnosis import error_line

TRACE = 5  # the level of `--log-level trace`, which uvicorn has too


# The attribute of a record with what happened, as data. Formatters of others, which show what they
# find in a record, leave out a name with an underscore.
EVENT = "_wsgate_event"


class _Hidden:
    """Carries an event: its headers, which may be secret, are neither shown nor pickled."""

    __slots__ = ("event",)

    def __init__(self, event: object = None) -> None:
        self.event = event

    def __repr__(self) -> str:
        return "<event>"

    def __reduce__(self) -> tuple[type["_Hidden"], tuple[()]]:
        return _Hidden, ()


def event_of(record: logging.LogRecord) -> object:
    """Return what a record reports, as data, or None."""
    event = getattr(record, EVENT, None)
    return event.event if isinstance(event, _Hidden) else event


def set_event(record: logging.LogRecord, event: object) -> None:
    """Replace what a record reports."""
    setattr(record, EVENT, _Hidden(event))


class _CallerlessRecord(logging.LogRecord):
    """A record with the attributes of every other, made in half the time: its caller is fixed.

    A line of the access log is written for each request, and the standard constructor takes the
    path of the calling file to pieces each time.
    """

    def __init__(
        self, name: str, level: int, msg: str, args: tuple[object, ...], event: object
    ) -> None:
        created = time.time()
        # Not by super(), which is what takes the time.
        self.__dict__ = {
            **_CALLER,
            "name": name,
            "msg": msg,
            "args": args,
            "levelno": level,
            "levelname": logging.getLevelName(level),
            "created": created,
            "msecs": int((created % 1) * 1_000) + 0.0,
            "relativeCreated": (created - _START) * 1_000,
            "thread": threading.get_ident(),
            "threadName": threading.current_thread().name,
            "process": os.getpid(),
            "processName": _process_name(),
            EVENT: _Hidden(event),
        }
        if _HAS_TASK_NAME:
            self.taskName = _task_name()


def _process_name() -> str:
    multiprocessing = sys.modules.get("multiprocessing")
    return "MainProcess" if multiprocessing is None else multiprocessing.current_process().name


def _task_name() -> str | None:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs
        return None
    return None if task is None else task.get_name()


_TEMPLATE = logging.LogRecord("", 0, __file__, 0, "", None, None)
_START = _TEMPLATE.created - _TEMPLATE.relativeCreated / 1_000
_CALLER = dict(vars(_TEMPLATE))
_HAS_TASK_NAME = "taskName" in _CALLER  # since Python 3.12


class GuardedLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that catches the exceptions of its handlers and filters, the host program's too.

    The first one is reported on stderr.
    """

    _is_reported = False

    def log(
        self, level: int, msg: object, *args: object, stacklevel: int = 1, **kwargs: Any
    ) -> None:
        """Log a message as `logging.Logger.log` does, but never raise."""
        try:
            self.logger.log(level, msg, *args, stacklevel=stacklevel + 1, **kwargs)
        except Exception as failure:  # noqa: BLE001  # a handler may raise anything
            self._report(failure)

    def log_without_caller(self, level: int, msg: str, *args: object, event: object = None) -> None:
        """Log a message with this file as its source, whatever the logger's level.

        This saves the search for the calling frame, which is slow. It is for the access log, whose
        lines all come from one place.

        Args:
            level, msg, args: as for `log`.
            event: what happened, as data, for `event_of`.
        """
        logger = self.logger
        try:
            if logging.getLogRecordFactory() is logging.LogRecord:
                logger.handle(_CallerlessRecord(logger.name, level, msg, args, event))
            else:  # the host program makes its own records
                record = logger.makeRecord(logger.name, level, __file__, 0, msg, args, None)
                set_event(record, event)
                logger.handle(record)
        except Exception as failure:  # noqa: BLE001  # a handler may raise anything
            self._report(failure)

    def _report(self, failure: Exception) -> None:
        if not self._is_reported:
            self._is_reported = True
            name, reason = self.logger.name, error_line(failure)
            streams.warn(f"wsgate: a handler or filter of {name} fails: {reason}")


error = GuardedLogger(logging.getLogger("wsgate.error"))
access = GuardedLogger(logging.getLogger("wsgate.access"))


def set_level(level: str) -> None:
    """Set the lowest level of both loggers: the name of a level of `logging`, in any case."""
    for logger in (error.logger, access.logger):
        logger.setLevel(level.upper())


def name_trace_level() -> None:
    """Give the level `TRACE` its name in `logging`."""
    logging.addLevelName(TRACE, "TRACE")
