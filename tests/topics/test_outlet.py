"""The outlet of one socket: order, bounds and policies."""

import contextlib

import pytest
from hypothesis import given, strategies as st

from wsgate.topics.outlet import Outlet, OutletFull, OutletLimits, Policy
from wsgate.ws.encoded import Encoded


def payloads(outlet: Outlet) -> list[str | bytes]:
    return [outlet.pop().encoded.payload for _ in range(len(outlet))]


def test_messages_leave_in_the_order_in_which_they_were_given() -> None:
    outlet, sent = Outlet(), list[str]()
    outlet.publish(Encoded("one"), OutletLimits())
    outlet.add(Encoded("two"), lambda _: sent.append("two"))
    outlet.publish(Encoded(b"three"), OutletLimits())
    assert payloads(outlet) == ["one", "two", b"three"]
    assert sent == [], "the socket calls it after the write"


@pytest.mark.parametrize(
    ("policy", "kept", "dropped"),
    [(Policy.DROP_OLDEST, ["2", "3"], [0, 0, 1]), (Policy.DROP_NEWEST, ["1", "2"], [0, 0, 1])],
)
@pytest.mark.parametrize("limits", [{"max_messages": 2}, {"max_size": 2}])
def test_a_message_that_exceeds_the_bounds_drops_one(
    policy: Policy, kept: list[str], dropped: list[int], limits: dict[str, int]
) -> None:
    outlet, bounds = Outlet(), OutletLimits(**limits, policy=policy)
    assert [outlet.publish(Encoded(text), bounds) for text in "123"] == dropped
    assert payloads(outlet) == kept


@pytest.mark.parametrize("limits", [{"max_messages": 2}, {"max_size": 2}])
def test_a_message_that_exceeds_the_bounds_disconnects(limits: dict[str, int]) -> None:
    outlet, bounds = Outlet(), OutletLimits(**limits, policy=Policy.DISCONNECT)
    for text in "12":
        assert outlet.publish(Encoded(text), bounds) == 0
    with pytest.raises(OutletFull):
        outlet.publish(Encoded("3"), bounds)
    assert payloads(outlet) == ["1", "2"]


def test_a_message_over_the_size_may_wait_alone() -> None:
    outlet, bounds = Outlet(), OutletLimits(max_size=2, policy=Policy.DROP_OLDEST)
    assert outlet.publish(Encoded("large"), bounds) == 0
    assert outlet.publish(Encoded("larger"), bounds) == 1
    assert payloads(outlet) == ["larger"]


def test_the_size_is_counted_in_bytes() -> None:
    outlet, bounds = Outlet(), OutletLimits(max_size=3, policy=Policy.DROP_NEWEST)
    assert outlet.publish(Encoded("\u00fc"), bounds) == 0
    assert outlet.publish(Encoded("\u00fc"), bounds) == 1


def test_the_published_messages_can_be_taken_alone() -> None:
    outlet = Outlet()
    outlet.publish(Encoded("one"), OutletLimits())
    sender = outlet.add(Encoded("two"), lambda _: None)
    outlet.publish(Encoded("three"), OutletLimits())
    assert [message.encoded.payload for message in outlet.pop_published()] == ["one", "three"]
    assert outlet.pop() is sender
    assert outlet.pop_published() == []


def test_the_end_reaches_all_senders() -> None:
    outlet, ends = Outlet(), list[Exception | None]()
    outlet.publish(Encoded("published"), OutletLimits())
    for _ in range(2):
        outlet.add(Encoded("a"), ends.append)
    error = OSError("gone")
    outlet.end(error)
    assert ends == [error, error]


def test_messages_of_senders_do_not_count_and_are_not_dropped() -> None:
    outlet, bounds = Outlet(), OutletLimits(max_messages=1, policy=Policy.DROP_OLDEST)
    for text in "abc":
        outlet.add(Encoded(text), lambda _: None)
        outlet.publish(Encoded(text.upper()), bounds)
    assert payloads(outlet) == ["a", "b", "c", "C"]


def test_a_sender_that_was_cancelled_takes_its_message_along() -> None:
    outlet = Outlet()
    first, second = (outlet.add(Encoded("same"), lambda _: None) for _ in range(2))
    outlet.remove(second)
    outlet.remove(second)
    assert outlet.pop() is first
    assert len(outlet) == 0
    outlet.remove(first)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans())), st.sampled_from(Policy))
def test_the_bounds_hold(messages: list[tuple[int, bool]], policy: Policy) -> None:
    outlet, bounds = Outlet(), OutletLimits(max_messages=3, max_size=8, policy=policy)
    for size, is_published in messages:
        if not is_published:
            outlet.add(Encoded(b"x" * size), lambda _: None)
            continue
        with contextlib.suppress(OutletFull):
            outlet.publish(Encoded(b"x" * size), bounds)
    published = [message.encoded for message in outlet._messages if message.on_end is None]
    sizes = [encoded.size for encoded in published]
    assert len(sizes) <= 3
    assert sum(sizes) <= 8
    assert outlet._size == sum(sizes)
    assert [message.encoded for message in outlet._published] == published
