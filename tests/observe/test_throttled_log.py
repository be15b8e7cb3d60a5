import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from typing import NoReturn

import pytest

from tests.harness.waiting import until
from tests.saved_loggers import bare_loggers
from wsgate.observe import throttled_log
from wsgate.observe.log_fields import fields_of
from wsgate.observe.throttled_log import ThrottledLog, throttled


@pytest.fixture(autouse=True)
def _bare_loggers(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with bare_loggers():
        caplog.set_level(logging.DEBUG, "wsgate")
        yield


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> ThrottledLog:
    return ThrottledLog(10.0, clock)


# -- the first at once, then numbers ---------------------------------------------------------------


def test_the_first_is_logged_at_once_and_then_a_number_each_interval(
    throttle: ThrottledLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for clock.now in (100.0, 100.5, 109.9):
        throttle.warning("full")
    assert caplog.record_tuples == [("wsgate.error", logging.WARNING, "full")]
    for clock.now in (110.0, 111.0, 120.0):
        throttle.warning("full")
    assert caplog.messages[1:] == ["full (repeated 2 times in 10 s)"] * 2
    clock.now = 130.0
    throttle.report_due()
    assert caplog.messages[3:] == ["full (repeated once in 10 s)"]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_after_an_interval_without_it_a_line_is_a_first_one_again(
    throttle: ThrottledLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for clock.now in (100.0, 110.0, 125.0):
        throttle.warning("full")
    assert caplog.messages == ["full"] * 3


def test_each_text_and_level_is_counted_by_itself(
    throttle: ThrottledLog, caplog: pytest.LogCaptureFixture
) -> None:
    for text in ("full", "empty", "full", "empty"):
        throttle.warning(text)
        throttle.error(text)
    assert caplog.messages == ["full", "full", "empty", "empty"]


def test_arguments_may_vary_and_those_of_the_first_are_shown(
    throttle: ThrottledLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        throttle.info("client %d", number)
    assert {record.filename for record in caplog.records} == {"test_throttled_log.py"}
    clock.now += 2.5
    throttle.report_all()
    assert caplog.messages == ["client 0", "client 0 (repeated 2 times in 2.5 s)"]
    assert fields_of(caplog.records[0]).get("repeated") is None
    assert fields_of(caplog.records[1])["repeated"] == 2


def test_a_line_below_the_level_is_not_counted(
    throttle: ThrottledLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "wsgate")
    throttle.info("quiet")
    throttle.info("quiet")
    caplog.set_level(logging.INFO, "wsgate")
    throttle.report_all()
    throttle.info("quiet")
    assert caplog.messages == ["quiet"]


# -- exceptions ------------------------------------------------------------------------------------


def throw(error: BaseException, cause: BaseException | None) -> NoReturn:
    raise error from cause


def fail(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """Return an exception that was raised."""
    try:
        throw(error, cause)
    except BaseException as raised:  # noqa: BLE001  # it is ours
        return raised


def test_an_exception_has_its_traceback_once(
    throttle: ThrottledLog, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a\n", "b"):
        throttle.exception("%s failed", "it", error=fail(KeyError(name)))
    throttle.report_all()
    first, number = caplog.records
    assert first.getMessage() == "it failed"
    assert first.exc_info is not None
    assert first.exc_info[0] is KeyError
    assert number.exc_info is None
    assert number.getMessage() == r"it failed: KeyError: 'a\\n' (repeated once in 0.1 s)"


def test_the_exception_that_is_being_handled_is_the_default(
    throttle: ThrottledLog, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        [].pop()
    except IndexError:
        throttle.exception("failed")
    assert caplog.records[0].exc_info is not None


def test_exceptions_of_other_types_causes_and_members_are_others(
    throttle: ThrottledLog, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[BaseException] = [
        fail(KeyError(1)),
        fail(IndexError()),
        fail(RuntimeError()),
        fail(RuntimeError(), fail(KeyError(2))),
        fail(RuntimeError(), fail(IndexError())),
        fail(BaseExceptionGroup("", [fail(KeyError(3)), fail(KeyError(4))])),
        fail(BaseExceptionGroup("", [fail(KeyError(5)), fail(IndexError())])),
    ]
    for error in (*errors, *errors):
        throttle.exception("failed", error=error)
    assert caplog.messages == ["failed"] * len(errors)
    caplog.clear()
    throttle.report_all()
    assert len(caplog.messages) == len(errors)


def test_exceptions_of_another_line_of_code_are_others(
    throttle: ThrottledLog, caplog: pytest.LogCaptureFixture
) -> None:
    for index in (0, 0, 1, 1):
        try:
            if index:
                _ = 1 / 0
            _ = 2 / 0
        except ZeroDivisionError:
            throttle.exception("failed")
    assert caplog.messages == ["failed"] * 2


def test_a_circular_chain_has_an_end(throttle: ThrottledLog) -> None:
    error, other = fail(KeyError(1)), fail(KeyError(2))
    error.__context__, other.__context__ = other, error
    throttle.exception("failed", error=error)


# -- nothing is lost, and nothing is kept ----------------------------------------------------------


def test_numbers_add_up_with_more_lines_than_are_remembered(
    throttle: ThrottledLog,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(throttled_log, "MAX_LINES", 5)
    for number in range(200):
        clock.now += number % 7 / 4
        text = f"text {number % 11 % (number // 20 + 1)}"
        throttle.warning(text)
        assert len(throttle._lines) <= 5
    throttle.report_all()
    assert not throttle._lines
    fields = [fields_of(record) for record in caplog.records]
    assert sum(one.get("repeated", 1) for one in fields) == 200
    assert len(fields) < 200


def test_numbers_of_threads_add_up(
    throttle: ThrottledLog, caplog: pytest.LogCaptureFixture
) -> None:
    def warn() -> None:
        for _ in range(500):
            throttle.warning("full")

    threads = [threading.Thread(target=warn) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    throttle.report_all()
    assert sorted(caplog.messages) == ["full", "full (repeated 1999 times in 0.1 s)"]


def test_a_forked_child_forgets_the_numbers_of_its_parent() -> None:
    throttled.warning("of the parent")
    pid = os.fork()
    if not pid:
        os._exit(len(throttled._lines))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert throttled._lines
    throttled.forget()


# -- in an event loop ------------------------------------------------------------------------------


async def test_the_number_appears_without_a_further_line(caplog: pytest.LogCaptureFixture) -> None:
    throttle = ThrottledLog(0.05)
    throttle.warning("full")
    throttle.warning("full")
    await until(lambda: throttle._timer_loop is None)
    assert not throttle._lines
    assert caplog.messages[0] == "full"
    assert caplog.messages[1].startswith("full (repeated once in 0.")


def test_the_timer_of_a_closed_loop_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    throttle = ThrottledLog(0.05)

    async def warn() -> None:
        throttle.warning("full")

    async def warn_and_wait() -> None:
        throttle.warning("another")
        throttle.warning("another")
        await until(lambda: not throttle._lines)

    asyncio.run(warn())
    asyncio.run(warn_and_wait())
    assert caplog.messages[:2] == ["full", "another"]
    assert caplog.messages[2].startswith("another (repeated once in ")
