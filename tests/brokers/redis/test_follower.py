"""One topic with history: each publication once, in order, and every gap noticed."""

import asyncio

import pytest

from tests.harness.waiting import soon, start_task, turns
from wsgate.brokers.redis import follower as follower_module
from wsgate.brokers.redis.follower import Follower, Reached
from wsgate.brokers.redis.format import Frame

EPOCH, NEXT = b"epoch--1", b"epoch--2"


def frame(place: int, epoch: bytes = EPOCH) -> Frame:
    return Frame(epoch, place, b"origin--", place, None, f"{place}")


def reached(
    place: int,
    *frames: Frame,
    epoch: bytes = EPOCH,
    chain: dict[bytes, int] | None = None,
    dropped: int = 0,
) -> Reached:
    return Reached(
        epoch=epoch, place=place, chain=chain or {}, dropped=dropped, frames=list(frames)
    )


class Followed:
    """A follower that records what it calls."""

    def __init__(self, place: int | None = 3) -> None:
        self.events: list[str] = []
        self.follower = Follower(
            lambda frame: self.events.append(str(frame.data)),
            lambda: self.events.append("gap"),
            lambda: self.events.append("lost"),
        )
        if place is not None:
            self.follower.close_gap(reached(place))


def test_publications_are_delivered_once_and_in_order() -> None:
    one = Followed()
    for place in (4, 5, 5, 4, 6):
        one.follower.receive(frame(place))
    assert one.events == ["4", "5", "6"]


def test_before_the_first_place_is_known_publications_are_held() -> None:
    one = Followed(None)
    one.follower.receive(frame(4))
    one.follower.receive(frame(5))
    assert one.events == []
    one.follower.close_gap(reached(4, frame(3), frame(4)))
    assert one.events == ["5"]


def test_a_gap_is_closed_with_what_the_history_has() -> None:
    one = Followed()
    one.follower.receive(frame(6))
    assert one.events == ["gap"]
    assert one.follower.begin_sync() == 3
    one.follower.receive(frame(7))
    one.follower.close_gap(reached(6, frame(4), frame(6)))  # 5 was live only
    assert one.events == ["gap", "4", "6", "7"]


def test_what_arrives_while_a_history_is_read_is_not_delivered_twice() -> None:
    one = Followed()
    one.follower.lose_sync()
    one.follower.close_gap(reached(3))  # one gap is closed, and there was another
    one.follower.receive(frame(4))
    assert one.follower.begin_sync() == 4
    one.follower.receive(frame(5))
    one.follower.receive_own(frame(5))
    one.follower.close_gap(reached(5, frame(4), frame(5)))
    assert one.events == ["gap", "4", "5"]


@pytest.mark.parametrize(
    ("history", "events"),
    [
        (reached(9, dropped=5), ["lost"]),
        (reached(9, frame(9), dropped=3), ["9"]),
        (reached(2), ["lost"]),
        (reached(9, frame(9), epoch=NEXT), ["lost"]),
        (reached(9, frame(9), epoch=NEXT, chain={EPOCH: 3}), ["9"]),
        (reached(9, frame(9), epoch=NEXT, chain={EPOCH: 2}), ["lost"]),
    ],
)
def test_a_gap_that_cannot_be_closed_is_reported(history: Reached, events: list[str]) -> None:
    one = Followed()
    one.follower.lose_sync()
    one.follower.close_gap(history)
    assert one.events == ["gap", *events]
    one.follower.receive(frame(history.place + 1, history.epoch))
    assert one.events[-1] == f"{history.place + 1}"


def test_a_loss_is_reported_before_what_comes_after_it() -> None:
    one = Followed()
    one.follower.receive(frame(8))
    one.follower.close_gap(reached(7, dropped=7))
    assert one.events == ["gap", "lost", "8"]


def test_another_epoch_is_a_gap() -> None:
    one = Followed()
    one.follower.receive(frame(4, NEXT))
    assert one.events == ["gap"]


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_module, "MAX_HELD", 2)
    one = Followed()
    for place in (6, 7, 8, 9):
        one.follower.receive(frame(place))
    one.follower.close_gap(reached(5, frame(4), frame(5)))
    assert one.events == ["gap", "4", "5", "gap"]  # the history has what was not held
    one.follower.close_gap(reached(9, *(frame(place) for place in (6, 7, 8, 9))))
    assert one.events[4:] == ["6", "7", "8", "9"]


async def test_waiting_ends_with_the_place() -> None:
    one = Followed()
    await soon(one.follower.wait_for(3))
    waiting = [start_task(one.follower.wait_for(place)) for place in (5, 4)]
    await turns()
    one.follower.receive(frame(4))
    await soon(waiting[1])
    assert not waiting[0].done()
    one.follower.receive(frame(5))
    await soon(waiting[0])


async def test_a_wait_that_is_cancelled_leaves_nothing() -> None:
    one = Followed()
    waiting = start_task(one.follower.wait_for(5))
    await turns()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert one.follower._waiting == []


async def test_an_end_releases_all_who_wait() -> None:
    one = Followed(None)
    waiting = [start_task(one.follower.wait_for(5)), start_task(one.follower.wait_until_synced())]
    await turns()
    one.follower.end()
    await soon(asyncio.gather(*waiting))
