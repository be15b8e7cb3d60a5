"""The log: its set-up for the command line, and the lines that operators know from uvicorn."""

import logging
import logging.config
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar

from wsgate.protocol.request import Request
from wsgate.types import Address

error = logging.getLogger("wsgate.error")
access = logging.getLogger("wsgate.access")


class ConsoleFormatter(logging.Formatter):
    """`INFO:     message`, its level coloured where the stream is a terminal."""

    COLOURS: ClassVar[dict[int, int]] = {
        logging.DEBUG: 36,
        logging.INFO: 32,
        logging.WARNING: 33,
        logging.ERROR: 31,
        logging.CRITICAL: 91,
    }

    def __init__(self, *, colours: bool) -> None:
        super().__init__("%(levelprefix)s %(message)s")
        self._colours = colours

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """Return the line, with `levelprefix` filled in."""
        name = record.levelname
        if self._colours:
            name = f"\033[{self.COLOURS.get(record.levelno, 39)}m{name}\033[0m"
        record.levelprefix = name + ":" + " " * (8 - len(record.levelname))
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802  # logging's name
        """Return a traceback, indented and escaped: it may quote what a client has sent."""
        return "  " + indented(super().formatException(ei))


def configure(level: str, *, access_log: bool) -> None:
    """Set up the loggers `wsgate.error` (to stderr) and `wsgate.access` (to stdout)."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "error": {"()": ConsoleFormatter, "colours": sys.stderr.isatty()},
                "access": {"()": ConsoleFormatter, "colours": sys.stdout.isatty()},
            },
            "handlers": {
                "error": _handler("error", "stderr"),
                "access": _handler("access", "stdout"),
            },
            "loggers": {
                "wsgate": {"handlers": ["error"], "level": level.upper(), "propagate": False},
                "wsgate.access": {
                    "handlers": ["access"] if access_log else [],
                    "level": level.upper() if access_log else "CRITICAL",
                    "propagate": False,
                },
            },
        }
    )


def _handler(formatter: str, stream: str) -> dict[str, str]:
    return {
        "class": "logging.StreamHandler",
        "formatter": formatter,
        "stream": f"ext://sys.{stream}",
    }


class Throttled:
    """Warnings that may come a thousand times a second and are told once in that time."""

    def __init__(self, seconds: float = 1.0, time: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._time = time
        self._told: dict[str, float] = {}

    def warning(self, text: str) -> None:
        """Log a text, unless it was logged just now."""
        now = self._time()
        if now - self._told.get(text, -self._seconds) >= self._seconds:
            self._told[text] = now
            error.warning(text)


throttled = Throttled()


def escaped(text: str) -> str:
    """Return a peer's text in printable ASCII, so that it cannot forge a line of the log."""
    return text.encode("unicode_escape").decode("ascii")


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() or char == "\t" else escaped(char) for char in line)


def indented(text: str) -> str:
    """Return a text of several lines, all but the first indented, control characters escaped."""
    return "\n  ".join(map(_printable, text.split("\n")))


def address(client: Address | None) -> str:
    """Return `host:port`, or nothing where the client has none (a Unix socket)."""
    if client is None:
        return ""
    return f"[{client[0]}]:{client[1]}" if ":" in client[0] else f"{client[0]}:{client[1]}"


def request_done(client: Address | None, request: Request, status: int) -> None:
    """Log a request and its response's status."""
    if access.isEnabledFor(logging.INFO):
        access.info(
            '%s - "%s %s HTTP/%s" %d %s',
            address(client),
            request.method,
            escaped(request.target.decode("ascii")),
            request.version,
            status,
            _phrase(status),
        )


def websocket_refused(client: Address | None, request: Request, status: int) -> None:
    """Log a WebSocket that did not open."""
    access.info(
        '%s - "WebSocket %s" %d %s', address(client), _target(request), status, _phrase(status)
    )


def tells_websockets() -> bool:
    """Say whether a WebSocket's opening and end are logged."""
    return access.isEnabledFor(logging.INFO)


def websocket_opened(client: Address | None, target: bytes) -> None:
    """Log that a WebSocket is open."""
    access.info('%s - "WebSocket %s" [accepted]', address(client), escaped(target.decode("ascii")))


def websocket_closed(  # one line tells all of it
    client: Address | None,
    target: bytes,
    *,
    code: int,
    reason: str,
    seconds: float,
    received: tuple[int, int],
    sent: tuple[int, int],
) -> None:
    """Log the end of a WebSocket; received and sent: messages, and bytes on the wire."""
    if not access.isEnabledFor(logging.INFO):
        return
    access.info(
        '%s - "WebSocket %s" [closed] %d%s after %.1f s, in %d/%d B, out %d/%d B',
        address(client),
        escaped(target.decode("ascii")),
        code,
        f" {escaped(reason)}" if reason else "",
        seconds,
        *received,
        *sent,
    )


def _target(request: Request) -> str:
    return escaped(request.target.decode("ascii"))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
