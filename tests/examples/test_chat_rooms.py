"""The chat's rules, without any I/O: labels, texts, rooms and what they remember."""

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
    """A member that keeps what it is told."""

    __slots__ = ("evicted", "told")

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.evicted = False
        super().__init__(post=self._post, evict=self._evict)

    def _post(self, line: str) -> None:
        self.told.append(json.loads(line))

    def _evict(self) -> None:
        self.evicted = True

    def heard(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.told if message["type"] == kind]


def rooms(**limits: Any) -> Rooms:
    ticks = itertools.count(1_000)
    return Rooms(Limits(**limits), clock=lambda: next(ticks))


def joined(house: Rooms, name: str, room: str = "Lobby") -> Guest:
    guest = Guest()
    house.join(guest, room, name)
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
def test_text_without_anything_to_read_is_refused(raw: str) -> None:
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
def test_whatever_is_kept_goes_over_the_wire(raw: str) -> None:
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
def test_labels_that_count_as_the_same(other: str) -> None:
    assert fold(other) == fold("Ada")


# ---- The rate ----------------------------------------------------------------------


def test_bucket_gives_a_burst_and_then_a_rate() -> None:
    bucket = Bucket(burst=3, rate=2.0, now=0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(0.5), bucket.take(0.5)] == [True, False]
    assert [bucket.take(99.0) for _ in range(4)] == [True, True, True, False]


# ---- Rooms -------------------------------------------------------------------------


def test_history_is_bounded_and_ids_go_on() -> None:
    house = rooms(history=50)
    ada = joined(house, "Ada")
    for number in range(60):
        house.say(ada, str(number))
    welcome = joined(house, "Mira").told[0]
    assert [said["id"] for said in welcome["history"]] == list(range(11, 61))
    assert welcome["history"][-1]["text"] == "59"


def test_free_name_fits_the_limit() -> None:
    house = rooms(name=6)
    joined(house, "Oskari")
    joined(house, "Oska 2")
    with pytest.raises(ChatError) as caught:
        joined(house, "oskari")
    assert caught.value.as_message() == {
        "type": "error",
        "code": "name_taken",
        "message": "oskari is here already.",
        "suggestion": "oska 3",
    }


def test_a_refused_join_changes_nothing() -> None:
    house = rooms()
    joined(house, "Ada", "Garden")
    ada = joined(house, "Ada", "Lobby")
    with pytest.raises(ChatError):
        house.join(ada, "Garden", "Ada")
    assert (ada.room and ada.room.name, ada.name) == ("Lobby", "Ada")


def test_joining_again_only_welcomes_again() -> None:
    house = rooms()
    mira, ada = joined(house, "Mira"), joined(house, "Ada")
    house.join(ada, "Lobby", "Ada")
    assert len(ada.heard("welcome")) == 2
    assert [message["type"] for message in mira.told] == ["welcome", "joined"]


def test_a_new_name_in_the_same_room() -> None:
    house = rooms()
    mira, ada = joined(house, "Mira"), joined(house, "ada")
    house.join(ada, "Lobby", "Ada")
    assert ada.heard("welcome")[-1]["members"] == ["Mira", "Ada"]
    assert [(m["type"], m["name"]) for m in mira.told[2:]] == [("left", "ada"), ("joined", "Ada")]


def test_a_new_name_of_one_alone_keeps_the_room() -> None:
    house = rooms()
    ada = joined(house, "Ada")
    house.join(ada, "Lobby", "Mira")
    first, second = ada.heard("welcome")
    assert first["log"] == second["log"]
    assert house.listing() == [{"name": "Lobby", "members": 1}]


def test_an_old_place_is_taken_from_another_room() -> None:
    house = rooms()
    old, new = Guest(), Guest()
    house.join(old, "Lobby", "Ada", "key")
    house.join(new, "Garden", "Ada", "key")
    house.join(new, "Lobby", "Ada", "key")
    assert (old.evicted, old.room) == (True, None)
    house.leave(old)  # its connection ends only now
    assert house.listing() == [{"name": "Lobby", "members": 1}]


def test_listing_has_the_fullest_first_and_a_bound() -> None:
    house = rooms(listed=2)
    for name, room in (("A", "Two"), ("B", "Two"), ("A", "b"), ("A", "C")):
        joined(house, name, room)
    assert [room["name"] for room in house.listing()] == ["Two", "b"]


def test_an_empty_room_keeps_its_history_for_a_while() -> None:
    house = rooms(empty_rooms=2)
    for room in ("One", "Two", "Three"):
        guest = joined(house, "Ada", room)
        house.say(guest, f"in {room}")
        house.leave(guest)
    assert [room["name"] for room in house.listing()] == ["Three", "Two"]
    assert joined(house, "Ada", "two").told[0]["history"][0]["text"] == "in Two"
    assert joined(house, "Ada", "One").told[0]["history"] == []


def test_a_forgotten_room_comes_back_with_another_log() -> None:
    house = rooms(empty_rooms=0)
    ada = joined(house, "Ada")
    house.say(ada, "first")
    house.leave(ada)
    house.join(ada, "Lobby", "Ada")
    first, second = ada.heard("welcome")
    assert first["log"] != second["log"]


def test_a_room_in_which_nothing_was_said_is_forgotten_at_once() -> None:
    house = rooms()
    house.leave(joined(house, "Ada"))
    assert house.listing() == []


def test_rooms_have_a_bound() -> None:
    house = rooms(rooms=2)
    joined(house, "Ada", "One")
    joined(house, "Ada", "Two")
    with pytest.raises(ChatError) as caught:
        joined(house, "Ada", "Three")
    assert caught.value.code == "too_many_rooms"
    joined(house, "Mira", "ONE")


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


def act(house: Rooms, guests: list[Guest], step: tuple[Any, ...]) -> None:
    kind, who, *rest = step
    try:
        if kind == "leave":
            house.leave(guests[who])
        else:
            getattr(house, kind)(guests[who], *rest)
    except ChatError:
        pass


def check(house: Rooms, guests: list[Guest]) -> None:
    """What holds after each step: places agree with each other and with the bounds."""
    for room in house._rooms.values():
        assert all(member.room is room for member in room.members.values())
        assert all(fold(member.name) == key for key, member in room.members.items())
        assert room.members or room.history
    for guest in guests:
        assert not guest.room or guest.room.members[fold(guest.name)] is guest
    empty = {key for key, room in house._rooms.items() if not room.members}
    assert empty == set(house._empty)
    assert len(empty) <= 1


@settings(max_examples=200)
@given(st.lists(STEPS, max_size=40))
def test_any_order_of_events_keeps_the_house_in_order(steps: list[tuple[Any, ...]]) -> None:
    house = rooms(empty_rooms=1, history=3)
    guests = [Guest() for _ in range(5)]
    for step in steps:
        act(house, guests, step)
        check(house, guests)


@settings(max_examples=100)
@given(st.lists(STEPS, max_size=40))
def test_members_know_who_is_there(steps: list[tuple[Any, ...]]) -> None:
    """A client that follows "joined" and "left" from its welcome on has the true list."""
    house = rooms()
    guests = [Guest() for _ in range(5)]
    for step in steps:
        act(house, guests, step)
    for guest in guests:
        if guest.room:
            assert followed(guest) == {member.name for member in guest.room.members.values()}


def followed(guest: Guest) -> set[str]:
    names: set[str] = set()
    for message in guest.told:
        match message["type"]:
            case "welcome":
                names = set(message["members"])
            case "joined":
                names.add(message["name"])
            case "left":
                names.remove(message["name"])
    return names
