import logging
from collections.abc import Iterator

import pytest

from tests.saved_loggers import bare_loggers
from wsgate.observe.throttled_log import ThrottledLog, throttled


@pytest.fixture(autouse=True)
def _bare_loggers(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with bare_loggers():
        caplog.set_level(logging.DEBUG, "wsgate")
        yield


def test_warning_is_logged_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    log = ThrottledLog(clock=lambda: now[0])
    for now[0] in (100.0, 100.5, 100.99, 101.0, 101.5, 102.5):
        log.warning("full")
    assert caplog.record_tuples == [("wsgate.error", logging.WARNING, "full")] * 3


def test_each_text_is_throttled_separately(caplog: pytest.LogCaptureFixture) -> None:
    log = ThrottledLog(interval=60)
    for text in ("full", "empty", "full", "empty"):
        log.warning(text)
    assert caplog.messages == ["full", "empty"]


def test_arguments_may_vary(caplog: pytest.LogCaptureFixture) -> None:
    log = ThrottledLog(interval=60)
    for number in range(3):
        log.info("client %d", number)
        log.warning("server %d", number)
        log.error("file %d", number)
    assert caplog.record_tuples == [
        ("wsgate.error", logging.INFO, "client 0"),
        ("wsgate.error", logging.WARNING, "server 0"),
        ("wsgate.error", logging.ERROR, "file 0"),
    ]
    assert {record.filename for record in caplog.records} == {"test_throttled_log.py"}


def test_thousand_warnings_by_the_real_clock(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(1_000):
        ThrottledLog(interval=3_600).warning("new")
        throttled.warning("test")
    assert caplog.messages.count("new") == 1_000
    assert 1 <= caplog.messages.count("test") <= 60


def test_a_text_is_throttled_whatever_its_arguments(caplog: pytest.LogCaptureFixture) -> None:
    log = ThrottledLog(interval=60)
    for client in ("a", "b"):
        log.warning("%s is late", client)
    assert caplog.messages == ["a is late"]


def test_an_exception_has_its_traceback_and_is_throttled(caplog: pytest.LogCaptureFixture) -> None:
    log = ThrottledLog(interval=60)
    for _ in range(2):
        try:
            [].pop()
        except IndexError:
            log.exception("%s failed", "it")
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "it failed")
    assert record.exc_info is not None
    assert record.exc_info[0] is IndexError
