"""The loggers `wsgate.error` and `wsgate.access`, which never raise into their callers."""

import logging
from typing import Any

from wsgate import streams
from wsgate.diagnosis import error_line


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

    def log_without_caller(self, level: int, msg: str, *args: object) -> None:
        """Log a message with this file as its source, whatever the logger's level.

        This saves the search for the calling frame, which is slow. It is for the access log, whose
        lines all come from one place.
        """
        logger = self.logger
        try:
            logger.handle(logger.makeRecord(logger.name, level, __file__, 0, msg, args, None))
        except Exception as failure:  # noqa: BLE001  # a handler may raise anything
            self._report(failure)

    def _report(self, failure: Exception) -> None:
        if not self._is_reported:
            self._is_reported = True
            name, reason = self.logger.name, error_line(failure)
            streams.warn(f"wsgate: a handler or filter of {name} fails: {reason}")


error = GuardedLogger(logging.getLogger("wsgate.error"))
access = GuardedLogger(logging.getLogger("wsgate.access"))
