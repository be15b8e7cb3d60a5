import io
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.saved_loggers import bare_loggers
from wsgate import loggers
from wsgate.errors import Refusal
from wsgate.logging import LOGGING_CONFIG, AccessFormatter, DefaultFormatter
from wsgate.observe import log_config
from wsgate.observe.access_log import log_event
from wsgate.observe.causes import Cause
from wsgate.observe.events import (
    HandshakeRefused,
    RequestDone,
    WebSocketClosed,
    WebSocketOpened,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Collect the lines of the access log, whose parts have bars between them."""
    formatter = AccessFormatter("%(client_addr)s|%(request_line)s|%(status_code)s")
    collected: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            collected.append(formatter.format(record))

    with bare_loggers():
        loggers.access.logger.addHandler(Collector())
        loggers.access.logger.setLevel(logging.INFO)
        loggers.access.logger.propagate = False
        yield collected


def record(text: str = "text", level: int = logging.INFO, name: str = "a") -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, text, (), None)


CLIENT = ("127.0.0.1", 5)
APP = Cause.APP_CLOSED
SENTENCE = ": the app sent websocket.close"


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            RequestDone(CLIENT, "GET", b"/a?b", "1.1", 200),
            "127.0.0.1:5|GET /a?b HTTP/1.1|200 OK",
        ),
        (RequestDone(None, "GET", b'/a"', "1.1", 299), '|GET /a" HTTP/1.1|299 '),
        (
            HandshakeRefused(CLIENT, b"/ws", 403, "no", Refusal.ORIGIN),
            "127.0.0.1:5|WebSocket /ws|403 Forbidden (no)",
        ),
        (WebSocketOpened(CLIENT, b"/100%"), "127.0.0.1:5|WebSocket /100%|[accepted]"),
        (
            WebSocketClosed(CLIENT, b"/ws", 1000, 'say " - "', APP, "", 1.5, 1, 2, 3, 4, 0),
            '127.0.0.1:5|WebSocket /ws|[closed] 1000 say " - " after 1.5 s, in 1/2 B, out 3/4 B'
            + SENTENCE,
        ),
    ],
)
def test_access_lines_have_their_parts(lines: list[str], event: Any, line: str) -> None:
    log_event(event)
    assert lines == [line]


@pytest.mark.parametrize("name", ["wsgate.access", "another"])
def test_another_line_is_the_second_part(name: str) -> None:
    formatter = AccessFormatter("%(client_addr)s|%(request_line)s|%(status_code)s")
    assert formatter.format(record("text", name=name)) == "|text|"
    with_args = record('%s - "%s" %d', name=name)
    with_args.args = {"a": 1}
    with_args.msg = "%(a)s"
    assert formatter.format(with_args) == "|1|"


def test_the_default_formats_are_those_of_the_console() -> None:
    assert DefaultFormatter().format(record()) == "INFO:     text"
    access = record('%s - "WebSocket %s" [accepted]', name="wsgate.access")
    access.args = ("a:1", "/")
    assert AccessFormatter().format(access) == 'INFO:     a:1 - "WebSocket /" [accepted]'


def test_formats_and_styles_can_be_chosen() -> None:
    formatter = DefaultFormatter("{asctime}|{levelprefix}|{message}", "%Y", "{", use_colors=False)
    made = record(level=logging.WARNING)
    made.created = 0.0
    assert formatter.format(made) in ("1970|WARNING: |text", "1969|WARNING: |text")


@pytest.mark.parametrize(
    ("kind", "stream"), [(DefaultFormatter, "stderr"), (AccessFormatter, "stdout")]
)
def test_colours_are_for_terminals(
    kind: type[DefaultFormatter], stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    coloured = "\033[32mINFO\033[0m:    "
    for file, use_colors, expected in [
        (io.StringIO(), None, "INFO:    "),
        (Terminal(), None, coloured),
        (Terminal(), False, "INFO:    "),
        (io.StringIO(), True, coloured),
    ]:
        monkeypatch.setattr(sys, stream, file)
        formatter = kind("%(levelprefix)s", use_colors=use_colors)
        assert formatter.format(record()) == expected
    file = Terminal()
    file.close()
    monkeypatch.setattr(sys, stream, file)
    assert kind("%(levelprefix)s").format(record()) == "INFO:    "


def test_a_record_is_not_changed() -> None:
    made = record()
    DefaultFormatter().format(made)
    assert not hasattr(made, "levelprefix")


# -- the configuration to begin with ---------------------------------------------------------------


def test_the_configuration_writes_the_lines_of_the_default_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with bare_loggers():
        log_config.apply(LOGGING_CONFIG)
        loggers.error.info("hello")
        loggers.error.debug("not shown")
        log_event(RequestDone(CLIENT, "GET", b"/a?b", "1.1", 200))
    shown = capsys.readouterr()
    assert shown.err == "INFO:     hello\n"
    assert shown.out == 'INFO:     127.0.0.1:5 - "GET /a?b HTTP/1.1" 200 OK\n'


@pytest.mark.parametrize("name", ["default", "access"])
def test_its_default_formats_are_those_of_the_formatters(name: str) -> None:
    formatter = {"default": DefaultFormatter, "access": AccessFormatter}[name]
    assert LOGGING_CONFIG["formatters"][name]["fmt"] == formatter.default
