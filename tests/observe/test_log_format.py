import logging
import random
import sys

import pytest

from wsgate.observe import log_format
from wsgate.observe.log_format import ConsoleFormatter

# -- the console -----------------------------------------------------------------------------------


def format_line(level: int, *, has_colours: bool = False, name: str | None = None) -> str:
    record = logging.LogRecord("wsgate", level, "", 0, "%s done", ("well",), None)
    record.levelname = name or record.levelname
    return ConsoleFormatter(has_colours=has_colours).format(record)


@pytest.mark.parametrize(
    ("level", "line"),
    [
        (logging.DEBUG, "DEBUG:    well done"),
        (logging.INFO, "INFO:     well done"),
        (logging.WARNING, "WARNING:  well done"),
        (logging.ERROR, "ERROR:    well done"),
        (logging.CRITICAL, "CRITICAL: well done"),
    ],
)
def test_line_has_the_format_of_uvicorn(level: int, line: str) -> None:
    assert format_line(level) == line


def test_level_with_a_long_name() -> None:
    assert format_line(55, name="CATASTROPHE") == "CATASTROPHE: well done"


@pytest.mark.parametrize(
    ("level", "line"),
    [
        (logging.INFO, "\033[32mINFO\033[0m:     well done"),
        (logging.WARNING, "\033[33mWARNING\033[0m:  well done"),
        (35, "\033[39mLevel 35\033[0m: well done"),
    ],
)
def test_levels_are_coloured(level: int, line: str) -> None:
    assert format_line(level, has_colours=True) == line


def test_traceback_is_indented_and_escaped() -> None:
    try:
        raise ValueError("bad: \r\nINFO:     forged\n\x1b[31m\x9b\u2028\ud800 \u65e5\u672c\t!")  # noqa: TRY301
    except ValueError:
        error = sys.exc_info()
    record = logging.LogRecord("wsgate", logging.ERROR, "", 0, "it failed", (), error)
    first, *lines = ConsoleFormatter(has_colours=False).format(record).split("\n")
    assert first == "ERROR:    it failed"
    assert lines[0] == "  Traceback (most recent call last):"
    assert lines[-3:] == [
        "  ValueError: bad: \\r",
        "  INFO:     forged",
        "  \\x1b[31m\\x9b\\u2028\\ud800 \u65e5\u672c\t!",
    ]
    assert all(line.startswith("  ") for line in lines)


# -- the lines -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "text"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80), "[::1]:80"),
        (None, ""),
    ],
)
def test_address(client: tuple[str, int] | None, text: str) -> None:
    assert log_format.format_address(client) == text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain", "plain"),
        ("a\r\nINFO: forged", "a\\r\\nINFO: forged"),
        ("\x1b[31m", "\\x1b[31m"),
        ("é\u2028\ud800", "\\xe9\\u2028\\ud800"),
    ],
)
def test_text_from_a_client_cannot_forge_a_line(text: str, safe: str) -> None:
    assert log_format.escape(text) == safe


def test_escapes_are_those_of_the_codec_unicode_escape() -> None:
    characters = [chr(code) for code in (*range(0x3000), 0xD800, 0xDFFF, 0xFFFD, 0x1F600)]
    for text in (*characters, "".join(characters), "".join(random.sample(characters, 500))):
        assert log_format.escape(text) == text.encode("unicode_escape").decode("ascii")
