"""The format of log lines, and the escaping of text from clients in them."""

import functools
import logging
from typing import Any

import wsgate.observe.preload  # noqa: F401  # formatting a traceback must not import anything
from wsgate.loggers import TRACE
from wsgate.types import Address

_COLOURS: dict[int, int] = {
    TRACE: 34,
    logging.DEBUG: 36,
    logging.INFO: 32,
    logging.WARNING: 33,
    logging.ERROR: 31,
    logging.CRITICAL: 91,
}


def level_prefix(record: logging.LogRecord, *, has_colours: bool) -> str:
    """Return the level with a colon, padded to the width of a column, possibly in colour."""
    return _level_prefix(record.levelname, record.levelno, has_colours)


@functools.lru_cache(maxsize=32)
def _level_prefix(name: str, level: int, has_colours: bool) -> str:  # for the cache
    padding = " " * (8 - len(name))
    if has_colours:
        name = f"\033[{_COLOURS.get(level, 39)}m{name}\033[0m"
    return f"{name}:{padding}"


class ConsoleFormatter(logging.Formatter):
    """Formats a record as `INFO:     message`, the level in colour on a terminal."""

    def __init__(self, *, has_colours: bool) -> None:
        super().__init__()
        self._has_colours = has_colours

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's text: its line, and a traceback if it has one.

        The line of a request has none, and is made without what the base class looks up for it.
        The record gets no attribute `message`, for which its dict would have to grow.
        """
        if record.exc_info or record.exc_text or record.stack_info:
            return super().format(record)
        return self.formatMessage(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """Return the record's line."""
        return f"{level_prefix(record, has_colours=self._has_colours)} {record.getMessage()}"

    def formatException(self, ei: Any) -> str:  # noqa: N802  # logging's name
        """Return a traceback, indented and escaped: it may quote what a client sent."""
        return "  " + indent(super().formatException(ei))


def indent(text: str) -> str:
    """Return a text with all lines but the first indented and control characters escaped.

    An indented line cannot be mistaken for a line of the log.
    """
    return "\n  ".join(map(_escape_unprintable, text.split("\n")))


def _escape_unprintable(line: str) -> str:
    return "".join(char if char.isprintable() or char == "\t" else escape(char) for char in line)


# The same as the codec unicode_escape, which Python imports only at its first use. That import
# fails if no file descriptor is left.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
_ESCAPES |= {ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r", ord("\\"): "\\\\"}


def escape(text: str) -> str:
    """Return a text from a client as printable ASCII, so that it cannot forge a log line."""
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return text.translate(_ESCAPES).encode("ascii", "backslashreplace").decode("ascii")


def format_address(client: Address | None) -> str:
    """Return `host:port`, or an empty string for the client of a Unix socket, which has none."""
    if client is None:
        return ""
    return f"[{client[0]}]:{client[1]}" if ":" in client[0] else f"{client[0]}:{client[1]}"
