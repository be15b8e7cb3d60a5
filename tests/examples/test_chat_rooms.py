"""The chat's rules, without any I/O: labels, texts, rates, rooms and people."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, strategies as st

from examples.chat.rooms import (
    Bucket,
    ChatError,
    Limits,
    Person,
    check_name,
    clean_label,
    clean_text,
    encode,
    fold,
    listing,
    names_of,
    parse_join,
    spelling_of,
    topic_of,
)
from wsgate.topics.names import check_name as check_name_of_topic

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
    assert [allows(bucket, 0.0) for _ in range(4)] == [True, True, True, False]
    assert [allows(bucket, 0.5), allows(bucket, 0.5)] == [True, False]
    assert [allows(bucket, 99.0) for _ in range(4)] == [True, True, True, False]


def allows(bucket: Bucket, now: float) -> bool:
    try:
        bucket.take(now)
    except ChatError:
        return False
    return True


# ---- Rooms and people --------------------------------------------------------------


def members(*names: str) -> list[str]:
    """Return the members of a room's topic; each has another key."""
    return [Person.with_key(name, f"key-{number}").member for number, name in enumerate(names)]


@given(st.text(st.characters(), min_size=1, max_size=24), st.text("abc-_", max_size=64))
def test_a_member_is_the_person(name: str, key: str) -> None:
    person = Person.with_key(name, key)
    assert Person.from_member(person.member) == person
    assert len(person.proof) == 16


def test_the_names_of_members_are_sorted_and_each_is_there_once() -> None:
    again = Person.with_key("Ada", "another connection").member
    assert names_of([*members("Mira", "Ada"), again]) == ["Ada", "Mira"]


def test_the_key_proves_a_name() -> None:
    ada = Person.with_key("Ada", "key-0")
    check_name(members("Ada", "Mira"), ada, 24)
    check_name(members("Mira"), Person.with_key("Ada", ""), 24)
    with pytest.raises(ChatError, match="ADA is here already"):
        check_name(members("Ada"), Person.with_key("ADA", "key-1"), 24)


def test_free_name_fits_the_limit() -> None:
    with pytest.raises(ChatError) as caught:
        check_name(members("Oskari", "Oska 2"), Person.with_key("oskari", "?"), 6)
    assert caught.value.as_message() == {
        "type": "error",
        "code": "name_taken",
        "message": "oskari is here already.",
        "suggestion": "oska 3",
    }


def test_a_join_has_a_room_a_person_and_the_last_id() -> None:
    message = {"room": " Garden ", "name": "Ada", "key": "k", "after": "abc-1"}
    ada = Person.with_key("Ada", "k")
    assert parse_join(message, Limits(), "default") == ("Garden", ada, "abc-1")
    without = Person.with_key("Ada", "default")
    assert parse_join({"room": "Garden", "name": "Ada"}, Limits(), "default")[1:] == (without, None)


@pytest.mark.parametrize("after", ["", "x" * 129, "ä", 5, None])
def test_an_odd_id_is_refused(after: Any) -> None:
    with pytest.raises(ChatError) as caught:
        parse_join({"room": "Garden", "name": "Ada", "after": after}, Limits(), "")
    assert caught.value.code == "bad_field"


@given(st.text(st.characters()))
def test_whatever_a_room_is_called_it_has_a_topic_or_an_error(raw: str) -> None:
    with suppress(ChatError):
        check_name_of_topic(topic_of(clean_label(raw, "room", Limits().room)))


def test_a_room_with_a_name_that_grows_when_it_is_folded_is_refused() -> None:
    with pytest.raises(ChatError) as caught:
        topic_of("\ufdfa" * 32)
    assert caught.value.code == "bad_room"


def test_a_room_is_spelled_as_those_do_who_are_there() -> None:
    assert spelling_of("GARDEN", ["Lobby", "Garden"], 500) == "Garden"
    assert spelling_of("Cellar", ["Lobby", "Garden"], 500) == "Cellar"
    assert spelling_of("garden", ["GARDEN", "Garden"], 500) == "GARDEN"  # the same everywhere


def test_the_number_of_rooms_is_bounded() -> None:
    assert spelling_of("one", ["One", "Two"], 2) == "One"
    with pytest.raises(ChatError) as caught:
        spelling_of("Three", ["One", "Two"], 2)
    assert caught.value.code == "too_many_rooms"


def test_the_listing_is_sorted_and_bounded() -> None:
    numbers = {"C": 1, "b": 1, "Two": 1, "TWO": 1}
    assert listing(numbers, 2) == [{"name": "TWO", "members": 2}, {"name": "b", "members": 1}]
