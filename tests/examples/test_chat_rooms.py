"""The chat's rules, without any I/O: labels, texts, rooms and their history."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from examples.chat.rooms import (
    Bucket,
    ChatError,
    Limits,
    Member,
    Rooms,
    clean_label,
    clean_text,
    encode,
    fold,
)


class Guest(Member):
    """A member that stores what it receives."""

    __slots__ = ("evicted", "received")

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.evicted = False
        super().__init__(post=self._post, evict=self._evict)

    def _post(self, line: str) -> None:
        self.received.append(json.loads(line))

    def _evict(self) -> None:
        self.evicted = True

    def heard(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.received if message["type"] == kind]


def rooms(**limits: Any) -> Rooms:
    ticks = itertools.count(1_000)
    return Rooms(Limits(**limits), clock=lambda: next(ticks))


def joined(chat_rooms: Rooms, name: str, room: str = "Lobby") -> Guest:
    guest = Guest()
    chat_rooms.join(guest, room, name)
    return guest


# ---- Texts and labels --------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("hello", "hello"),
        ("  indented", "  indented"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("\n \none\n\n\ntwo\n \n", "one\n\n\ntwo"),
        ("tab\tstays", "tab\tstays"),
        ("bell\x07 esc\x1b[31m del\x7f", "bell esc[31m del"),
        ("\u202egnp.exe", "gnp.exe"),
        ("lone \ud800 surrogate", "lone  surrogate"),
        ("👩\u200d🌾", "👩\u200d🌾"),
    ],
)
def test_text_is_cleaned(raw: str, clean: str) -> None:
    assert clean_text(raw, 100) == clean


@pytest.mark.parametrize("raw", ["", " ", "\n\n", "\t", "\u200b", "\x00\x1f", "\u3000", "\ud800"])
def test_text_without_a_visible_character_is_refused(raw: str) -> None:
    with pytest.raises(ChatError) as caught:
        clean_text(raw, 100)
    assert caught.value.code == "empty"


def test_text_has_a_limit() -> None:
    assert clean_text("🌻" * 10, 10) == "🌻" * 10
    with pytest.raises(ChatError) as caught:
        clean_text("x" * 11, 10)
    assert caught.value.code == "too_long"


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Ada", "Ada"),
        ("  Ada \n  Lovelace\t", "Ada Lovelace"),
        ("A\u200bd\u202ea", "Ada"),
        ("e\u0301", "é"),
        ("🌻", "🌻"),
    ],
)
def test_label_is_cleaned(raw: str, clean: str) -> None:
    assert clean_label(raw, "name", 24) == clean


@pytest.mark.parametrize("raw", ["", "  ", "\u200d", "x" * 25])
def test_label_is_refused(raw: str) -> None:
    with pytest.raises(ChatError) as caught:
        clean_label(raw, "room", 24)
    assert caught.value.code == "bad_room"


@given(st.text(st.characters()))
def test_cleaned_text_can_be_encoded_as_utf8(raw: str) -> None:
    for clean in (clean_text, lambda raw, limit: clean_label(raw, "name", limit)):
        try:
            kept: str = clean(raw, 50)
        except ChatError:
            continue
        assert kept.strip()
        assert len(kept) <= 50
        line = encode({"text": kept})
        assert json.loads(line.encode().decode()) == {"text": kept}


@given(st.text(st.characters()))
def test_cleaning_again_changes_nothing(raw: str) -> None:
    try:
        label = clean_label(raw, "name", 50)
        text = clean_text(raw, 50)
    except ChatError:
        return
    assert clean_label(label, "name", 50) == label
    assert clean_text(text, 50) == text


@pytest.mark.parametrize("other", ["ada", "ADA", "\uff21da", "A\u1d48a"])
def test_labels_that_fold_to_the_same_key(other: str) -> None:
    assert fold(other) == fold("Ada")


# ---- The rate ----------------------------------------------------------------------


def test_a_bucket_allows_a_burst_and_then_a_rate() -> None:
    bucket = Bucket(burst=3, rate=2.0, now=0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(0.5), bucket.take(0.5)] == [True, False]
    assert [bucket.take(99.0) for _ in range(4)] == [True, True, True, False]


# ---- Rooms -------------------------------------------------------------------------


def test_history_is_bounded_and_ids_continue() -> None:
    chat_rooms = rooms(history=50)
    ada = joined(chat_rooms, "Ada")
    for number in range(60):
        chat_rooms.say(ada, str(number))
    welcome = joined(chat_rooms, "Mira").received[0]
    assert [said["id"] for said in welcome["history"]] == list(range(11, 61))
    assert welcome["history"][-1]["text"] == "59"


def test_free_name_fits_the_limit() -> None:
    chat_rooms = rooms(name=6)
    joined(chat_rooms, "Oskari")
    joined(chat_rooms, "Oska 2")
    with pytest.raises(ChatError) as caught:
        joined(chat_rooms, "oskari")
    assert caught.value.as_message() == {
        "type": "error",
        "code": "name_taken",
        "message": "oskari is here already.",
        "suggestion": "oska 3",
    }


def test_a_refused_join_changes_nothing() -> None:
    chat_rooms = rooms()
    joined(chat_rooms, "Ada", "Garden")
    ada = joined(chat_rooms, "Ada", "Lobby")
    with pytest.raises(ChatError):
        chat_rooms.join(ada, "Garden", "Ada")
    assert (ada.room and ada.room.name, ada.name) == ("Lobby", "Ada")


def test_joining_the_same_room_again_only_sends_the_welcome() -> None:
    chat_rooms = rooms()
    mira, ada = joined(chat_rooms, "Mira"), joined(chat_rooms, "Ada")
    chat_rooms.join(ada, "Lobby", "Ada")
    assert len(ada.heard("welcome")) == 2
    assert [message["type"] for message in mira.received] == ["welcome", "joined"]


def test_a_member_can_change_its_name() -> None:
    chat_rooms = rooms()
    mira, ada = joined(chat_rooms, "Mira"), joined(chat_rooms, "ada")
    chat_rooms.join(ada, "Lobby", "Ada")
    assert ada.heard("welcome")[-1]["members"] == ["Mira", "Ada"]
    assert [(m["type"], m["name"]) for m in mira.received[2:]] == [
        ("left", "ada"),
        ("joined", "Ada"),
    ]


def test_a_single_member_that_changes_its_name_keeps_the_room() -> None:
    chat_rooms = rooms()
    ada = joined(chat_rooms, "Ada")
    chat_rooms.join(ada, "Lobby", "Mira")
    first, second = ada.heard("welcome")
    assert first["log"] == second["log"]
    assert chat_rooms.listing() == [{"name": "Lobby", "members": 1}]


def test_a_connection_in_another_room_can_be_replaced() -> None:
    chat_rooms = rooms()
    old, new = Guest(), Guest()
    chat_rooms.join(old, "Lobby", "Ada", "key")
    chat_rooms.join(new, "Garden", "Ada", "key")
    chat_rooms.join(new, "Lobby", "Ada", "key")
    assert (old.evicted, old.room) == (True, None)
    chat_rooms.leave(old)  # its connection ends only now
    assert chat_rooms.listing() == [{"name": "Lobby", "members": 1}]


def test_the_listing_is_sorted_and_bounded() -> None:
    chat_rooms = rooms(listed=2)
    for name, room in (("A", "Two"), ("B", "Two"), ("A", "b"), ("A", "C")):
        joined(chat_rooms, name, room)
    assert [room["name"] for room in chat_rooms.listing()] == ["Two", "b"]


def test_the_last_empty_rooms_keep_their_history() -> None:
    chat_rooms = rooms(empty_rooms=2)
    for room in ("One", "Two", "Three"):
        guest = joined(chat_rooms, "Ada", room)
        chat_rooms.say(guest, f"in {room}")
        chat_rooms.leave(guest)
    assert [room["name"] for room in chat_rooms.listing()] == ["Three", "Two"]
    assert joined(chat_rooms, "Ada", "two").received[0]["history"][0]["text"] == "in Two"
    assert joined(chat_rooms, "Ada", "One").received[0]["history"] == []


def test_a_deleted_room_is_created_again_with_another_log() -> None:
    chat_rooms = rooms(empty_rooms=0)
    ada = joined(chat_rooms, "Ada")
    chat_rooms.say(ada, "first")
    chat_rooms.leave(ada)
    chat_rooms.join(ada, "Lobby", "Ada")
    first, second = ada.heard("welcome")
    assert first["log"] != second["log"]


def test_an_empty_room_without_messages_is_deleted_at_once() -> None:
    chat_rooms = rooms()
    chat_rooms.leave(joined(chat_rooms, "Ada"))
    assert chat_rooms.listing() == []


def test_the_number_of_rooms_is_bounded() -> None:
    chat_rooms = rooms(rooms=2)
    joined(chat_rooms, "Ada", "One")
    joined(chat_rooms, "Ada", "Two")
    with pytest.raises(ChatError) as caught:
        joined(chat_rooms, "Ada", "Three")
    assert caught.value.code == "too_many_rooms"
    joined(chat_rooms, "Mira", "ONE")


# ---- Any order of events -----------------------------------------------------------

GUESTS = st.integers(0, 4)
STEPS = st.one_of(
    st.tuples(
        st.just("join"),
        GUESTS,
        st.sampled_from(["Lobby", "lobby", "Garden", "Cellar"]),
        st.sampled_from(["Ada", "ADA", "Mira"]),
        st.sampled_from(["", "k1", "k2"]),
    ),
    st.tuples(st.just("say"), GUESTS, st.sampled_from(["hi", " ", "r"])),
    st.tuples(st.just("leave"), GUESTS),
)


def act(chat_rooms: Rooms, guests: list[Guest], step: tuple[Any, ...]) -> None:
    kind, who, *rest = step
    try:
        if kind == "leave":
            chat_rooms.leave(guests[who])
        else:
            getattr(chat_rooms, kind)(guests[who], *rest)
    except ChatError:
        pass


def check(chat_rooms: Rooms, guests: list[Guest]) -> None:
    """Check the invariants after each step: names, rooms and limits are consistent."""
    for room in chat_rooms._rooms.values():
        assert all(member.room is room for member in room.members.values())
        assert all(fold(member.name) == key for key, member in room.members.items())
        assert room.members or room.history
    for guest in guests:
        assert not guest.room or guest.room.members[fold(guest.name)] is guest
    empty = {key for key, room in chat_rooms._rooms.items() if not room.members}
    assert empty == set(chat_rooms._empty)
    assert len(empty) <= 1


@settings(max_examples=200)
@given(st.lists(STEPS, max_size=40))
def test_invariants_hold_after_any_order_of_events(steps: list[tuple[Any, ...]]) -> None:
    chat_rooms = rooms(empty_rooms=1, history=3)
    guests = [Guest() for _ in range(5)]
    for step in steps:
        act(chat_rooms, guests, step)
        check(chat_rooms, guests)


@settings(max_examples=100)
@given(st.lists(STEPS, max_size=40))
def test_members_know_the_other_members(steps: list[tuple[Any, ...]]) -> None:
    """A client that applies "joined" and "left" to its welcome has the right list."""
    chat_rooms = rooms()
    guests = [Guest() for _ in range(5)]
    for step in steps:
        act(chat_rooms, guests, step)
    for guest in guests:
        if guest.room:
            assert followed(guest) == {member.name for member in guest.room.members.values()}


def followed(guest: Guest) -> set[str]:
    names: set[str] = set()
    for message in guest.received:
        match message["type"]:
            case "welcome":
                names = set(message["members"])
            case "joined":
                names.add(message["name"])
            case "left":
                names.remove(message["name"])
    return names
