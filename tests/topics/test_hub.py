"""The hub, without sockets and clocks."""

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wsgate.topics import messages
from wsgate.topics.hub import CLAIM_SECONDS, MAX_ANSWERS, MAX_HELD, PART_BYTES, PART_MEMBERS, Hub
from wsgate.topics.hub_counts import MAX_OPEN, PATIENCE
from wsgate.topics.messages import (
    Announce,
    AskCount,
    Attach,
    Attached,
    Claim,
    Count,
    Delivered,
    Detach,
    Forget,
    GetCount,
    GetMembers,
    GetMissed,
    GetMore,
    GetSince,
    Hello,
    HistoryRule,
    Joined,
    Kept,
    Lost,
    Member,
    Members,
    Message,
    MissedPart,
    Mode,
    Placed,
    Publish,
    Refusal,
    Refused,
    Seen,
    SetMember,
    SetRules,
    Subscribers,
    Sync,
    Welcome,
)
from wsgate.topics.presence import GRACE
from wsgate.topics.wire_format import WireError

START = 1_000_000
OUTSIDE = 9  # a publisher
RULES = [HistoryRule("room*", 3, 300.0)]
ROOM, PLAIN = "room", "plain"


def hello(number: int, version: int = 1, rules: list[HistoryRule] = RULES) -> Hello:
    """Return the Hello of a worker."""
    return Hello(messages.VERSION, str(number), version, rules)


def hello_outside(version: int = 0) -> Hello:
    """Return the Hello of a publisher."""
    return Hello(messages.VERSION, None, version, [])


class Bench:
    """A hub with connections, each of which keeps what it was sent."""

    def __init__(self, *workers: int, start: int = START, max_bytes: int = 10**9) -> None:
        self.hub = Hub(max_bytes, start)
        self.now = 100.0
        self.sent: defaultdict[int, list[Message]] = defaultdict(list)
        for number in workers:
            self.say(number, hello(number))
        self.sent.clear()

    def keep(self, out: list[tuple[int, Message]]) -> None:
        for number, message in out:
            self.sent[number].append(message)

    def say(self, number: int, message: Message) -> list[Message]:
        """Send the hub a message; return what this connection is sent."""
        start = len(self.sent[number])
        self.keep(self.hub.handle(number, message, self.now))
        return self.sent[number][start:]

    def peers(self, number: int, message: Hello) -> list[str]:
        """Return which workers the hub names in its answer."""
        (welcome,) = self.say(number, message)
        assert isinstance(welcome, Welcome)
        return welcome.peers

    def attach(self, number: int, topic: str, position: int = 0, newest: int = 0) -> Attached:
        former = position if position < START else 0
        (attached, *_) = self.say(number, Attach(7, topic, position, newest, former))
        assert isinstance(attached, Attached)
        return attached

    def publish(
        self, number: int, topic: str, data: str | bytes, mode: Mode = Mode.KEPT, **options: Any
    ) -> Message:
        message = Publish(options.get("request", 9), topic, mode, options.get("id"), data)
        return self.say(number, message)[-1]

    def leave(self, number: int) -> None:
        self.keep(self.hub.disconnect(number, self.now))

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.keep(self.hub.expire(self.now))

    def take(self, number: int, *kinds: type[Message]) -> list[Any]:
        """Return what a connection was sent of some classes, and forget it all."""
        return [one for one in self.sent.pop(number, []) if isinstance(one, kinds)]


# -- the start -------------------------------------------------------------------------------------


def test_a_connection_begins_with_hello() -> None:
    bench = Bench()
    with pytest.raises(WireError, match="Detach is out of place"):
        bench.say(1, Detach(ROOM))
    assert bench.say(1, hello(1, 1, [])) == [Welcome(messages.VERSION, START, START, [], True)]
    with pytest.raises(WireError, match="Hello is out of place"):
        bench.say(1, hello(1, 1, []))
    with pytest.raises(WireError, match="Lost is out of place"):
        bench.say(1, Lost(ROOM))


def test_workers_learn_of_each_other_and_publishers_of_nobody() -> None:
    bench = Bench()
    assert bench.peers(1, hello(1)) == []
    assert bench.peers(2, hello(2)) == ["1"]
    assert bench.peers(OUTSIDE, hello_outside()) == []
    bench.leave(1)
    assert bench.peers(3, hello(3)) == ["2"]
    assert bench.take(1, Joined) == [Joined("2")]
    assert bench.take(2, Joined) == [Joined("3")]
    assert not bench.take(OUTSIDE, Joined)


def test_another_version_is_refused() -> None:
    bench = Bench()
    (refused,) = bench.say(1, Hello(1, "a", 1, []))
    assert refused == Refused(0, Refusal.VERSION, "the hub speaks version 2, not 1")
    with pytest.raises(WireError):
        bench.say(1, Detach(ROOM))


def test_the_newest_rules_count() -> None:
    bench = Bench(1)
    bench.say(2, hello(2, 0, []))  # of an older worker
    assert bench.publish(2, ROOM, "x", id="a") == Placed(9, "a", START + 1, False)
    assert bench.publish(1, ROOM, "x", id="a") == Placed(9, "a", START + 1, True)
    bench.say(2, SetRules(2, []))
    assert bench.publish(1, ROOM, "x", id="b") == Placed(9, "b", START + 2, False)
    assert bench.publish(1, ROOM, "x", id="b") == Placed(9, "b", START + 3, False)


# -- publications ----------------------------------------------------------------------------------


def test_what_is_published_outside_goes_to_the_subscribers() -> None:
    bench = Bench(1, 2, 3)
    for number in (1, 2):
        bench.attach(number, PLAIN)
    bench.say(OUTSIDE, hello_outside())
    bench.sent.clear()
    bench.say(OUTSIDE, Publish(0, PLAIN, Mode.LIVE, "an id", "x"))
    delivered = Delivered(0, PLAIN, None, 0, 0, "x")
    assert bench.sent == {1: [delivered], 2: [delivered], OUTSIDE: []}


def test_nothing_is_recovered_of_a_topic_that_has_no_history_any_more() -> None:
    bench = Bench(1)
    bench.publish(1, ROOM, "x", id="a")
    bench.say(1, SetRules(2, []))
    (part,) = bench.say(1, GetMissed(1, ROOM, "a", 9))
    assert part == MissedPart(1, False, START + 1, False, [])


def test_a_publication_with_history_goes_to_all_and_then_its_publisher_is_answered() -> None:
    bench = Bench(1, 2)
    for number in (1, 2):
        bench.attach(number, ROOM)
    bench.sent.clear()
    bench.publish(1, ROOM, b"x")
    id_ = f"{START:x}-1"
    assert bench.sent[1] == [
        Delivered(9, ROOM, id_, 0, START + 1, b"x"),
        Placed(9, id_, START + 1, False),
    ]
    assert bench.sent[2] == [Delivered(0, ROOM, id_, 0, START + 1, b"x")]
    bench.publish(2, ROOM, b"y", id="mine")
    assert bench.sent[1][2:] == [Delivered(0, ROOM, "mine", START + 1, START + 2, b"y")]


def test_a_live_publication_has_a_place_and_is_not_kept() -> None:
    bench = Bench(1)
    bench.attach(1, ROOM)
    assert bench.publish(1, ROOM, "x", Mode.LIVE) == Placed(9, None, START + 1, False)
    assert bench.say(1, GetMissed(1, ROOM, None, 9)) == [MissedPart(1, True, START + 1, False, [])]


def test_the_rules_decide_for_a_publisher_outside() -> None:
    bench = Bench(1)
    bench.say(2, hello_outside(99))
    for topic in (ROOM, PLAIN):
        bench.attach(1, topic)
    bench.sent.clear()
    assert bench.publish(2, ROOM, "x", id="a") == Placed(9, "a", START + 1, False)
    assert bench.publish(2, PLAIN, "x", id="a") == Placed(9, None, 0, False)
    assert bench.publish(2, PLAIN, "x", Mode.LIVE) == Placed(9, None, 0, False)
    assert [one.place for one in bench.take(1, Delivered)] == [START + 1, 0, 0]
    bench.say(2, SetRules(99, []))  # it has no say in that
    assert bench.publish(2, ROOM, "x", id="a") == Placed(9, "a", START + 1, True)


def test_a_message_above_the_limit_of_history_is_refused() -> None:
    bench = Bench(1, max_bytes=100)
    refused = bench.publish(1, ROOM, "x" * 101)
    assert isinstance(refused, Refused)
    assert refused.reason is Refusal.LIMIT
    assert "101 bytes" in refused.text
    assert bench.publish(1, ROOM, "x" * 100) == Placed(9, f"{START:x}-1", START + 1, False)


# -- histories -------------------------------------------------------------------------------------


def test_a_long_answer_comes_in_parts() -> None:
    bench = Bench(1)
    large = b"x" * (PART_BYTES // 2 + 1)
    for id_ in ("a", "b", "c"):
        bench.publish(1, ROOM, large, id=id_)
    place = START + 3
    first = Kept("a", START + 1, large)
    assert bench.say(1, GetSince(1, ROOM, START)) == [MissedPart(1, True, place, True, [first])]
    bench.publish(1, ROOM, "later", id="d")  # it is not of this answer
    second, third = bench.say(1, GetMore(1)) + bench.say(1, GetMore(1))
    assert second == MissedPart(1, True, place, True, [Kept("b", START + 2, large)])
    assert third == MissedPart(1, True, place, False, [Kept("c", START + 3, large)])
    assert not bench.say(1, GetMore(1))


def test_a_message_larger_than_a_part_is_sent_whole() -> None:
    bench = Bench(1)
    bench.publish(1, ROOM, b"x" * 3 * PART_BYTES, id="a")
    (part,) = bench.say(1, GetMissed(1, ROOM, None, 1))
    assert isinstance(part, MissedPart)
    assert (len(part.messages), part.has_more) == (1, False)


def test_answers_in_parts_are_bounded_and_may_be_forgotten() -> None:
    bench = Bench(1)
    for id_ in ("a", "b"):
        bench.publish(1, ROOM, b"x" * PART_BYTES, id=id_)
    for number in range(MAX_ANSWERS):
        bench.say(1, GetMissed(number, ROOM, None, 2))
    bench.say(1, Forget(0))
    bench.say(1, GetMissed(100, ROOM, None, 2))
    with pytest.raises(WireError, match="answers are under way"):
        bench.say(1, GetMissed(101, ROOM, None, 2))


# -- a connection that returns ---------------------------------------------------------------------


def test_who_returns_is_told_whether_it_is_behind() -> None:
    bench = Bench(1, 2)
    bench.attach(1, ROOM)
    bench.publish(1, ROOM, "1", id="a")
    place = START + 1
    assert bench.attach(2, ROOM, place).sync is Sync.CURRENT
    assert bench.attach(2, ROOM, place - 1).sync is Sync.BEHIND
    assert bench.say(2, GetSince(1, ROOM, place - 1)) == [
        MissedPart(1, True, place, False, [Kept("a", place, "1")])
    ]
    bench.publish(1, ROOM, "typing", Mode.LIVE)
    assert bench.attach(2, ROOM, place).sync is Sync.CURRENT  # nobody can have that again
    for id_ in ("b", "c", "d"):
        bench.publish(1, ROOM, id_, id=id_)
    assert bench.attach(2, ROOM, place).sync is Sync.BEHIND
    bench.publish(1, ROOM, "e", id="e")
    assert bench.attach(2, ROOM, place).sync is Sync.LOST
    assert bench.attach(2, PLAIN, place).sync is Sync.CURRENT  # it has no history to compare


def test_what_history_has_forgotten_may_be_lost() -> None:
    bench = Bench(1)
    bench.publish(1, ROOM, "1", id="a")
    bench.advance(10_000)
    assert bench.attach(1, ROOM, START + 1).sync is Sync.CURRENT
    assert bench.attach(1, ROOM, START).sync is Sync.LOST
    assert bench.say(1, GetSince(1, ROOM, START)) == [MissedPart(1, False, START + 1, False, [])]
    bench.publish(1, ROOM, "2", id="b")  # a new history does not reach back to the old one
    assert bench.attach(1, ROOM, START).sync is Sync.LOST
    assert bench.attach(1, ROOM, START + 1).sync is Sync.BEHIND


def test_a_new_hub_finds_who_lacks_what_the_earlier_one_has_placed() -> None:
    bench = Bench(1, 2, 3, 4)
    assert bench.attach(1, ROOM, 500, 400).sync is Sync.CURRENT  # nobody knows of more yet
    assert bench.attach(2, ROOM, 450, 450).sync is Sync.CURRENT
    assert not bench.take(1, Lost)  # it has seen all up to 500
    assert bench.attach(3, ROOM, 600, 600).sync is Sync.CURRENT
    assert bench.take(1, Lost) == bench.take(2, Lost) == [Lost(ROOM)]
    assert bench.attach(4, ROOM, 599, 0).sync is Sync.LOST
    bench.say(2, Claim(ROOM, 600))
    assert not [one for number in (1, 2, 3, 4) for one in bench.take(number, Lost)]


def test_what_is_missing_from_an_earlier_hub_is_found_after_a_cut_as_well() -> None:
    bench = Bench(1, 2)
    bench.attach(1, ROOM, 500, 500)
    bench.leave(1)  # before the other one has said how far it is
    bench.attach(2, ROOM, 501, 501)
    bench.say(3, hello(3))
    attached, *_ = bench.say(3, Attach(7, ROOM, START, 500, 500))
    assert attached == Attached(7, ROOM, Sync.LOST, START)


def test_who_was_not_attached_may_know_of_a_place_as_well() -> None:
    bench = Bench(1, 2)
    bench.attach(1, ROOM, 500, 500)
    bench.say(2, Claim(ROOM, 501))
    assert bench.take(1, Lost) == [Lost(ROOM)]
    bench.attach(2, ROOM)  # for the first time: it lacks nothing
    bench.say(1, Claim(ROOM, 502))
    assert not bench.take(2, Lost)


def test_no_message_gets_a_place_before_all_have_said_how_far_they_are() -> None:
    bench = Bench()
    bench.hub = Hub(10**9, START, settled_at=bench.now + 1)
    for number in (1, 2, 3):
        (welcome, *_) = bench.say(number, hello(number))
        assert isinstance(welcome, Welcome)
        assert not welcome.is_settled
    bench.attach(1, ROOM, 500, 500)
    bench.sent.clear()
    for number, mode in ((2, Mode.KEPT), (3, Mode.KEPT), (2, Mode.LIVE)):
        bench.say(number, Publish(9, ROOM, mode, None, f"{number} {mode}"))
    bench.attach(2, ROOM, 501, 501)  # the first one lacks a message: it must not get a later one
    bench.leave(3)
    assert bench.hub.next_due() <= bench.now + 1
    bench.advance(0.9)
    assert bench.take(1, Delivered, Lost) == [Lost(ROOM)]
    bench.advance(0.2)
    assert [one.data for one in bench.take(1, Delivered)] == ["2 1", "2 2"]
    assert [one.place for one in bench.take(2, Placed)] == [START + 1, START + 2]


def test_what_waits_for_a_place_is_bounded() -> None:
    bench = Bench()
    bench.hub = Hub(10**9, START, settled_at=bench.now + 1)
    bench.say(1, hello(1))
    for data in (bytes(MAX_HELD), b"no room"):
        bench.say(1, Publish(9, ROOM, Mode.KEPT, None, data))
    bench.advance(1)
    assert len(bench.take(1, Placed)) == 1


def test_a_publisher_outside_waits_for_the_workers_of_an_earlier_hub() -> None:
    bench = Bench()
    bench.hub = Hub(10**9, START, settled_at=bench.now + 1)
    bench.say(OUTSIDE, hello_outside())
    for topic in (ROOM, PLAIN):
        bench.say(OUTSIDE, Publish(9, topic, Mode.KEPT, "an id", topic))
    bench.say(1, hello(1))
    for topic in (ROOM, PLAIN):
        bench.attach(1, topic)
    assert not bench.take(OUTSIDE, Placed)
    bench.advance(1)
    assert [one.data for one in bench.take(1, Delivered)] == [ROOM, PLAIN]
    assert [one.id for one in bench.take(OUTSIDE, Placed)] == ["an id", None]


def test_a_publisher_outside_waits_for_the_rules_of_the_first_worker() -> None:
    bench = Bench()
    bench.say(OUTSIDE, hello_outside())
    bench.say(OUTSIDE, Publish(9, ROOM, Mode.KEPT, "an id", "x"))
    bench.advance(1)
    assert not bench.take(OUTSIDE, Placed)
    assert bench.hub.next_due() > bench.now
    bench.say(1, hello(1))
    assert bench.hub.next_due() <= bench.now
    bench.advance(0)
    assert bench.take(OUTSIDE, Placed) == [Placed(9, "an id", START + 1, False)]
    assert bench.take(1, Delivered) == []  # it was published before anybody subscribed


def test_what_waits_for_a_place_is_not_overtaken() -> None:
    bench = Bench()
    bench.hub = Hub(10**9, START, settled_at=bench.now + 1)
    bench.say(1, hello(1))
    bench.attach(1, ROOM)
    bench.say(1, Publish(8, ROOM, Mode.KEPT, "first", "x"))
    bench.now += 1.01  # `expire` is called a moment later
    bench.say(1, Publish(9, ROOM, Mode.KEPT, "second", "x"))
    bench.advance(0)
    assert [one.id for one in bench.take(1, Delivered)] == ["first", "second"]


def test_claims_are_forgotten_after_a_while() -> None:
    bench = Bench(1)
    bench.say(1, Claim(ROOM, 500))
    assert bench.hub._topics
    bench.advance(CLAIM_SECONDS)
    assert not bench.hub._topics


def test_a_topic_costs_nothing_when_nobody_has_it() -> None:
    bench = Bench(1, 2)
    for number in (1, 2):
        bench.attach(number, ROOM)
    bench.say(1, Detach(ROOM))
    bench.say(1, Detach(ROOM))
    bench.leave(2)
    bench.leave(2)
    assert not bench.hub._topics


def test_workers_learn_how_far_they_are() -> None:
    bench = Bench(1)
    bench.say(2, hello_outside(0))
    bench.publish(1, ROOM, "x")
    bench.sent.clear()
    bench.advance(5)
    assert bench.sent == {1: [Seen(START + 1)]}
    assert bench.hub.next_due() == bench.now + 5


# -- who is there ----------------------------------------------------------------------------------


def test_the_subscribers_of_all_workers_are_counted() -> None:
    bench = Bench(1, 2, 3)
    for number in (2, 3):
        bench.attach(number, ROOM)
    assert not bench.say(1, GetCount(5, ROOM))
    (ask,) = bench.take(2, AskCount)
    bench.say(2, Subscribers(ask.question, 20))
    bench.say(2, Subscribers(ask.question, 20))  # counted once
    bench.say(3, Subscribers(ask.question, 300))
    assert bench.take(1, Count) == [Count(5, 320)]
    assert bench.say(1, GetCount(6, PLAIN)) == [Count(6, 0)]


def test_a_worker_that_does_not_answer_is_left_out_of_a_count() -> None:
    bench = Bench(1, 2, 3)
    for number in (2, 3):
        bench.attach(number, ROOM)
    bench.say(1, GetCount(5, ROOM))
    (ask,) = bench.take(2, AskCount)
    bench.say(2, Subscribers(ask.question, 20))
    assert bench.hub.next_due() <= bench.now + PATIENCE
    bench.advance(PATIENCE)
    assert bench.take(1, Count) == [Count(5, 20)]
    bench.say(3, Subscribers(ask.question, 300))
    assert not bench.take(1, Count)


def test_a_count_does_not_wait_for_who_has_ended() -> None:
    bench = Bench(1, 2)
    bench.attach(2, ROOM)
    bench.say(1, GetCount(5, ROOM))
    bench.leave(2)
    assert bench.take(1, Count) == [Count(5, 0)]
    bench.say(3, hello(3, 1, []))
    bench.attach(3, ROOM)
    bench.say(1, GetCount(6, ROOM))
    bench.leave(1)
    bench.advance(PATIENCE)
    assert not bench.take(1, Count)


def test_open_counts_are_bounded() -> None:
    bench = Bench(1, 2)
    bench.attach(2, ROOM)
    for number in range(MAX_OPEN):
        assert not bench.say(1, GetCount(number, ROOM))
    assert bench.say(1, GetCount(5000, ROOM)) == [Count(5000, 0)]


def test_members_of_a_worker_that_dies_are_announced_by_another() -> None:
    bench = Bench(1, 2)
    bench.say(1, SetMember(ROOM, "ada", 2, False))
    bench.say(2, SetMember(ROOM, "bob", 1, False))
    assert bench.take(1, Announce) == [Announce(ROOM, "ada", True)]
    bench.leave(1)
    assert bench.say(2, GetMembers(5, ROOM)) == [Members(5, False, [Member("bob", 1)])]
    bench.sent.clear()
    bench.advance(GRACE - 0.1)
    assert not bench.take(2, Announce)
    bench.advance(0.1)
    assert bench.take(2, Announce) == [Announce(ROOM, "ada", False)]


def test_a_member_who_returns_elsewhere_has_not_left() -> None:
    bench = Bench(1, 2)
    bench.say(1, SetMember(ROOM, "ada", 1, False))
    bench.say(1, SetMember(ROOM, "ada", 0, False))
    bench.advance(1)
    bench.say(2, SetMember(ROOM, "ada", 1, False))
    bench.advance(2 * GRACE)
    assert not bench.take(2, Announce)


def test_a_member_of_an_earlier_hub_does_not_join_again() -> None:
    bench = Bench(1)
    bench.say(1, SetMember(ROOM, "ada", 1, True))
    assert not bench.take(1, Announce)
    bench.say(1, SetMember(ROOM, "ada", 0, False))
    bench.advance(GRACE)
    assert bench.take(1, Announce) == [Announce(ROOM, "ada", False)]


def test_an_announcement_waits_for_a_worker() -> None:
    bench = Bench(1)
    bench.say(1, SetMember(ROOM, "ada", 1, False))
    bench.leave(1)
    bench.advance(GRACE)
    bench.say(2, hello_outside(0))
    assert not bench.take(2, Announce)
    bench.say(3, hello(3, 0, []))
    assert bench.take(3, Announce) == [Announce(ROOM, "ada", False)]


def test_many_members_come_in_parts() -> None:
    bench = Bench(1)
    names = [str(number) for number in range(PART_MEMBERS + 1)]
    for name in names:
        bench.say(1, SetMember(ROOM, name, 1, True))
    first, second = bench.say(1, GetMembers(5, ROOM))
    assert isinstance(first, Members)
    assert isinstance(second, Members)
    assert (first.has_more, second.has_more) == (True, False)
    assert [one.name for one in first.members + second.members] == names
    assert bench.say(1, GetMembers(6, PLAIN)) == [Members(6, False, [])]


# -- against a model -------------------------------------------------------------------------------

NUMBERS = st.sampled_from([1, 2, 3])
TOPICS = st.sampled_from(["room a", "room b", "plain"])
IDS = st.none() | st.sampled_from(["x", "y", "z"])
NAMES = st.sampled_from(["ada", "bob"])


class HubMachine(RuleBasedStateMachine):
    """Holds the hub against lists: of what each connection should have, and of each history."""

    @initialize()
    def begin(self) -> None:
        self.bench = Bench()
        self.bench.say(OUTSIDE, hello_outside())
        self.place = START
        self.expected: dict[int, dict[str, list[Any]]] = {}  # connection -> topic -> data
        self.history: defaultdict[str, list[tuple[str, int, str]]] = defaultdict(list)
        self.members: defaultdict[tuple[str, str], dict[int, int]] = defaultdict(dict)
        self.gone_at: dict[tuple[str, str], float] = {}
        self.announced: list[tuple[str, str, bool]] = []
        self.count = 0

    @rule(number=NUMBERS)
    def connect(self, number: int) -> None:
        if number not in self.expected:
            self.bench.say(number, hello(number))
            self.expected[number] = {}

    @rule(number=NUMBERS)
    def disconnect(self, number: int) -> None:
        if self.expected.pop(number, None) is not None:
            self.bench.leave(number)
            for key, counts in self.members.items():
                if counts.pop(number, 0):
                    self.note_end(key)

    @precondition(lambda self: self.expected)
    @rule(data=st.data(), topic=TOPICS)
    def attach(self, data: st.DataObject, topic: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.expected)))
        attached = self.bench.attach(number, topic)
        assert (attached.sync, attached.place) == (Sync.CURRENT, self.place)
        self.expected[number].setdefault(topic, [])

    @precondition(lambda self: self.expected)
    @rule(data=st.data(), topic=TOPICS)
    def detach(self, data: st.DataObject, topic: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.expected)))
        self.bench.say(number, Detach(topic))
        self.expected[number].pop(topic, None)

    @precondition(lambda self: self.expected)
    @rule(data=st.data(), topic=TOPICS, id_=IDS, is_kept=st.booleans())
    def publish(self, data: st.DataObject, topic: str, id_: str | None, is_kept: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.expected)))
        self.count += 1
        text = str(self.count)
        if topic == "plain":
            self.bench.say(OUTSIDE, Publish(0, topic, Mode.KEPT, id_, text))
            self.expect(topic, text)
            return
        mode = Mode.KEPT if is_kept else Mode.LIVE
        answer = self.bench.publish(number, topic, text, mode, id=id_ if is_kept else None)
        assert isinstance(answer, Placed)
        known = [place for id_kept, place, _ in self.history[topic] if is_kept and id_kept == id_]
        assert answer.is_known is bool(known)
        if known:
            assert answer.place == known[0]
            return
        self.place += 1
        assert answer.place == self.place
        if is_kept:
            assert answer.id == (id_ or answer.id)
            assert answer.id is not None
            self.history[topic] = [*self.history[topic], (answer.id, self.place, text)][-3:]
        self.expect(topic, text)

    def expect(self, topic: str, text: str) -> None:
        for topics in self.expected.values():
            if topic in topics:
                topics[topic].append(text)

    @precondition(lambda self: self.expected)
    @rule(data=st.data(), topic=TOPICS, after=IDS, last=st.integers(0, 4))
    def recover(self, data: st.DataObject, topic: str, after: str | None, last: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.expected)))
        (part,) = self.bench.say(number, GetMissed(1, topic, after, last))
        assert isinstance(part, MissedPart)
        assert part.place == self.place
        kept = self.history[topic]
        ids = [id_ for id_, _, _ in kept]
        found = [(one.id, one.place, one.data) for one in part.messages]
        if after in ids:
            assert part.is_complete
            assert found == kept[ids.index(after) + 1 :]
        elif part.is_complete and after is not None:
            assert found == kept  # it is the newest one that history does not hold any more
        else:
            assert part.is_complete is (after is None)
            assert found == (kept[-last:] if last else [])

    @precondition(lambda self: self.expected)
    @rule(data=st.data(), topic=TOPICS, name=NAMES, connections=st.integers(0, 3))
    def set_member(self, data: st.DataObject, topic: str, name: str, connections: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.expected)))
        key = topic, name
        self.bench.say(number, SetMember(topic, name, connections, False))
        was_there = self.members[key].pop(number, 0)
        if connections:
            self.members[key][number] = connections
            if self.gone_at.pop(key, None) is None and not was_there:
                others = sum(self.members[key].values()) - connections
                self.announced += [] if others else [(*key, True)]
        elif was_there:
            self.note_end(key)

    def note_end(self, key: tuple[str, str]) -> None:
        if not self.members[key]:
            self.gone_at[key] = self.bench.now

    @rule(seconds=st.floats(0.1, 4))
    def advance(self, seconds: float) -> None:
        self.bench.advance(seconds)
        for key, at in sorted(self.gone_at.items()):
            if self.bench.now >= at + GRACE:
                del self.gone_at[key]
                self.announced.append((*key, False))

    @rule(number=NUMBERS, topic=TOPICS)
    def count_members(self, number: int, topic: str) -> None:
        if number in self.expected:
            (answer,) = self.bench.say(number, GetMembers(1, topic))
            assert isinstance(answer, Members)
            assert {one.name: one.connections for one in answer.members} == {
                name: sum(counts.values())
                for (known, name), counts in self.members.items()
                if known == topic and counts
            }

    @invariant()
    def everybody_has_what_was_published(self) -> None:
        announced = []
        for number, sent in list(self.bench.sent.items()):
            places = [one.place for one in sent if isinstance(one, Delivered) and one.place]
            assert places == sorted(set(places))
            for one in sent:
                if isinstance(one, Delivered):
                    assert self.expected[number][one.topic].pop(0) == one.data
                elif isinstance(one, Announce):
                    announced.append((one.topic, one.member, one.has_joined))
        self.bench.sent.clear()
        assert not any(texts for topics in self.expected.values() for texts in topics.values())
        if self.expected:  # else they wait for a worker
            assert sorted(announced) == sorted(self.announced)
            self.announced.clear()


TestHubMachine = HubMachine.TestCase
TestHubMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
