"""When a worker that has failed is started again."""

from hypothesis import given, strategies as st

from wsgate.process.restart_policy import RestartPolicy

NOW = 1_000.0


def pauses(policy: RestartPolicy, *ran: float) -> list[float]:
    """Return the pauses after workers that have run for so many seconds."""
    found = []
    for seconds in ran:
        policy.worker_ended(NOW, seconds)
        found.append(policy.next_start - NOW)
    return found


def test_the_first_is_replaced_at_once_and_later_ones_after_a_pause_that_doubles() -> None:
    expected = [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert pauses(RestartPolicy(), *[0.0] * 10) == expected


def test_a_worker_that_has_served_for_a_while_is_replaced_at_once() -> None:
    policy = RestartPolicy()
    assert pauses(policy, 0.0, 9.9, 10.0, 0.0, 3600.0) == [0.0, 0.25, 0.0, 0.25, 0.0]
    assert policy.failures == 1


def test_a_worker_that_serves_makes_earlier_failures_forgotten() -> None:
    policy = RestartPolicy()
    pauses(policy, 0.0, 0.0, 0.0)
    policy.worker_serves(NOW + 100, NOW - 1)
    assert policy.failures == 3, "it served before they failed"
    policy.worker_serves(NOW + 10.9, NOW + 1)
    assert policy.failures == 3
    policy.worker_serves(NOW + 11, NOW + 1)
    assert policy.failures == 0
    assert policy.next_start == NOW + 0.5, "the pause that has begun goes on"
    assert pauses(policy, 0.0) == [0.0]


def test_a_change_of_the_app_makes_all_forgotten() -> None:
    policy = RestartPolicy()
    pauses(policy, 0.0, 0.0, 0.0)
    policy.reset()
    assert (policy.failures, policy.next_start) == (0, 0.0)


def test_a_worker_that_never_starts_may_fail_for_days() -> None:
    policy = RestartPolicy()
    assert pauses(policy, *[0.0] * 20_000)[-1] == 30.0


@given(st.lists(st.floats(0, 20)))
def test_a_pause_is_bounded(ran: list[float]) -> None:
    policy = RestartPolicy()
    for pause, seconds in zip(pauses(policy, *ran), ran, strict=True):
        assert 0.0 <= pause <= 30.0
        assert not (seconds >= 10 and pause)
