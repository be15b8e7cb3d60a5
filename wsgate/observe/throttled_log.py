"""Lines that may occur a thousand times a second: the first one at once, then their number."""

import asyncio
import contextvars
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from types import TracebackType

from wsgate import loggers
from wsgate.diagnosis import error_line
from wsgate.observe.log_format import escape

INTERVAL = 10.0  # seconds between two lines with a number
MAX_LINES = 1_000  # lines that are remembered at once
_MAX_CHAIN = 20  # exceptions of a chain that tell it from others


@dataclass(slots=True)
class _Line:
    """A line that was logged. count: how often it occurred after `since`, not logged yet."""

    level: int
    text: str
    arguments: tuple[object, ...]
    since: float
    count: int = 0


class ThrottledLog:
    """Logs a line at once, and then at intervals how often it has occurred since.

    Lines are the same if their texts are, whatever the arguments; those with an exception if its
    type and the line of code that raised it are, too. So a text must be a constant, and what varies
    is a plain argument. The line with the number shows the arguments of the first one.

    No line is lost: each one is logged or counted, and `report_all` logs what is left at the end.
    """

    def __init__(
        self, interval: float = INTERVAL, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval = interval
        self._clock = clock
        self.forget()

    def forget(self) -> None:
        """Forget all lines without logging anything, as in a forked child."""
        self._lock = threading.RLock()  # a signal handler may log, too
        self._lines: dict[Hashable, _Line] = {}  # the earliest `since` first
        self._timer_loop: asyncio.AbstractEventLoop | None = None

    def warning(self, text: str, *arguments: object) -> None:
        """Log a warning to `wsgate.error`, or count it."""
        self._log(logging.WARNING, text, arguments)

    def error(self, text: str, *arguments: object) -> None:
        """Log a line at level ERROR to `wsgate.error`, or count it."""
        self._log(logging.ERROR, text, arguments)

    def info(self, text: str, *arguments: object) -> None:
        """Log a line at level INFO to `wsgate.error`, or count it."""
        self._log(logging.INFO, text, arguments)

    def exception(self, text: str, *arguments: object, error: BaseException | None = None) -> None:
        """Log an error with a traceback, or count it.

        Args:
            text, arguments: as for `error`.
            error: the exception, by default the one that is being handled.
        """
        self._log(logging.ERROR, text, arguments, error or sys.exception())

    def _log(
        self,
        level: int,
        text: str,
        arguments: tuple[object, ...],
        error: BaseException | None = None,
    ) -> None:
        if not loggers.error.logger.isEnabledFor(level):
            return
        self.report_due()
        key = (level, text, *_places(error))
        with self._lock:
            line = self._lines.get(key)
            if line is not None:
                line.count += 1
                return
            self._lines[key] = _describe(level, text, arguments, error, self._clock())
        loggers.error.log(level, text, *arguments, stacklevel=3, exc_info=error)
        self._make_room()
        self._set_timer()

    def report_due(self) -> None:
        """Log the number of each line whose interval is over; forget those that did not recur."""
        now = self._clock()
        with self._lock:
            due = list(self._take_due(now))
        for line, seconds in due:
            _report(line, seconds)

    def _take_due(self, now: float) -> Iterator[tuple[_Line, float]]:
        for key, line in list(self._lines.items()):
            seconds = now - line.since
            if seconds < self._interval:
                return
            del self._lines[key]
            if line.count:  # a new interval begins
                self._lines[key] = _Line(line.level, line.text, line.arguments, now)
                yield line, seconds

    def report_all(self) -> None:
        """Log all numbers that are left, before a stop."""
        now = self._clock()
        with self._lock:
            lines, self._lines = self._lines, {}
        for line in lines.values():
            _report(line, now - line.since)

    def _make_room(self) -> None:
        """Forget the oldest line if there are too many."""
        now = self._clock()
        with self._lock:
            if len(self._lines) <= MAX_LINES:
                return
            line = self._lines.pop(next(iter(self._lines)))
        _report(line, now - line.since)

    def _set_timer(self) -> None:
        """Report when the interval of the oldest line is over, if an event loop runs here.

        Elsewhere the next line reports, or the end.
        """
        if self._timer_loop is not None and not self._timer_loop.is_closed():
            return
        try:
            loop = self._timer_loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        # Not in the context of the app that is being served.
        loop.call_later(self._pause(), self._on_timer, context=contextvars.Context())

    def _pause(self) -> float:
        """Return the seconds until the interval of the oldest line is over."""
        with self._lock:
            oldest = next(iter(self._lines.values()), None)
        passed = 0.0 if oldest is None else self._clock() - oldest.since
        return max(self._interval - passed, 0.0)

    def _on_timer(self) -> None:
        self._timer_loop = None
        self.report_due()
        if self._lines:
            self._set_timer()


def _describe(
    level: int,
    text: str,
    arguments: tuple[object, ...],
    error: BaseException | None,
    now: float,
) -> _Line:
    """Return a line to remember: without the exception, which would keep the app's objects."""
    if error is None:
        return _Line(level, text, arguments, now)
    return _Line(level, f"{text}: %s", (*arguments, escape(error_line(error))), now)


def _places(error: BaseException | None) -> Iterator[Hashable]:
    """Yield the types of a chain of exceptions, each with the line of code that raised it."""
    waiting = [error]
    for _ in range(_MAX_CHAIN):  # a chain can be circular
        if not waiting:
            return
        found = waiting.pop()
        if found is None:
            continue
        yield type(found), *_innermost(found.__traceback__)
        waiting += (found.__context__, found.__cause__)
        if isinstance(found, BaseExceptionGroup):
            waiting += found.exceptions[:_MAX_CHAIN]


def _innermost(traceback: TracebackType | None) -> tuple[str, int | None]:
    """Return the file and the line in which an exception was raised."""
    if traceback is None:
        return "", None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback.tb_frame.f_code.co_filename, traceback.tb_lineno


def _report(line: _Line, seconds: float) -> None:
    if line.count:
        often = "once" if line.count == 1 else f"{line.count} times"
        text = f"{line.text} (repeated {often} in {max(round(seconds, 1), 0.1):g} s)"
        loggers.error.log(line.level, text, *line.arguments, extra={REPEATED: line.count})


REPEATED = "wsgate_repeated"  # the attribute of a record with the number

throttled = ThrottledLog()
os.register_at_fork(after_in_child=throttled.forget)  # the parent reports its numbers itself
