"""When a worker pauses accepting for the others to catch up, with a clock turned by hand."""

import heapq
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given, strategies as st

from wsgate.server.admission import Admission
from wsgate.server.balance import _PATIENCE, Balance, _has_waiting, margin
from wsgate.server.other_workers import NoOtherWorkers


class Loop:
    """A loop whose time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 50.0
        self._timers: list[tuple[float, int, Timer, Callable[[], object]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object], *, context: Any) -> "Timer":
        assert context == "the server's"
        timer = Timer()
        heapq.heappush(self._timers, (self.now + delay, len(self._timers), timer, callback))
        return timer

    def pass_time(self, seconds: float) -> int:
        """Let time pass; return how many callbacks were called."""
        end, called = self.now + seconds, 0
        while self._timers and self._timers[0][0] <= end:
            self.now, _, timer, callback = heapq.heappop(self._timers)
            if not timer.is_cancelled:
                called += 1
                callback()
        self.now = end
        return called


class Timer:
    is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Others(NoOtherWorkers):
    """The other workers. fewest: the connections of the emptiest. taken: what they accepted."""

    count = 2
    fewest: int | None = 0
    taken = 0

    def fewest_connections(self) -> int | None:
        return self.fewest

    def accepted(self) -> int:
        return self.taken


class Listener:
    sock: socket.socket | None = None

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")


class World:
    """One worker among others. is_waiting: a connection waits to be accepted."""

    def __init__(self) -> None:
        self.loop, self.other_workers, self.admission = Loop(), Others(), Admission(10_000, None)
        self.variables = "the server's"
        self.listeners = [Listener(), Listener()]
        self.is_waiting = False
        self.balance = Balance(
            cast("Any", self), self.listeners, has_waiting=lambda _: self.is_waiting
        )
        self.admission.on_change = self.balance.connections_changed

    def accept(self, count: int) -> int:
        """Accept until the worker pauses, at most so many; return how many."""
        for accepted in range(count):
            if self.balance.is_paused:
                return accepted
            self.admission.enter(None)
        return count

    def leave(self, count: int) -> None:
        for _ in range(count):
            self.admission.leave(None, was_admitted=True)

    def is_paused(self) -> bool:
        return self.balance.is_paused

    @property
    def calls(self) -> list[str]:
        """What the listeners were told, which is the same for all."""
        one, other = (listener.calls for listener in self.listeners)
        assert one == other
        return one


@pytest.fixture
def world() -> World:
    return World()


# -- the margin ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fewest", "allowed"), [(0, 8), (511, 8), (512, 8), (576, 9), (6_400, 100)]
)
def test_the_margin_grows_with_the_connections(fewest: int, allowed: int) -> None:
    assert margin(fewest) == allowed


@pytest.mark.parametrize("fewest", [0, 100, 1_000, 6_400])
def test_it_pauses_with_more_than_the_margin_above_the_emptiest(world: World, fewest: int) -> None:
    world.other_workers.fewest = fewest
    assert world.accept(10_000) == fewest + margin(fewest) + 1
    assert world.calls == ["pause"]


def test_it_does_not_pause_while_no_other_accepts(world: World) -> None:
    world.other_workers.fewest = None
    assert world.accept(500) == 500
    assert world.calls == []


def test_it_notices_within_some_connections_that_another_accepts(world: World) -> None:
    world.other_workers.fewest = None
    world.accept(500)
    world.other_workers.fewest = 0
    assert world.accept(500) <= 9
    assert world.is_paused()


def test_the_others_are_not_asked_for_each_connection(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def fewest_connections() -> int:
        asked.append(world.admission.total)
        return 100

    monkeypatch.setattr(world.other_workers, "fewest_connections", fewest_connections)
    world.accept(100)
    assert len(asked) <= 100 // 8


def test_connections_that_have_closed_do_not_count_later(world: World) -> None:
    world.other_workers.fewest = 1_000
    world.accept(1_000)
    world.leave(1_000)
    world.other_workers.fewest = 0
    assert world.accept(500) == 9
    assert world.is_paused()


def test_others_that_have_lost_theirs_are_noticed(world: World) -> None:
    world.other_workers.fewest = 1_000
    world.accept(10)
    world.other_workers.fewest = 0
    assert world.accept(500) <= 9
    assert world.is_paused()


# -- resuming --------------------------------------------------------------------------------------


def test_it_resumes_at_half_of_the_margin(world: World) -> None:
    world.other_workers.fewest = 100
    world.accept(500)
    world.other_workers.fewest = 104
    world.loop.pass_time(1)
    assert world.is_paused(), "it has 109"
    world.other_workers.fewest = 105
    world.loop.pass_time(1)
    assert not world.is_paused()
    assert world.calls == ["pause", "resume"]
    assert world.loop.pass_time(10) == 0, "no timer is left"


def test_it_resumes_when_its_own_connections_leave(world: World) -> None:
    world.accept(500)
    world.leave(4)
    world.loop.pass_time(1)
    assert world.is_paused(), "it has 5"
    world.leave(1)
    world.loop.pass_time(1)
    assert not world.is_paused()


def test_it_resumes_when_no_other_accepts_any_more(world: World) -> None:
    world.accept(500)
    world.other_workers.fewest = None
    world.loop.pass_time(0.1)
    assert not world.is_paused()
    assert world.accept(20) == 20


def test_after_it_resumed_it_may_pause_again(world: World) -> None:
    assert world.accept(500) == 9
    world.other_workers.fewest = 5
    world.loop.pass_time(1)
    assert world.accept(500) == 1 + 4, "above half of the margin up to the whole"
    assert world.calls == ["pause", "resume", "pause"]


# -- others that do not take what is waiting -------------------------------------------------------


def test_a_stalled_worker_is_not_waited_for(world: World) -> None:
    world.accept(500)
    world.is_waiting = True
    start = world.loop.now
    while world.is_paused():
        world.loop.pass_time(0.001)
    assert world.loop.now - start == pytest.approx(_PATIENCE, abs=0.006)
    assert world.accept(500) == 9, "a few, and then the others have their chance again"


def test_a_worker_that_accepts_is_waited_for(world: World) -> None:
    world.accept(500)
    world.is_waiting = True
    for _ in range(200):
        world.other_workers.taken += 1
        world.loop.pass_time(0.01)
    assert world.is_paused()
    world.loop.pass_time(0.05)
    assert not world.is_paused()


def test_a_connection_that_has_just_arrived_may_wait(world: World) -> None:
    world.accept(500)
    world.loop.pass_time(10)  # nothing waits
    world.is_waiting = True
    arrived = world.loop.now
    while world.is_paused():
        world.loop.pass_time(0.001)
    assert 0.02 <= world.loop.now - arrived <= 0.2


def test_it_looks_less_often_while_nothing_arrives(world: World) -> None:
    world.accept(500)
    assert world.loop.pass_time(0.1) >= 3
    assert world.loop.pass_time(10) <= 101
    world.other_workers.taken += 1  # another one accepts: the pauses are short again
    assert world.loop.pass_time(0.2) >= 4


# -- the end ---------------------------------------------------------------------------------------


def test_after_the_stop_nothing_is_paused(world: World) -> None:
    world.balance.stop()
    assert world.accept(500) == 500
    assert world.calls == []


def test_after_the_stop_nothing_is_resumed(world: World) -> None:
    world.accept(500)
    world.balance.stop()
    world.other_workers.fewest = 1_000
    assert world.loop.pass_time(10) == 0
    world.leave(1)
    assert world.calls == ["pause"]


# -- what waits ------------------------------------------------------------------------------------


def test_the_kernel_knows_whether_a_connection_waits() -> None:
    silent, busy, memory = Listener(), Listener(), Listener()
    with (
        socket.create_server(("127.0.0.1", 0)) as silent.sock,
        socket.create_server(("127.0.0.1", 0)) as busy.sock,
    ):
        assert not _has_waiting([silent, busy, memory])
        with socket.create_connection(busy.sock.getsockname()):
            assert _has_waiting([silent, busy, memory])
            assert not _has_waiting([silent, memory])
            busy.sock.accept()[0].close()
            assert not _has_waiting([silent, busy])
    assert not _has_waiting([memory])


# -- several workers -------------------------------------------------------------------------------


@given(st.data(), st.integers(2, 5))
def test_no_worker_gets_far_ahead_of_the_others(data: st.DataObject, count: int) -> None:
    worlds = [World() for _ in range(count)]
    for arrived in range(data.draw(st.integers(0, 300))):
        open_ones = [world for world in worlds if not world.is_paused()]
        assert open_ones, f"all have paused after {arrived}"
        data.draw(st.sampled_from(open_ones)).accept(1)
        totals = [world.admission.total for world in worlds]
        assert max(totals) - min(totals) <= margin(min(totals)) + 1
        for world in worlds:
            world.other_workers.fewest = min(w.admission.total for w in worlds if w is not world)
            world.other_workers.taken = sum(totals) - world.admission.total
            world.loop.pass_time(0.005)
