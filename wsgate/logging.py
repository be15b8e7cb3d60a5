"""Formatters for your own configuration of `logging`, and one to begin with: see docs/logging.md.

They take the arguments of uvicorn's, whose names they have.
"""

import copy
import logging
import sys
from typing import Any, ClassVar, Literal, TextIO

from wsgate.observe.access_format import AccessLineFormatter
from wsgate.observe.access_log import leave_out_query, split_line
from wsgate.observe.log_fields import fields_of
from wsgate.observe.log_format import level_prefix
from wsgate.observe.structured_format import JsonFormatter, LogfmtFormatter

__all__ = [
    "LOGGING_CONFIG",
    "AccessFormatter",
    "AccessLineFormatter",
    "DefaultFormatter",
    "JsonFormatter",
    "LogfmtFormatter",
    "fields_of",
    "leave_out_query",
]

Style = Literal["%", "{", "$"]

# For programs that change a copy of it. Unlike the log of the command it has the handlers of
# `logging`, which may block. The parts have the names that they have in uvicorn's.
LOGGING_CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "default": {
            "()": "wsgate.logging.DefaultFormatter",
            "fmt": "%(levelprefix)s %(message)s",
            "use_colors": None,
        },
        "access": {
            "()": "wsgate.logging.AccessFormatter",
            "fmt": '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s',
            "use_colors": None,
        },
    },
    "handlers": {
        "default": {
            "class": "logging.StreamHandler",
            "formatter": "default",
            "stream": "ext://sys.stderr",
        },
        "access": {
            "class": "logging.StreamHandler",
            "formatter": "access",
            "stream": "ext://sys.stdout",
        },
    },
    "loggers": {
        "wsgate": {"handlers": ["default"], "level": "INFO", "propagate": False},
        "wsgate.error": {"level": "INFO"},
        "wsgate.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
    },
}


class DefaultFormatter(logging.Formatter):
    """Adds `levelprefix` to a record: `INFO:    `, in colour on a terminal.

    Args:
        fmt, datefmt, style: as for `logging.Formatter`.
        use_colors: None for colours if the standard stream is a terminal.
    """

    default: ClassVar[str] = "%(levelprefix)s %(message)s"

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Style = "%",
        use_colors: bool | None = None,
    ) -> None:
        super().__init__(self.default if fmt is None else fmt, datefmt, style)
        stream = self._stream()
        is_terminal = not stream.closed and stream.isatty()
        self._has_colours = is_terminal if use_colors is None else use_colors

    @staticmethod
    def _stream() -> TextIO:
        return sys.stderr

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """Return the record's line."""
        record = copy.copy(record)  # another handler's formatter gets the same record
        record.__dict__.update(self._more_fields(record))
        return super().formatMessage(record)

    def _more_fields(self, record: logging.LogRecord) -> dict[str, str]:
        return {"levelprefix": level_prefix(record, has_colours=self._has_colours)}


class AccessFormatter(DefaultFormatter):
    """Adds `client_addr`, `request_line` and `status_code` to the records of `wsgate.access`.

    Of a WebSocket, the request line is `WebSocket /path`, and the status all that follows.
    """

    default = '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s'

    @staticmethod
    def _stream() -> TextIO:
        return sys.stdout

    def _more_fields(self, record: logging.LogRecord) -> dict[str, str]:
        client, request, status = split_line(record)
        return {
            **super()._more_fields(record),
            "client_addr": client,
            "request_line": request,
            "status_code": status,
        }
