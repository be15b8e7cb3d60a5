import io
import logging
import sys
from collections.abc import Iterator

import pytest

from wsgate.protocol.request import Request
from wsgate.server import logs
from wsgate.server.logs import ConsoleFormatter, Throttled

CLIENT = ("127.0.0.1", 50_000)
LOGGERS = [logging.getLogger(name) for name in ("wsgate", "wsgate.error", "wsgate.access")]


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Put the log back as it was, and have its records come to caplog until it is set up."""
    kept = [(lg, lg.handlers[:], lg.level, lg.propagate, lg.disabled) for lg in LOGGERS]
    for logger in LOGGERS:
        logger.handlers, logger.propagate, logger.disabled = [], True, False
        logger.setLevel(logging.NOTSET)
    caplog.set_level(logging.DEBUG, "wsgate")
    try:
        yield
    finally:
        for logger, handlers, level, propagate, disabled in kept:
            logger.handlers, logger.propagate, logger.disabled = handlers, propagate, disabled
            logger.setLevel(level)


def request(target: bytes = b"/chat?x=1") -> Request:
    path, _, query = target.partition(b"?")
    return Request("GET", target, path, query, "1.1", [])


# -- the console -----------------------------------------------------------------------------------


def formatted(level: int, *, colours: bool = False, name: str | None = None) -> str:
    record = logging.LogRecord("wsgate", level, "", 0, "%s done", ("well",), None)
    record.levelname = name or record.levelname
    return ConsoleFormatter(colours=colours).format(record)


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
def test_a_line_looks_as_operators_know_it(level: int, line: str) -> None:
    assert formatted(level) == line


def test_a_level_with_a_long_name_of_its_own() -> None:
    assert formatted(55, name="CATASTROPHE") == "CATASTROPHE: well done"


@pytest.mark.parametrize(
    ("level", "line"),
    [
        (logging.INFO, "\033[32mINFO\033[0m:     well done"),
        (logging.WARNING, "\033[33mWARNING\033[0m:  well done"),
        (35, "\033[39mLevel 35\033[0m: well done"),
    ],
)
def test_a_terminal_has_colours(level: int, line: str) -> None:
    assert formatted(level, colours=True) == line


def test_a_traceback_that_quotes_a_client() -> None:
    try:
        raise ValueError("bad: \r\nINFO:     forged\n\x1b[31m\x9b\u2028\ud800 \u65e5\u672c\t!")  # noqa: TRY301
    except ValueError:
        found = sys.exc_info()
    record = logging.LogRecord("wsgate", logging.ERROR, "", 0, "it failed", (), found)
    first, *lines = ConsoleFormatter(colours=False).format(record).split("\n")
    assert first == "ERROR:    it failed"
    assert lines[0] == "  Traceback (most recent call last):"
    assert lines[-3:] == [
        "  ValueError: bad: \\r",
        "  INFO:     forged",
        "  \\x1b[31m\\x9b\\u2028\\ud800 \u65e5\u672c\t!",
    ]
    assert all(line.startswith("  ") for line in lines)


# -- the set-up ------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def say_everything() -> None:
    logs.error.debug("debug")
    logs.error.info("info")
    logs.error.warning("warning")
    logs.access.info("access")


def test_errors_go_to_stderr_and_accesses_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", access_log=True)
    say_everything()
    out, err = capsys.readouterr()
    assert err == "INFO:     info\nWARNING:  warning\n"
    assert out == "INFO:     access\n"


def test_the_level_is_that_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", access_log=True)
    say_everything()
    assert capsys.readouterr() == ("", "WARNING:  warning\n")
    logs.configure("debug", access_log=True)
    say_everything()
    assert capsys.readouterr() == (
        "INFO:     access\n",
        "DEBUG:    debug\nINFO:     info\nWARNING:  warning\n",
    )


def test_the_access_log_may_be_off(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", access_log=False)
    say_everything()
    logs.request_done(CLIENT, request(), 200)
    assert capsys.readouterr() == ("", "INFO:     info\nWARNING:  warning\n")
    assert not logs.access.isEnabledFor(logging.INFO)


def test_only_a_terminal_is_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    logs.configure("info", access_log=True)
    say_everything()
    assert out.getvalue() == "INFO:     access\n"
    assert err.getvalue().startswith("\033[32mINFO\033[0m:     info\n")


def test_the_app_s_own_log_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    own = logging.getLogger("tests.app")
    logs.configure("info", access_log=True)
    own.warning("mine")
    say_everything()
    assert caplog.messages == ["mine"]
    assert not own.disabled


# -- the lines -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "text"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80), "[::1]:80"),
        (None, ""),
    ],
)
def test_an_address(client: tuple[str, int] | None, text: str) -> None:
    assert logs.address(client) == text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain", "plain"),
        ("a\r\nINFO: forged", "a\\r\\nINFO: forged"),
        ("\x1b[31m", "\\x1b[31m"),
        ("é\u2028\ud800", "\\xe9\\u2028\\ud800"),
    ],
)
def test_a_peer_cannot_forge_a_line(text: str, safe: str) -> None:
    assert logs.escaped(text) == safe


def test_a_request(caplog: pytest.LogCaptureFixture) -> None:
    logs.request_done(CLIENT, request(), 200)
    assert caplog.record_tuples == [
        ("wsgate.access", logging.INFO, '127.0.0.1:50000 - "GET /chat?x=1 HTTP/1.1" 200 OK')
    ]


def test_a_status_without_a_name(caplog: pytest.LogCaptureFixture) -> None:
    logs.request_done(None, request(), 799)
    assert caplog.messages == [' - "GET /chat?x=1 HTTP/1.1" 799 ']


def test_a_websocket_that_did_not_open(caplog: pytest.LogCaptureFixture) -> None:
    logs.websocket_refused(CLIENT, request(), 403)
    assert caplog.messages == ['127.0.0.1:50000 - "WebSocket /chat?x=1" 403 Forbidden']


def test_a_websocket_that_opened(caplog: pytest.LogCaptureFixture) -> None:
    logs.websocket_opened(CLIENT, b"/a\\b")
    assert caplog.messages == ['127.0.0.1:50000 - "WebSocket /a\\\\b" [accepted]']


@pytest.mark.parametrize(("reason", "text"), [("", ""), ("by\ne", " by\\ne")])
def test_the_end_of_a_websocket(caplog: pytest.LogCaptureFixture, reason: str, text: str) -> None:
    logs.websocket_closed(
        CLIENT,
        request().target,
        code=1001,
        reason=reason,
        seconds=2.25,
        received=(1, 20),
        sent=(3, 40),
    )
    line = (
        '127.0.0.1:50000 - "WebSocket /chat?x=1" [closed] 1001%s after 2.2 s, in 1/20 B, out 3/40 B'
    )
    assert caplog.messages == [line % text]


# -- what may come a thousand times a second -------------------------------------------------------


def test_a_warning_is_told_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    throttled = Throttled(time=lambda: now[0])
    for now[0] in (100.0, 100.5, 100.99, 101.0, 101.5, 102.5):  # turned by hand
        throttled.warning("full")
    assert caplog.record_tuples == [("wsgate.error", logging.WARNING, "full")] * 3


def test_each_warning_has_its_own_time(caplog: pytest.LogCaptureFixture) -> None:
    throttled = Throttled(seconds=60)
    for text in ("full", "empty", "full", "empty"):
        throttled.warning(text)
    assert caplog.messages == ["full", "empty"]


def test_a_thousand_warnings_by_the_real_clock(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(1_000):
        logs.Throttled(seconds=3_600).warning("new")
        logs.throttled.warning("test_logs")
    assert caplog.messages.count("new") == 1_000
    assert 1 <= caplog.messages.count("test_logs") <= 60
