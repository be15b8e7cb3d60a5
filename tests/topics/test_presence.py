"""Who is in which topic, and who has joined and left, held against a simple model."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wsgate.topics.presence import GRACE, Change, Presence

JOINED = Change("room", "ada", has_joined=True)
LEFT = Change("room", "ada", has_joined=False)


def test_the_first_connection_of_a_member_joins() -> None:
    presence = Presence()
    assert presence.join("room", "ada") == JOINED
    assert presence.join("room", "ada") is None
    assert presence.members("room") == {"ada": 2}


def test_a_member_has_left_three_seconds_after_the_last_connection() -> None:
    presence = Presence()
    for _ in range(2):
        presence.join("room", "ada")
    dues = []
    for at in (10.0, 11.0):
        presence.leave("room", "ada", at)
        dues.append(presence.next_due)
    assert dues == [None, 11.0 + GRACE]
    assert presence.members("room") == {}
    assert presence.take_left(11.0 + GRACE - 0.1) == []
    assert presence.take_left(11.0 + GRACE) == [LEFT]
    assert len(presence) == 0


def test_a_member_who_returns_in_time_has_not_left() -> None:
    presence = Presence()
    presence.join("room", "ada")
    presence.leave("room", "ada", 10.0)
    assert presence.join("room", "ada") is None
    assert presence.take_left(20.0) == []
    assert presence.members("room") == {"ada": 1}


def test_a_member_who_returns_and_leaves_again_has_left_once_and_later() -> None:
    presence = Presence()
    for at in (10.0, 12.0, 12.0):
        presence.join("room", "ada")
        presence.leave("room", "ada", at)
    assert presence.take_left(14.9) == []
    assert presence.take_left(15.0) == [LEFT]
    assert presence.take_left(99.0) == []


def test_topics_have_their_own_members() -> None:
    presence = Presence()
    presence.join("room", "ada")
    assert presence.join("other", "ada") == Change("other", "ada", has_joined=True)
    presence.leave("other", "ada", 0.0)
    assert presence.take_left(9.0) == [Change("other", "ada", has_joined=False)]
    assert presence.members("room") == {"ada": 1}


WHO = st.tuples(st.sampled_from(["room", "other"]), st.sampled_from(["ada", "bob"]))


class AnyPresence(RuleBasedStateMachine):
    """Connections of two members in two topics, at any times."""

    def __init__(self) -> None:
        super().__init__()
        self.presence = Presence()
        self.now = 0.0
        self.connections: dict[tuple[str, str], int] = {}
        self.left_at: dict[tuple[str, str], float] = {}
        self.is_in: set[tuple[str, str]] = set()

    @rule(who=WHO)
    def join(self, who: tuple[str, str]) -> None:
        change = self.presence.join(*who)
        assert change == (None if who in self.is_in else Change(*who, has_joined=True))
        self.is_in.add(who)
        self.left_at.pop(who, None)
        self.connections[who] = self.connections.get(who, 0) + 1

    @precondition(lambda self: any(self.connections.values()))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        connected = sorted(who for who, count in self.connections.items() if count)
        who = data.draw(st.sampled_from(connected))
        self.presence.leave(*who, self.now)
        self.connections[who] -= 1
        if not self.connections[who]:
            self.left_at[who] = self.now

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, GRACE, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        left = {who for who, at in self.left_at.items() if at + GRACE <= self.now}
        changes = self.presence.take_left(self.now)
        assert sorted((one.topic, one.member) for one in changes) == sorted(left)
        assert not any(one.has_joined for one in changes)
        self.is_in -= left
        for who in left:
            del self.left_at[who]

    @invariant()
    def members_are_those_with_connections(self) -> None:
        for topic in ("room", "other"):
            expected = {who[1]: n for who, n in self.connections.items() if who[0] == topic and n}
            assert self.presence.members(topic) == expected
        assert len(self.presence) == len({topic for topic, _ in self.is_in})


TestAnyPresence = AnyPresence.TestCase
