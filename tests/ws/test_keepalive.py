"""When a peer is pinged and when it times out, with times passed by the test."""

import pytest
from hypothesis import given, settings, strategies as st

from wsgate.ws.keepalive import Action, Keepalive

START = 1_000.0


def keepalive(interval: float = 20.0, timeout: float = 10.0, first: float = 1.0) -> Keepalive:
    return Keepalive(START, interval, timeout, first)


def step(
    keepalive: Keepalive, after: float, *, flushed: bool = True, paused: bool = False
) -> tuple[str, float]:
    """Return the action and when to ask again, both times counted from the start.

    The buffer is looked at before the step, as by a caller that cannot send a Ping at once.
    """
    action, next_at = timed_step(keepalive, START + after, flushed=flushed, paused=paused)
    return action.name, next_at - START


def timed_step(
    keepalive: Keepalive, now: float, *, flushed: bool, paused: bool
) -> tuple[Action, float]:
    if keepalive.is_flushing and flushed:
        keepalive.record_flush(now)
    if paused:
        keepalive.record_pause(now)
    return keepalive.step(now), keepalive.next_step(now)


def test_there_is_nothing_to_do_at_first() -> None:
    assert step(keepalive(), 0) == ("NONE", 20)
    assert step(keepalive(), 19.9) == ("NONE", 20)


def test_a_peer_that_answers_a_ping_which_left_at_once_needs_one_step_in_each_interval() -> None:
    peer = keepalive(timeout=20)
    for at in (20, 40, 60):
        now = START + at
        assert peer.step(now) is Action.PING
        peer.record_flush(now)
        assert peer.next_step(now) == now + 20
        peer.record_data()


def test_a_shorter_timeout_starts_when_a_ping_leaves_at_once() -> None:
    peer = keepalive(timeout=5)
    assert peer.step(START + 20) is Action.PING
    peer.record_flush(START + 20)
    assert step(peer, 20) == ("NONE", 25)
    assert step(peer, 24.9) == ("NONE", 25)
    assert step(peer, 25)[0] == "FAIL"


def test_a_pause_without_an_unanswered_ping_changes_nothing() -> None:
    peer = keepalive()
    assert step(peer, 1, paused=True) == ("NONE", 20)
    assert step(peer, 20, paused=True) == ("PING", 21)


@pytest.mark.parametrize(("first", "due"), [(1.0, 20), (0.5, 10), (0.0, 0)])
def test_the_first_ping_comes_after_its_fraction_of_the_interval(first: float, due: float) -> None:
    peer = keepalive(first=first)
    if due:
        assert step(peer, due - 0.1) == ("NONE", due)
    assert step(peer, due) == ("PING", due + 1)
    peer.record_data()
    assert step(peer, due + 1) == ("NONE", due + 20)


def test_a_peer_that_answers_is_pinged_at_each_interval() -> None:
    peer = keepalive()
    for at in (20, 40, 60):
        assert step(peer, at) == ("PING", at + 1)
        assert step(peer, at + 1) == ("NONE", at + 11)
        peer.record_data()
        assert step(peer, at + 11) == ("NONE", at + 20)


def test_a_silent_peer_times_out() -> None:
    peer = keepalive()
    assert step(peer, 20) == ("PING", 21)
    assert step(peer, 21) == ("NONE", 31)
    assert step(peer, 30.9) == ("NONE", 31)
    assert step(peer, 31)[0] == "FAIL"
    assert step(peer, 32)[0] == "FAIL"


def test_any_data_is_a_sign_of_life() -> None:
    peer = keepalive()
    step(peer, 20)
    step(peer, 21)
    peer.record_data()
    assert step(peer, 31) == ("NONE", 40)


def test_data_before_a_ping_does_not_delay_it() -> None:
    peer = keepalive()
    peer.record_data()
    assert step(peer, 20) == ("PING", 21)


def test_the_timeout_starts_when_the_ping_is_flushed() -> None:
    peer = keepalive()
    assert step(peer, 20, flushed=False) == ("PING", 21)
    for at in (21, 22, 50):
        assert step(peer, at, flushed=False) == ("NONE", at + 1)
    # The next Ping is overdue, should a byte come before the wait ends.
    assert step(peer, 51) == ("NONE", 52)
    assert step(peer, 61)[0] == "FAIL"


def test_a_buffer_that_fills_again_does_not_stop_the_timeout() -> None:
    peer = keepalive()
    step(peer, 20)
    step(peer, 21)
    assert step(peer, 31, flushed=False)[0] == "FAIL"


def test_data_arrives_while_the_ping_is_in_the_buffer() -> None:
    peer = keepalive()
    step(peer, 20, flushed=False)
    peer.record_data()
    assert step(peer, 21, flushed=False) == ("NONE", 40)
    assert step(peer, 40, flushed=False) == ("PING", 41)


def test_no_second_ping_is_sent_while_one_is_unanswered() -> None:
    peer = keepalive(interval=5, timeout=30)
    assert step(peer, 5) == ("PING", 6)
    assert step(peer, 6) == ("NONE", 10)
    assert step(peer, 20) == ("NONE", 21)
    peer.record_data()
    assert step(peer, 21) == ("PING", 22)


def test_the_timeout_restarts_while_reading_is_paused() -> None:
    peer = keepalive()
    step(peer, 20)
    assert step(peer, 21, paused=True) == ("NONE", 31)
    assert step(peer, 31, paused=True) == ("NONE", 40)
    assert step(peer, 41, paused=True) == ("NONE", 42)
    # Read again: the peer has its whole time.
    assert step(peer, 50.9) == ("NONE", 51)
    assert step(peer, 51)[0] == "FAIL"


def test_a_late_step_sends_one_ping() -> None:
    peer = keepalive()
    assert step(peer, 95) == ("PING", 96)
    peer.record_data()
    assert step(peer, 96) == ("NONE", 115)


MOVES = st.lists(
    st.tuples(
        st.floats(0, 30, allow_nan=False),
        st.booleans(),  # heard
        st.booleans(),  # flushed
        st.booleans(),  # paused
    ),
    max_size=40,
)


@settings(deadline=None)
@given(MOVES)
def test_any_sequence_of_steps_keeps_the_rules(moves: list[tuple[float, bool, bool, bool]]) -> None:
    peer, now, pinged_at, silent_since = keepalive(), START, 0.0, 0.0
    for wait, heard, flushed, paused in moves:
        now += wait
        if heard:
            peer.record_data()
            pinged_at = silent_since = 0.0
        action, next_at = timed_step(peer, now, flushed=flushed, paused=paused)
        if action is Action.FAIL:
            # Only after a Ping that left the whole timeout ago.
            assert silent_since
            assert now >= silent_since + 10
            return
        assert next_at > now
        if action is Action.PING:
            assert not pinged_at, "one at a time"
            pinged_at = now
        elif pinged_at and (flushed or silent_since):
            silent_since = now if paused else silent_since or now
            assert now < silent_since + 10
