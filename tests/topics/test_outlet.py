"""The outlet of one socket: order, bounds, and what happens beyond them."""

import contextlib

import pytest
from hypothesis import given, strategies as st

from wsgate.topics.outlet import MIN_COUNTED, Outlet, OutletFull
from wsgate.topics.publication import Publication
from wsgate.topics.rules import Slow
from wsgate.ws.encoded import Encoded

NAME = "room"


def payloads(outlet: Outlet) -> list[str | bytes]:
    return [outlet.pop().encoded.payload for _ in range(len(outlet))]


def publish(
    outlet: Outlet, data: str | bytes, slow: Slow = Slow.CLOSE, *, topic: str = NAME
) -> int:
    return outlet.publish(Publication(topic, data), slow)


def outlet_for(count: int) -> Outlet:
    """Return an outlet that has room for so many small messages."""
    return Outlet(count * MIN_COUNTED)


def test_messages_leave_in_the_order_in_which_they_were_given() -> None:
    outlet, sent = outlet_for(2), list[str]()
    publish(outlet, "one")
    outlet.add(Encoded("two"), lambda _: sent.append("two"))
    publish(outlet, b"three")
    assert payloads(outlet) == ["one", "two", b"three"]
    assert sent == [], "the socket calls it after the write"


def test_a_message_that_exceeds_the_limit_closes_the_socket() -> None:
    outlet = outlet_for(2)
    for text in "12":
        assert publish(outlet, text) == 0
    with pytest.raises(OutletFull):
        publish(outlet, "3")
    assert payloads(outlet) == ["1", "2"]


def test_a_message_that_exceeds_the_limit_is_dropped() -> None:
    outlet = outlet_for(2)
    assert [publish(outlet, text, Slow.DROP) for text in "123"] == [0, 0, 1]
    assert payloads(outlet) == ["1", "2"]


def test_a_message_that_exceeds_the_limit_replaces_those_of_its_topic() -> None:
    outlet = outlet_for(3)
    publish(outlet, "1", Slow.CONFLATE)
    publish(outlet, "other", Slow.DROP, topic="other")
    assert publish(outlet, "2", Slow.CONFLATE) == 0
    assert publish(outlet, "3", Slow.CONFLATE) == 2
    assert publish(outlet, "4", Slow.CONFLATE) == 0, "there is room again"
    assert payloads(outlet) == ["other", "3", "4"]


def test_the_latest_message_of_a_topic_waits_even_without_room() -> None:
    outlet = outlet_for(1)
    publish(outlet, "full", Slow.DROP, topic="other")
    for text in "12":
        publish(outlet, text, Slow.CONFLATE)
    assert payloads(outlet) == ["full", "2"]


@pytest.mark.parametrize("slow", Slow)
def test_an_outlet_without_a_published_message_takes_one_of_any_size(slow: Slow) -> None:
    outlet = Outlet(1)
    outlet.add(Encoded("of a send"), lambda _: None)
    assert publish(outlet, "x" * 1000, slow) == 0
    assert payloads(outlet) == ["of a send", "x" * 1000]


def test_the_size_is_counted_in_bytes() -> None:
    outlet = Outlet(3 * MIN_COUNTED)
    assert publish(outlet, "\u00fc" * MIN_COUNTED, Slow.DROP) == 0
    assert publish(outlet, "\u00fc" * MIN_COUNTED, Slow.DROP) == 1
    assert publish(outlet, "x" * MIN_COUNTED, Slow.DROP) == 0


def test_what_has_left_makes_room() -> None:
    outlet = outlet_for(1)
    publish(outlet, "1", Slow.DROP)
    outlet.pop()
    assert publish(outlet, "2", Slow.DROP) == 0


def test_the_published_messages_can_be_taken_alone() -> None:
    outlet = outlet_for(2)
    publish(outlet, "one")
    sender = outlet.add(Encoded("two"), lambda _: None)
    publish(outlet, "three")
    assert [message.encoded.payload for message in outlet.pop_published()] == ["one", "three"]
    assert outlet.pop() is sender
    assert outlet.pop_published() == []


def test_the_end_reaches_all_senders() -> None:
    outlet, ends = outlet_for(1), list[Exception | None]()
    publish(outlet, "published")
    for _ in range(2):
        outlet.add(Encoded("a"), ends.append)
    error = OSError("gone")
    outlet.end(error)
    assert ends == [error, error]


def test_messages_of_senders_do_not_count_and_are_not_dropped() -> None:
    outlet = outlet_for(1)
    for text in "abc":
        outlet.add(Encoded(text), lambda _: None)
        publish(outlet, text.upper(), Slow.CONFLATE)
    assert payloads(outlet) == ["a", "b", "c", "C"]


def test_a_sender_that_was_cancelled_takes_its_message_along() -> None:
    outlet = outlet_for(1)
    first, second = (outlet.add(Encoded("same"), lambda _: None) for _ in range(2))
    outlet.remove(second)
    outlet.remove(second)
    assert outlet.pop() is first
    assert len(outlet) == 0
    outlet.remove(first)


TOPICS = ("close", "drop", "conflate")  # each with the rule of its name


@given(st.lists(st.tuples(st.integers(0, 3 * MIN_COUNTED), st.sampled_from([*TOPICS, "send"]))))
def test_the_limit_holds(messages: list[tuple[int, str]]) -> None:
    outlet = outlet_for(3)
    for size, topic in messages:
        if topic == "send":
            outlet.add(Encoded(b"x" * size), lambda _: None)
            continue
        with contextlib.suppress(OutletFull):
            publish(outlet, b"x" * size, Slow(topic), topic=topic)
    published = [message for message in outlet._messages if message.topic is not None]
    sizes = [max(message.encoded.size, MIN_COUNTED) for message in published]
    assert outlet._size == sum(sizes)
    assert list(outlet._published) == published
    # Above the limit is at most the latest message of the topic that conflates, or one alone.
    others = [size for size, one in zip(sizes, published, strict=True) if one.topic != "conflate"]
    assert sum(others) <= 3 * MIN_COUNTED or len(others) == 1 or not others
