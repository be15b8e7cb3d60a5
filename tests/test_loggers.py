import asyncio
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.saved_loggers import LOGGERS, bare_loggers
from wsgate import loggers
from wsgate.observe.throttled_log import ThrottledLog, throttled
from wsgate.testing import serve


@pytest.fixture(autouse=True)
def _bare_loggers(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with bare_loggers():
        caplog.set_level(logging.DEBUG, "wsgate")
        yield


class Failing(logging.Handler):
    """A handler that raises."""

    def emit(self, record: logging.LogRecord) -> None:
        raise KeyError("no \n\u65e5\u672c")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    handler = Failing()
    LOGGERS[1].addHandler(handler)
    monkeypatch.setattr(loggers.error, "_is_reported", False)
    yield
    LOGGERS[1].removeHandler(handler)


def test_a_level_is_that_of_both_loggers() -> None:
    for level in ("error", "DEBUG", "trace"):
        loggers.name_trace_level()
        loggers.set_level(level)
        names = [logging.getLevelName(logger.level) for logger in LOGGERS[1:]]
        assert names == [level.upper()] * 2


def test_failing_handler_is_reported_once(failing: None, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        loggers.error.error("lost")
        throttled.warning("lost")
    line = r"wsgate: a handler or filter of wsgate.error fails: KeyError: 'no \n\u65e5\u672c'"
    assert capfd.readouterr() == ("", line + "\n")


async def test_server_starts_serves_and_stops_with_a_failing_handler(
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


def test_failing_filter_is_reported(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(record: logging.LogRecord) -> bool:
        raise ValueError("a filter")

    monkeypatch.setattr(loggers.error, "_is_reported", False)
    LOGGERS[1].addFilter(fails)
    try:
        loggers.error.error("lost")
    finally:
        LOGGERS[1].removeFilter(fails)
    assert capfd.readouterr().err.endswith(" fails: ValueError: a filter\n")


def test_keyboard_interrupt_is_not_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(record: logging.LogRecord) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(LOGGERS[1], "filters", [interrupt])
    with pytest.raises(KeyboardInterrupt):
        loggers.error.error("lost")


def test_records_name_their_caller(caplog: pytest.LogCaptureFixture) -> None:
    expected = sys._getframe().f_lineno + 1
    loggers.error.info("%s", "here")
    loggers.error.log(logging.INFO, "here")
    try:
        raise ValueError("caught")  # noqa: TRY301
    except ValueError:
        loggers.error.exception("here")
    ThrottledLog().warning("here")
    assert [record.filename for record in caplog.records] == ["test_loggers.py"] * 4
    assert [record.funcName for record in caplog.records] == ["test_records_name_their_caller"] * 4
    assert caplog.records[0].lineno == expected
    assert caplog.records[2].exc_info is not None


class Kept(logging.Handler):
    """Keeps the records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler, logger = Kept(), loggers.access.logger
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def log_both(kept: Kept) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the attributes of a record without a caller, and of one that logging has made."""
    loggers.access.log_without_caller(logging.INFO, "a %s", "b")
    logger = loggers.access.logger
    standard = logger.makeRecord(
        logger.name, logging.INFO, loggers.__file__, 0, "a %s", ("b",), None
    )
    (record,) = kept.records
    assert record.getMessage() == "a b"
    own = dict(vars(record))
    own.pop("message", None)  # set by the formatter of another handler
    assert repr(own.pop(loggers.EVENT)) == "<event>"
    return own, dict(vars(standard))


TIMES = ("created", "msecs", "relativeCreated")


def test_a_record_without_a_caller_is_like_every_other(kept: Kept) -> None:
    own, standard = log_both(kept)
    for name in TIMES:
        assert type(own[name]) is type(standard[name])
        assert abs(own.pop(name) - standard.pop(name)) < 1_000
    assert own == standard


async def test_a_record_knows_its_task_and_thread(kept: Kept) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.set_name("this one")
    own, standard = await asyncio.to_thread(log_both, kept)
    assert own["threadName"] == standard["threadName"] != "MainThread"
    kept.records.clear()
    own, standard = log_both(kept)
    assert own.get("taskName") == standard.get("taskName")


def test_records_of_the_host_program_are_used(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(logging.LogRecord):
        pass

    factory = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Own)
    try:
        loggers.access.log_without_caller(logging.INFO, "a")
    finally:
        logging.setLogRecordFactory(factory)
    assert type(kept.records[0]) is Own
