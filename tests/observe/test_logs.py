import asyncio
import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wsgate.observe import logs
from wsgate.observe.logs import Throttled
from wsgate.testing import serve

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


# -- the host program's logging --------------------------------------------------------------------


class Host(logging.Handler):
    """A handler of the host program's."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.is_closed = False

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def close(self) -> None:
        self.is_closed = True
        super().close()


@pytest.mark.parametrize("name", ["wsgate", "wsgate.error", "wsgate.access", "tests.host", "root"])
def test_the_host_s_handlers_stay_and_stay_open(name: str) -> None:
    logger, host = logging.getLogger(name), Host()
    logger.addHandler(host)
    try:
        logs.configure("info", access_log=True)
        logs.configure("info", access_log=False)
        logger.critical("still here")
        assert host in logger.handlers
    finally:
        logger.removeHandler(host)
    assert host.lines == ["still here"]
    assert not host.is_closed


def test_a_file_of_the_host_s_gets_its_later_lines(tmp_path: Path) -> None:
    path = tmp_path / "host.log"
    handler = logging.FileHandler(path)
    logger = logging.getLogger("tests.host")
    logger.addHandler(handler)
    try:
        logs.configure("info", access_log=True)
        logger.warning("later")
    finally:
        logger.removeHandler(handler)
        handler.close()
    assert path.read_text() == "later\n"


def test_our_own_handlers_are_replaced() -> None:
    logs.configure("info", access_log=True)
    before = [*LOGGERS[0].handlers, *LOGGERS[2].handlers]
    logs.configure("info", access_log=True)
    after = [*LOGGERS[0].handlers, *LOGGERS[2].handlers]
    assert len(before) == len(after) == 2
    assert not set(before) & set(after)


def test_loggers_that_the_host_s_set_up_has_disabled(capsys: pytest.CaptureFixture[str]) -> None:
    for logger in LOGGERS:  # as `logging.config` does with all that it does not name
        logger.disabled = True
    logs.configure("info", access_log=True)
    say_everything()
    assert capsys.readouterr() == ("INFO:     access\n", "INFO:     info\nWARNING:  warning\n")


def test_streams_that_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    out.close()
    logs.configure("info", access_log=True)
    say_everything()
    assert err.getvalue().splitlines() == [
        "INFO:     info",
        "WARNING:  warning",
        "WARNING:  The access log cannot be written: I/O operation on closed file",
    ]


# -- handlers that fail ----------------------------------------------------------------------------


class Failing(Host):
    """A handler that lets its error out."""

    def emit(self, record: logging.LogRecord) -> None:
        raise KeyError("no \n\u65e5\u672c")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    handler = Failing()
    LOGGERS[1].addHandler(handler)
    monkeypatch.setattr(logs.error, "_is_reported", False)
    yield
    LOGGERS[1].removeHandler(handler)


def test_a_handler_that_fails_is_reported_once(
    failing: None, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        logs.error.error("lost")
        logs.throttled.warning("lost")
    line = r"wsgate: a handler or filter of wsgate.error fails: KeyError: 'no \n\u65e5\u672c'"
    assert capfd.readouterr() == ("", line + "\n")


async def test_a_server_starts_serves_and_stops_with_a_handler_that_fails(
    failing: None, capfd: pytest.CaptureFixture[str]
) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise NotImplementedError

    async with serve(fails) as server:
        for request in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"nonsense\r\n\r\n"):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(request)
            assert (await reader.read()).startswith((b"HTTP/1.1 500", b"HTTP/1.1 400"))
            writer.close()
            await writer.wait_closed()
    assert server.connections == server.tasks == 0
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_a_filter_that_fails(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(record: logging.LogRecord) -> bool:
        raise ValueError("a filter")

    monkeypatch.setattr(logs.error, "_is_reported", False)
    LOGGERS[1].addFilter(fails)
    try:
        logs.error.error("lost")
    finally:
        LOGGERS[1].removeFilter(fails)
    assert capfd.readouterr().err.endswith(" fails: ValueError: a filter\n")


def test_what_ends_the_program_is_let_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(record: logging.LogRecord) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(LOGGERS[1], "filters", [interrupt])
    with pytest.raises(KeyboardInterrupt):
        logs.error.error("lost")


def test_a_record_names_its_caller(caplog: pytest.LogCaptureFixture) -> None:
    expected = sys._getframe().f_lineno + 1
    logs.error.info("%s", "here")
    logs.error.log(logging.INFO, "here")
    try:
        raise ValueError("caught")  # noqa: TRY301
    except ValueError:
        logs.error.exception("here")
    Throttled().warning("here")
    assert [record.filename for record in caplog.records] == ["test_logs.py"] * 4
    assert [record.funcName for record in caplog.records] == ["test_a_record_names_its_caller"] * 4
    assert caplog.records[0].lineno == expected
    assert caplog.records[2].exc_info is not None


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
