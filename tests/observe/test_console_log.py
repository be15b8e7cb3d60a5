import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.saved_loggers import LOGGERS, bare_loggers
from wsgate import loggers
from wsgate.observe import console_log


@pytest.fixture(autouse=True)
def _bare_loggers(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with bare_loggers():
        caplog.set_level(logging.DEBUG, "wsgate")
        yield
        console_log.close()  # no thread of a log is left to the tests after this one


# -- set-up ----------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def log_all_levels() -> None:
    loggers.error.debug("debug")
    loggers.error.info("info")
    loggers.error.warning("warning")
    loggers.access.info("access")


def test_error_log_goes_to_stderr_and_access_log_to_stdout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console_log.configure("info")
    log_all_levels()
    out, err = capsys.readouterr()
    assert err == "INFO:     info\nWARNING:  warning\n"
    assert out == "INFO:     access\n"


def test_level_is_set(capsys: pytest.CaptureFixture[str]) -> None:
    console_log.configure("warning")
    log_all_levels()
    assert capsys.readouterr() == ("", "WARNING:  warning\n")
    console_log.configure("debug")
    log_all_levels()
    assert capsys.readouterr() == (
        "INFO:     access\n",
        "DEBUG:    debug\nINFO:     info\nWARNING:  warning\n",
    )


def test_only_terminals_get_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    console_log.configure("info")
    log_all_levels()
    assert out.getvalue() == "INFO:     access\n"
    assert err.getvalue().startswith("\033[32mINFO\033[0m:     info\n")


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("use_colors", [True, False])
def test_colours_can_be_chosen(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], use_colors: bool
) -> None:
    out = stream()
    monkeypatch.setattr(sys, "stdout", out)
    console_log.configure("info", use_colors=use_colors)
    log_all_levels()
    assert out.getvalue().startswith("\033[32mINFO\033[0m:  " if use_colors else "INFO:  ")


def test_removed_handlers_leave_the_records_to_the_root_logger(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    console_log.configure("critical")
    console_log.remove()
    log_all_levels()
    assert capsys.readouterr() == ("", "")
    assert "warning" in caplog.messages


def test_loggers_of_the_app_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    own = logging.getLogger("tests.app")
    console_log.configure("info")
    own.warning("mine")
    log_all_levels()
    assert caplog.messages == ["mine"]
    assert not own.disabled


# -- the loggers of uvicorn ------------------------------------------------------------------------


def log_to_uvicorn() -> None:
    logging.getLogger("uvicorn.error").debug("debug")
    logging.getLogger("uvicorn.error").info("from the app")
    logging.getLogger("uvicorn").warning("warning")
    logging.getLogger("uvicorn.access").info("%s - %d", "a:1", 200)


def test_what_an_app_logs_to_uvicorn_is_logged_as_our_own_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console_log.configure("info")
    log_to_uvicorn()
    assert capsys.readouterr() == (
        "INFO:     a:1 - 200\n",
        "INFO:     from the app\nWARNING:  warning\n",
    )
    console_log.configure("warning")
    log_to_uvicorn()
    assert capsys.readouterr() == ("", "WARNING:  warning\n")


def test_a_logger_of_uvicorn_that_the_host_has_configured_is_left_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    host = Host()
    logging.getLogger("uvicorn").addHandler(host)
    console_log.configure("info")
    logging.getLogger("uvicorn.error").warning("mine")
    assert host.lines == ["mine"]
    assert capsys.readouterr() == ("", "")
    console_log.remove()
    assert logging.getLogger("uvicorn").handlers == [host]


def test_removed_handlers_are_removed_from_uvicorns_loggers(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    console_log.configure("critical")
    console_log.remove()
    log_to_uvicorn()
    assert capsys.readouterr() == ("", "")
    assert "warning" in caplog.messages


# -- logging of the host program -------------------------------------------------------------------


class Host(logging.Handler):
    """A handler of the host program."""

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
def test_handlers_of_the_host_stay_attached_and_open(name: str) -> None:
    logger, host = logging.getLogger(name), Host()
    logger.addHandler(host)
    try:
        console_log.configure("info")
        console_log.configure("info")
        logger.critical("still here")
        assert host in logger.handlers
    finally:
        logger.removeHandler(host)
    assert host.lines == ["still here"]
    assert not host.is_closed


def test_log_file_of_the_host_still_gets_lines(tmp_path: Path) -> None:
    path = tmp_path / "host.log"
    handler = logging.FileHandler(path)
    logger = logging.getLogger("tests.host")
    logger.addHandler(handler)
    try:
        console_log.configure("info")
        logger.warning("later")
    finally:
        logger.removeHandler(handler)
        handler.close()
    assert path.read_text() == "later\n"


def test_handlers_of_an_earlier_call_are_replaced() -> None:
    console_log.configure("info")
    before = [*LOGGERS[0].handlers, *LOGGERS[2].handlers]
    console_log.configure("info")
    after = [*LOGGERS[0].handlers, *LOGGERS[2].handlers]
    assert len(before) == len(after) == 2
    assert not set(before) & set(after)


def test_disabled_loggers_are_enabled(capsys: pytest.CaptureFixture[str]) -> None:
    for logger in LOGGERS:  # as `logging.config` does with those that it does not name
        logger.disabled = True
    console_log.configure("info")
    log_all_levels()
    assert capsys.readouterr() == ("INFO:     access\n", "INFO:     info\nWARNING:  warning\n")


def test_closed_stream_is_reported_in_the_other_log(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    out.close()
    console_log.configure("info")
    log_all_levels()
    assert err.getvalue().splitlines() == [
        "INFO:     info",
        "WARNING:  warning",
        "WARNING:  The access log cannot be written: I/O operation on closed file",
    ]
