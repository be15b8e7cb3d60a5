"""The outlet of one socket: order, bounds and policies."""

import pytest
from hypothesis import given, strategies as st

from wsgate.topics.outlet import Outlet, OutletLimits, Policy
from wsgate.ws.encoded import Encoded


def payloads(outlet: Outlet) -> list[str | bytes]:
    return [outlet.pop().encoded.payload for _ in range(len(outlet))]


def test_messages_leave_in_the_order_in_which_they_were_given() -> None:
    outlet, sent = Outlet(), list[str]()
    outlet.publish(Encoded("one"), OutletLimits())
    outlet.add(Encoded("two"), lambda: sent.append("two"))
    outlet.publish(Encoded(b"three"), OutletLimits())
    assert payloads(outlet) == ["one", "two", b"three"]
    assert sent == [], "the socket calls it after the write"


@pytest.mark.parametrize(
    ("policy", "kept", "dropped", "goes_on"),
    [
        (Policy.DROP_OLDEST, ["2", "3"], 1, True),
        (Policy.DROP_NEWEST, ["1", "2"], 1, True),
        (Policy.DISCONNECT, ["1", "2"], 0, False),
    ],
)
@pytest.mark.parametrize("limits", [{"max_messages": 2}, {"max_size": 2}])
def test_a_message_that_exceeds_the_bounds(
    policy: Policy, kept: list[str], dropped: int, goes_on: bool, limits: dict[str, int]
) -> None:
    outlet, bounds = Outlet(), OutletLimits(**limits, policy=policy)
    assert [outlet.publish(Encoded(text), bounds) for text in "123"] == [True, True, goes_on]
    assert (payloads(outlet), outlet.dropped) == (kept, dropped)


def test_a_message_over_the_size_may_wait_alone() -> None:
    outlet, bounds = Outlet(), OutletLimits(max_size=2, policy=Policy.DROP_OLDEST)
    assert outlet.publish(Encoded("large"), bounds)
    assert outlet.publish(Encoded("larger"), bounds)
    assert (payloads(outlet), outlet.dropped) == (["larger"], 1)


def test_messages_of_senders_do_not_count_and_are_not_dropped() -> None:
    outlet, bounds = Outlet(), OutletLimits(max_messages=1, policy=Policy.DROP_OLDEST)
    for text in "abc":
        outlet.add(Encoded(text), lambda: None)
        assert outlet.publish(Encoded(text.upper()), bounds)
    assert payloads(outlet) == ["a", "b", "c", "C"]
    assert outlet.dropped == 2


def test_a_sender_that_was_cancelled_takes_its_message_along() -> None:
    outlet = Outlet()
    first, second = (outlet.add(Encoded("same"), lambda: None) for _ in range(2))
    outlet.remove(second)
    outlet.remove(second)
    assert outlet.pop() is first
    assert len(outlet) == 0
    outlet.remove(first)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans())), st.sampled_from(Policy))
def test_the_bounds_hold(messages: list[tuple[int, bool]], policy: Policy) -> None:
    outlet, bounds = Outlet(), OutletLimits(max_messages=3, max_size=8, policy=policy)
    for size, is_published in messages:
        if is_published:
            outlet.publish(Encoded(b"x" * size), bounds)
        else:
            outlet.add(Encoded(b"x" * size), lambda: None)
    published = [m for m in outlet._messages if m.on_sent is None]
    assert len(published) <= 3
    assert sum(m.size for m in published) <= 8
    assert (outlet._count, outlet._size) == (len(published), sum(m.size for m in published))
