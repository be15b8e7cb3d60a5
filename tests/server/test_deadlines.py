import logging
import math
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings, strategies as st

from tests.saved_loggers import bare_loggers
from wsgate.server.deadlines import _MAX_CHECKS, MAX_PAUSE, TICK, Deadlines


class Item:
    """Has a deadline and records when it is checked."""

    def __init__(self, *answers: float, then: Callable[[], None] = lambda: None) -> None:
        self.bucket: int | None = None
        self.checked: list[float] = []
        self._answers = list(answers)
        self._then = then

    def check(self, now: float) -> float:
        self.checked.append(now)
        self._then()
        return self._answers.pop(0) if self._answers else math.inf


def test_an_item_is_checked_when_its_deadline_is_reached() -> None:
    deadlines, item = Deadlines(), Item()
    deadlines.schedule(item, 10.0)
    assert not deadlines.sweep(10.0 - TICK)
    assert item.checked == []
    assert not deadlines.sweep(10.0)
    assert item.checked == [10.0]
    assert item.bucket is None
    assert not deadlines.sweep(100.0)
    assert item.checked == [10.0]


def test_a_check_returns_the_next_deadline() -> None:
    deadlines, item = Deadlines(), Item(12.0, 11.0, math.inf)
    deadlines.schedule(item, 10.0)
    for now in (10.0, 11.75, 12.0, 12.25, 50.0):
        deadlines.sweep(now)
    assert item.checked == [10.0, 12.0, 12.25]  # a time gone by is the next there is


def test_an_item_that_is_due_again_is_checked_in_the_next_sweep() -> None:
    deadlines, item = Deadlines(), Item(10.0, 10.0)
    deadlines.schedule(item, 10.0)
    assert not deadlines.sweep(10.0)
    assert item.checked == [10.0]
    assert not deadlines.sweep(10.0 + TICK)
    assert item.checked == [10.0, 10.0 + TICK]


def test_an_infinite_deadline_is_not_stored() -> None:
    deadlines, item = Deadlines(), Item()
    deadlines.schedule(item, math.inf)
    assert item.bucket is None
    assert deadlines._buckets == {}


def test_an_earlier_deadline_moves_an_item_and_a_later_one_does_not() -> None:
    deadlines, item = Deadlines(), Item()
    deadlines.schedule(item, 10.0)
    deadlines.schedule(item, 20.0)
    assert item.bucket == 10.0 / TICK
    deadlines.schedule(item, 5.0)
    assert item.bucket == 5.0 / TICK
    deadlines.sweep(30.0)
    assert item.checked == [30.0]


def test_a_disarmed_item_is_not_checked() -> None:
    deadlines, item = Deadlines(), Item()
    deadlines.cancel(item)
    deadlines.schedule(item, 10.0)
    deadlines.cancel(item)
    deadlines.cancel(item)
    deadlines.sweep(10.0)
    assert item.checked == []
    assert item.bucket is None
    assert deadlines._buckets == {}


def test_an_item_may_be_disarmed_while_it_is_checked() -> None:
    deadlines = Deadlines()
    item = Item(then=lambda: deadlines.cancel(item))
    deadlines.schedule(item, 1.0)
    assert not deadlines.sweep(1.0)
    assert item.checked == [1.0]


def test_an_item_that_arms_itself_while_it_is_checked_keeps_the_earlier_time() -> None:
    deadlines = Deadlines()
    item = Item(9.0, then=lambda: deadlines.schedule(item, 5.0) if len(item.checked) == 1 else None)
    deadlines.schedule(item, 1.0)
    for now in (1.0, 4.75, 5.0):
        deadlines.sweep(now)
    assert item.checked == [1.0, 5.0]


def test_a_check_may_disarm_and_move_others_of_its_bucket() -> None:
    deadlines = Deadlines()

    def change_the_others() -> None:
        for item in items:
            if not item.checked:
                deadlines.cancel(item)
                deadlines.schedule(item, 3.0)

    items = [Item(then=change_the_others) for _ in range(3)]
    for item in items:
        deadlines.schedule(item, 1.0)
    deadlines.sweep(1.0)
    assert sorted(item.checked for item in items) == [[], [], [1.0]]
    deadlines.sweep(3.0)
    assert sorted(item.checked for item in items) == [[1.0], [3.0], [3.0]]
    assert deadlines._buckets == {}


def test_earlier_buckets_come_first() -> None:
    deadlines, order = Deadlines(), list[str]()
    late, early = Item(then=lambda: order.append("late")), Item(then=lambda: order.append("early"))
    deadlines.schedule(late, 2.0)
    deadlines.schedule(early, 1.0)
    deadlines.sweep(3.0)
    assert order == ["early", "late"]


def test_a_sweep_leaves_what_exceeds_one_loop_iteration() -> None:
    deadlines, items = Deadlines(), [Item() for _ in range(2 * _MAX_CHECKS + 1)]
    for item in items:
        deadlines.schedule(item, 1.0)
    turns = []
    while deadlines.sweep(1.0):
        turns.append(sum(len(item.checked) for item in items))
    assert turns == [_MAX_CHECKS, 2 * _MAX_CHECKS]
    assert all(item.checked == [1.0] for item in items)


def test_the_limit_of_an_iteration_spans_buckets() -> None:
    deadlines = Deadlines()
    first, second = [Item() for _ in range(_MAX_CHECKS)], [Item()]
    for item in first:
        deadlines.schedule(item, 1.0)
    deadlines.schedule(second[0], 2.0)
    assert deadlines.sweep(2.0)
    assert all(item.checked for item in first)
    assert not second[0].checked
    assert not deadlines.sweep(2.0)
    assert second[0].checked == [2.0]


# -- checks that raise -----------------------------------------------------------------------------


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with bare_loggers():
        caplog.set_level(logging.ERROR, "wsgate")
        yield caplog


class FailingItem(Item):
    """Raises the given exceptions, one at each check."""

    def __init__(self, *failures: BaseException) -> None:
        super().__init__(then=self._fail)
        self._failures = list(failures)

    def _fail(self) -> None:
        if self._failures:
            raise self._failures.pop(0)


def test_an_item_whose_check_raises_is_checked_again(errors: pytest.LogCaptureFixture) -> None:
    deadlines, item = Deadlines(), FailingItem(OSError("once"), OSError("twice"))
    deadlines.schedule(item, 1.0)
    for now in (1.0, 1.0, 1.0 + TICK, 1.0 + 2 * TICK, 1.0 + 3 * TICK):
        assert not deadlines.sweep(now)
    assert item.checked == [1.0, 1.0 + TICK, 1.0 + 2 * TICK]
    assert item.bucket is None
    assert errors.messages == ["A deadline could not be processed; it is tried again"]


def test_a_check_that_raises_does_not_delay_the_others(errors: pytest.LogCaptureFixture) -> None:
    deadlines = Deadlines()
    items = [FailingItem(*[OSError()] * 100) for _ in range(3)] + [Item() for _ in range(3)]
    for item in items:
        deadlines.schedule(item, 1.0)
    assert not deadlines.sweep(1.0)
    assert [item.checked for item in items] == [[1.0]] * len(items)
    assert len(errors.records) == 1


def test_an_interrupted_check_is_not_lost() -> None:
    deadlines, item = Deadlines(), FailingItem(KeyboardInterrupt())
    deadlines.schedule(item, 1.0)
    with pytest.raises(KeyboardInterrupt):
        deadlines.sweep(1.0)
    deadlines.sweep(1.0 + TICK)
    assert item.checked == [1.0, 1.0 + TICK]


# -- when to sweep ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "pause"), [(10.1, 0.25), (10.25, 0.25), (10.3, 0.5), (99.0, 1.0)])
def test_the_next_sweep_is_at_the_next_deadline(at: float, pause: float) -> None:
    deadlines, item = Deadlines(), Item()
    deadlines.schedule(item, at)
    planned = deadlines.plan_sweep(10.0)
    assert pause <= planned <= pause + 0.01
    assert deadlines.sweep(10.0 + planned) is False
    assert bool(item.checked) == (at < 11)


def test_a_deadline_that_is_over_is_swept_at_once() -> None:
    deadlines = Deadlines()
    deadlines.schedule(Item(), 10.0)
    assert deadlines.plan_sweep(12.0) == 0


def test_without_deadlines_a_sweep_is_planned_all_the_same() -> None:
    assert Deadlines().plan_sweep(10.0) == MAX_PAUSE


def test_only_a_deadline_before_the_planned_sweep_hastens_it() -> None:
    deadlines, hastened = Deadlines(), list[float]()
    deadlines.hasten = lambda: hastened.append(deadlines.plan_sweep(10.0))
    deadlines.schedule(Item(), 10.2)
    assert hastened == []  # none is planned yet
    deadlines.sweep(10.3)
    deadlines.plan_sweep(10.3)
    for at in (12.0, 11.2, 11.3, 10.8, 10.8, 10.9):
        deadlines.schedule(Item(), at)
    assert [round(pause, 1) for pause in hastened] == [1.0]


def test_no_sweep_is_hastened_by_a_check() -> None:
    deadlines, hastened = Deadlines(), list[float]()
    deadlines.hasten = lambda: hastened.append(0)
    deadlines.schedule(Item(11.0, then=lambda: deadlines.schedule(Item(), 10.5)), 10.0)
    deadlines.plan_sweep(9.0)
    deadlines.sweep(10.0)
    assert hastened == []


@settings(deadline=None)
@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_deadline_is_never_early_and_late_by_a_tick_at_most(start: float, seconds: float) -> None:
    deadlines, item, at = Deadlines(), Item(), start + seconds
    deadlines.schedule(item, at)
    deadlines.sweep(math.nextafter(at, 0))
    assert at == 0 or not item.checked
    deadlines.sweep(at + TICK)
    assert item.checked
