"""What the lines of the log look like, and how text of a peer's is made harmless in them."""

import logging
from typing import Any, ClassVar

import wsgate.observe.preload  # noqa: F401  # what it takes to format a traceback
from wsgate.types import Address


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


def indented(text: str) -> str:
    """Return a text of several lines, all but the first indented, control characters escaped."""
    return "\n  ".join(map(_printable, text.split("\n")))


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() or char == "\t" else escaped(char) for char in line)


# As the codec unicode_escape, which Python would import when it is first needed: with no file
# descriptor left it could not.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
_ESCAPES |= {ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r", ord("\\"): "\\\\"}


def escaped(text: str) -> str:
    """Return a peer's text in printable ASCII, so that it cannot forge a line of the log."""
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return text.translate(_ESCAPES).encode("ascii", "backslashreplace").decode("ascii")


def address(client: Address | None) -> str:
    """Return `host:port`, or nothing where the client has none (a Unix socket)."""
    if client is None:
        return ""
    return f"[{client[0]}]:{client[1]}" if ":" in client[0] else f"{client[0]}:{client[1]}"
