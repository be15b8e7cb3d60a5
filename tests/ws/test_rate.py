"""The token bucket of messages."""

from itertools import accumulate

from hypothesis import given, strategies as st

from wsgate.ws.rate import MessageRate


def test_a_burst_is_allowed_at_once_and_one_more_is_not() -> None:
    rate = MessageRate(1, 5, 100)
    assert rate.allows(2, 100)
    assert rate.allows(3, 100)
    assert not rate.allows(1, 100)


def test_more_than_a_burst_at_once_is_not_allowed() -> None:
    assert not MessageRate(100, 5, 100).allows(6, 100)


def test_tokens_are_added_with_time() -> None:
    rate = MessageRate(0.5, 2, 100)
    assert rate.allows(2, 100)
    assert rate.allows(1, 102)
    assert not rate.allows(1, 103.9)


def test_the_bucket_holds_at_most_a_burst() -> None:
    rate = MessageRate(10, 3, 100)
    assert rate.allows(3, 1_000)
    assert not rate.allows(1, 1_000)


_ARRIVALS = st.lists(st.tuples(st.integers(0, 64), st.integers(1, 5)), max_size=30)


@given(st.integers(1, 8), st.integers(1, 10), _ARRIVALS)
def test_messages_are_allowed_while_the_bucket_has_tokens(
    rate: int, burst: int, arrivals: list[tuple[int, int]]
) -> None:
    """In every span of time no more than its worth and a burst comes through, and all of that."""
    bucket = MessageRate(rate, burst, 0)
    times = [at / 8 for at in accumulate(gap for gap, _ in arrivals)]
    counts = [count for _, count in arrivals]
    for last, now in enumerate(times):
        if not bucket.allows(counts[last], now):
            allowance = False
            for first in range(last + 1):
                span = rate * (now - times[first]) + burst
                allowance = allowance or sum(counts[first : last + 1]) > span
            assert allowance
            return
        for first in range(last + 1):
            assert sum(counts[first : last + 1]) <= rate * (now - times[first]) + burst
