"""What the server logs during a test."""

import contextlib
import logging
from collections.abc import Iterator

from wsgate.observe.throttled_log import throttled


class LogCapture(logging.Handler):
    """Keeps the records of the access log and of the error log."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)

    @property
    def access(self) -> list[str]:
        """The lines of the access log."""
        return [r.getMessage() for r in self.records if r.name == "wsgate.access"]

    def messages(self, level: int) -> list[str]:
        """Return the messages of exactly this level in the error log."""
        own = [r for r in self.records if r.name == "wsgate.error" and r.levelno == level]
        return [r.getMessage() for r in own]

    @property
    def warnings(self) -> list[str]:
        """The warnings in the error log."""
        return self.messages(logging.WARNING)

    @property
    def errors(self) -> list[str]:
        """The errors in the error log."""
        return self.messages(logging.ERROR)

    @property
    def problems(self) -> list[str]:
        """Warnings and errors in the error log, in order, with their exceptions.

        Without those that a loaded machine causes: it blocks the event loop of the tests.
        """
        return [
            record.getMessage() + (f": {record.exc_info[1]!r}" if record.exc_info else "")
            for record in self.records
            if record.name == "wsgate.error"
            and record.levelno >= logging.WARNING
            and not record.getMessage().startswith(_OF_THE_MACHINE)
        ]


_OF_THE_MACHINE = ("The event loop was blocked for", "The event loop has been blocked for")


@contextlib.contextmanager
def capture_log() -> Iterator[LogCapture]:
    """Capture both logs from level INFO on, whatever an earlier test did to the loggers."""
    throttled.forget()  # also what it has logged less than an interval ago
    log = LogCapture()
    loggers = [logging.getLogger(name) for name in ("wsgate.error", "wsgate.access")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(log)
        logger.setLevel(logging.INFO)
    try:
        yield log
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(log)
            logger.setLevel(level)
