"""The histories of topics, held against a list of messages and their times."""

import weakref
from collections.abc import Sequence

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wsgate.topics.history import Histories, History
from wsgate.topics.outlet import MIN_COUNTED
from wsgate.topics.publication import Publication
from wsgate.topics.rules import ID_LIFETIMES, Rules, make_rules

SECONDS = 10.0
RULES = make_rules(history=3, history_seconds=SECONDS)


def message(place: int, topic: str = "room", size: int = 1) -> Publication:
    return Publication(topic, "x" * size, f"id {place}", place)


def history_of(count: int, rules: Rules = RULES) -> History:
    """Return a history to which messages 1 to `count` were added at the time 0."""
    history = History(rules)
    for place in range(1, count + 1):
        history.add(message(place), 0.0)
    return history


def places(found: Sequence[Publication] | None) -> list[int] | None:
    return None if found is None else [one.place for one in found]


# -- one topic -------------------------------------------------------------------------------------


def test_what_is_newer_than_an_id_is_returned_in_order() -> None:
    history = history_of(3)
    assert places(history.since("id 1")) == [2, 3]
    assert places(history.since("id 3")) == []


def test_exactly_as_many_newer_messages_as_are_kept_are_complete() -> None:
    history = history_of(4)
    assert places(history.since("id 1")) == [2, 3, 4]
    history.add(message(5), 0.0)
    assert history.since("id 1") is None
    assert places(history.since("id 2")) == [3, 4, 5]


def test_an_unknown_id_is_not_complete() -> None:
    assert history_of(2).since("id 9") is None
    assert History(RULES).since("id 1") is None


@pytest.mark.parametrize(
    ("count", "expected"), [(0, []), (1, [3]), (3, [1, 2, 3]), (99, [1, 2, 3])]
)
def test_the_last_messages(count: int, expected: list[int]) -> None:
    assert places(history_of(3).last(count)) == expected


def test_messages_expire_after_their_seconds() -> None:
    history = history_of(1)
    history.add(message(2), 4.0)
    assert history.due_at == SECONDS
    history.expire(SECONDS - 0.1)
    assert len(history) == 2
    history.expire(SECONDS)
    assert places(history.last(9)) == [2]
    assert places(history.since("id 1")) == [2], "it is the newest that is not kept any more"


def test_the_newest_id_outlives_its_message_ten_times() -> None:
    history = history_of(2)
    history.expire(SECONDS)
    assert len(history) == 0
    assert history.since("id 2") == []
    assert history.since("id 1") is None
    history.expire(ID_LIFETIMES * SECONDS - 0.1)
    assert history.since("id 2") == []
    history.expire(ID_LIFETIMES * SECONDS)
    assert history.since("id 2") is None
    assert not history
    assert history.due_at is None


def test_an_id_is_found_as_long_as_its_message_is_kept() -> None:
    history = history_of(4)
    assert history.find("id 1") is None
    assert places([one for one in [history.find("id 2")] if one]) == [2]


def test_a_dropped_message_is_not_held_in_memory() -> None:
    class Payload(str):
        """A text that can be observed."""

        __slots__ = ("__weakref__",)

    history = History(RULES)
    payload = Payload("large")
    observed = weakref.ref(payload)
    history.add(Publication("room", payload, "id 1", 1), 0.0)
    del payload
    assert observed() is not None
    history.drop_first()
    assert observed() is None, "it does not count towards the limit any more"
    assert history.since("id 1") == []


# -- all topics ------------------------------------------------------------------------------------


def test_the_oldest_message_goes_first_of_whichever_topic() -> None:
    histories = Histories(3 * MIN_COUNTED)
    for place, topic in enumerate("abab", 1):
        histories.add(message(place, topic), RULES, float(place))
    kept = {topic: places(histories.get(topic, 4.0).last(9)) for topic in "ab"}  # type: ignore[union-attr]
    assert kept == {"a": [3], "b": [2, 4]}
    assert histories.size == 3 * MIN_COUNTED


def test_a_tiny_message_counts_the_place_that_it_takes() -> None:
    histories = Histories(100 * MIN_COUNTED)
    for place in range(1000):
        histories.add(message(place, f"topic {place}", size=0), RULES, 0.0)
    assert histories.size == 100 * MIN_COUNTED


def test_a_topic_that_nothing_is_known_of_leaves_nothing() -> None:
    histories = Histories(1_000_000)
    histories.add(message(0, "stays"), make_rules(history=1, history_seconds=1e9), 0.0)
    for number in range(1, 2001):
        histories.add(message(number, f"topic {number}"), RULES, 1.0)
    histories.expire(1.0 + SECONDS)
    assert len(histories) == 2001, "their newest ids are remembered"
    histories.expire(1.0 + ID_LIFETIMES * SECONDS)
    assert len(histories) == 1
    assert len(histories._due) == 1
    assert len(histories._oldest) <= 2
    assert histories.size == MIN_COUNTED


def test_the_number_of_topics_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsgate.topics.history.MAX_HISTORIES", 3)
    histories = Histories(1_000_000)
    for number in range(20):
        histories.add(message(number, f"topic {number}"), RULES, float(number))
    known = [number for number in range(20) if histories.get(f"topic {number}", 20.0)]
    assert known == [17, 18, 19]
    assert len(histories) == len(histories._due) == 3
    assert len(histories._oldest) <= 6
    assert histories.size == 3 * MIN_COUNTED


def test_the_time_at_which_something_is_due() -> None:
    histories = Histories(1000)
    dues = [histories.next_due]
    histories.add(message(1), RULES, 5.0)
    for seconds in (0, SECONDS, ID_LIFETIMES * SECONDS):
        histories.expire(5.0 + seconds)
        dues.append(histories.next_due)
    assert dues == [None, 5.0 + SECONDS, 5.0 + ID_LIFETIMES * SECONDS, None]


def test_a_topic_that_was_forgotten_begins_anew() -> None:
    histories = Histories(1000)
    histories.add(message(1), RULES, 0.0)
    histories.forget("room")
    histories.forget("unknown")
    assert histories.get("room", 0.0) is None
    assert histories.size == 0
    histories.add(message(2), RULES, 1.0)
    history = histories.get("room", 1.0)
    assert history is not None
    assert history.since("id 1") is None
    assert places(history.last(9)) == [2]
    histories.expire(1000.0)
    assert (len(histories), histories.next_due) == (0, None)


class Topic:
    """The model of a topic: all its messages with their times, and from which on they are kept."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.messages: list[tuple[Publication, float]] = []
        self.first = 0  # index of the oldest that is kept

    def drop_old(self, now: float) -> None:
        self.first = max(self.first, len(self.messages) - self.rules.history)
        while self.first < len(self.messages):
            if now < self.messages[self.first][1] + self.rules.history_seconds:
                break
            self.first += 1

    @property
    def kept(self) -> list[Publication]:
        return [one for one, _ in self.messages[self.first :]]

    def since(self, id_: str, now: float) -> list[Publication] | None:
        for index, (one, at) in enumerate(self.messages):
            if one.id == id_ and index >= self.first - 1:
                lives = now < at + ID_LIFETIMES * self.rules.history_seconds
                return self.kept[index + 1 - self.first :] if index >= self.first or lives else None
        return None


LIMIT = 5 * MIN_COUNTED
KINDS = {
    "short": make_rules(history=2, history_seconds=1.0),
    "long": make_rules(history=4, history_seconds=30.0),
    "one": make_rules(history=1, history_seconds=5.0),
}


@settings(max_examples=50, stateful_step_count=40)
class AnyHistories(RuleBasedStateMachine):
    """Messages of three topics with different rules, time, and a limit for all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.histories = Histories(LIMIT)
        self.topics = {name: Topic(rules) for name, rules in KINDS.items()}
        self.now = 0.0
        self.place = 0

    def counted(self) -> int:
        kept = [one for topic in self.topics.values() for one in topic.kept]
        return sum(max(len(one.data), MIN_COUNTED) for one in kept)

    @rule(name=st.sampled_from(sorted(KINDS)), size=st.integers(0, LIMIT))
    def publish(self, name: str, size: int) -> None:
        topic = self.topics[name]
        self.place += 1
        self.now += 0.001  # so that it is clear which message is the oldest
        one = message(self.place, name, size)
        self.histories.add(one, topic.rules, self.now)
        for other in self.topics.values():
            if other is topic:
                other.drop_old(self.now)
        topic.messages.append((one, self.now))
        topic.drop_old(self.now)
        while self.counted() > LIMIT:
            lists = [other for other in self.topics.values() if other.kept]
            min(lists, key=lambda other: other.messages[other.first][1]).first += 1

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0, 11.0, 60.0, 400.0]), sweeps=st.booleans())
    def wait(self, seconds: float, *, sweeps: bool) -> None:
        self.now += seconds
        if sweeps:
            self.histories.expire(self.now)
        for topic in self.topics.values():
            topic.drop_old(self.now)

    @rule(name=st.sampled_from(sorted(KINDS)))
    def forget(self, name: str) -> None:
        self.histories.forget(name)
        self.topics[name].messages.clear()
        self.topics[name].first = 0

    @invariant()
    def it_is_as_in_the_model(self) -> None:
        for name, topic in self.topics.items():
            topic.drop_old(self.now)
            history = self.histories.get(name, self.now)
            for number in range(self.place + 2):
                known = history.since(f"id {number}") if history else None
                assert known == topic.since(f"id {number}", self.now)
            for count in range(6):
                newest = history.last(count) if history else []
                assert list(newest) == (topic.kept[-count:] if count else [])
        assert self.histories.size == self.counted() <= LIMIT

    @invariant()
    def nothing_is_left_of_what_is_forgotten(self) -> None:
        histories = self.histories
        histories.expire(self.now)
        assert len(histories._due) == len(histories)
        assert len(histories._oldest) <= 2 * len(histories)
        if histories.next_due is not None:
            assert histories.next_due > self.now


TestAnyHistories = AnyHistories.TestCase
