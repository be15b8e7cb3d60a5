"""The two loggers, `wsgate.error` and `wsgate.access`, which cannot fail their callers."""

import logging
from typing import Any

from wsgate import streams
from wsgate.diagnosis import one_line


class GuardedLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose handlers and filters cannot fail its caller, be they the host program's.

    The first error is reported on stderr.
    """

    _is_reported = False

    def log(
        self, level: int, msg: object, *args: object, stacklevel: int = 1, **kwargs: Any
    ) -> None:
        """Log a message as a `logging.Logger` does; never raises."""
        try:
            self.logger.log(level, msg, *args, stacklevel=stacklevel + 1, **kwargs)
        except Exception as failure:  # noqa: BLE001  # whatever a handler raises
            self._report(failure)

    def log_without_caller(self, level: int, msg: str, *args: object) -> None:
        """Log as `log` does, but with this module for the caller, which would take long to find.

        The access log logs so: its caller says nothing.
        """
        logger = self.logger
        try:
            logger.handle(logger.makeRecord(logger.name, level, __file__, 0, msg, args, None))
        except Exception as failure:  # noqa: BLE001  # whatever a handler raises
            self._report(failure)

    def _report(self, failure: Exception) -> None:
        if not self._is_reported:
            self._is_reported = True
            name, reason = self.logger.name, one_line(failure)
            streams.warn(f"wsgate: a handler or filter of {name} fails: {reason}")


error = GuardedLogger(logging.getLogger("wsgate.error"))
access = GuardedLogger(logging.getLogger("wsgate.access"))
