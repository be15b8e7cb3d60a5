"""The rules of topics: patterns, defaults, and what is refused."""

import math
from typing import Any

import pytest

from wsgate.topics.rules import MAX_HISTORY, RuleBook, Rules, Slow, make_rules, parse_rule


def book(*patterns: str) -> RuleBook:
    """Return a book in which the history of each pattern is its number, from 1 on."""
    rules = RuleBook()
    for number, pattern in enumerate(patterns, 1):
        rules.add(pattern, make_rules(history=number))
    return rules


def found(rules: RuleBook, name: str) -> int | None:
    matching = rules.find(name)
    return None if matching is None else matching.history


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("room:*", "room:42", True),
        ("room:*", "room:", True),
        ("room:*", "a room:42", False),
        ("room:?", "room:42", False),
        ("room:[0-9]", "room:4", True),
        ("room:[!0-9]", "room:4", False),
        ("Room", "room", False),
        ("a.c", "abc", False),
        ("*", "two\nlines", True),
        ("[*]", "*", True),
    ],
)
def test_a_pattern_is_one_of_fnmatch(pattern: str, name: str, *, matches: bool) -> None:
    assert (found(book(pattern), name) is not None) is matches


def test_the_last_pattern_that_matches_wins() -> None:
    rules = book("*", "room:*", "room:4*", "other")
    assert [found(rules, name) for name in ("room:42", "room:1", "x")] == [3, 2, 1]


def test_a_rule_that_is_added_later_holds_for_names_that_were_asked_before() -> None:
    rules = book("room:*")
    assert found(rules, "room:1") == 1
    assert found(rules, "x") is None
    rules.add("*", make_rules(history=9))
    assert found(rules, "room:1") == 9
    assert found(rules, "x") == 9


def test_any_number_of_names_may_be_asked_for() -> None:
    rules = book("room:*")
    assert {found(rules, f"room:{number}") for number in range(10_000)} == {1}
    assert len(rules._known) <= 4096


def test_the_defaults() -> None:
    assert make_rules() == Rules(history=0, history_seconds=300.0, slow=Slow.DROP)
    assert make_rules(history=1).slow is Slow.CLOSE


@pytest.mark.parametrize("slow", ["close", "drop", "conflate"])
def test_a_plain_topic_may_have_each_rule_for_slow_subscribers(slow: str) -> None:
    assert make_rules(slow=slow).slow is Slow(slow)


@pytest.mark.parametrize("slow", ["drop", "conflate"])
def test_a_history_that_loses_messages_is_refused(slow: str) -> None:
    with pytest.raises(ValueError, match=f'slow="{slow}" loses messages.*use "close"'):
        make_rules(history=1, slow=slow)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"history": -1}, ValueError),
        ({"history": MAX_HISTORY + 1}, ValueError),
        ({"history": 1.0}, TypeError),
        ({"history": True}, TypeError),
        ({"history": "1"}, TypeError),
        ({"history_seconds": 0, "history": 1}, ValueError),
        ({"history_seconds": -1, "history": 1}, ValueError),
        ({"history_seconds": math.inf, "history": 1}, ValueError),
        ({"history_seconds": math.nan, "history": 1}, ValueError),
        ({"history_seconds": "5", "history": 1}, TypeError),
        ({"history_seconds": True, "history": 1}, TypeError),
        ({"slow": "wait"}, ValueError),
        ({"slow": b"drop"}, TypeError),
        ({"slow": ["drop"]}, TypeError),
        ({"announce": "function"}, TypeError),
    ],
)
def test_what_is_out_of_bounds_or_of_another_type_is_refused(
    values: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(values))):
        make_rules(**values)


def test_seconds_without_a_history_are_refused() -> None:
    with pytest.raises(ValueError, match="history_seconds needs history, the number of messages"):
        make_rules(history_seconds=60)
    assert make_rules(history=0, history_seconds=60).history == 0, "a history that is switched off"


@pytest.mark.parametrize(
    ("text", "pattern", "rules"),
    [
        ("room:*", "room:*", Rules()),
        ("a history=5", "a", Rules(history=5, slow=Slow.CLOSE)),
        (
            "a history=5 history_seconds=0.5 slow=close",
            "a",
            Rules(history=5, history_seconds=0.5, slow=Slow.CLOSE),
        ),
        ("a history=0 history-seconds=60", "a", Rules(history_seconds=60.0)),
        ("'two words' slow=conflate", "two words", Rules(slow=Slow.CONFLATE)),
    ],
)
def test_a_rule_of_the_settings(text: str, pattern: str, rules: Rules) -> None:
    assert parse_rule(text) == (pattern, rules)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with a pattern"),
        ("history=5", "begins with a pattern"),
        ("a history", "history must be a number"),
        ("a history=", "history must be a number"),
        ("a history=1e3", "history must be a number"),
        ("a history_seconds=inf", "history_seconds must be a number"),
        ("a history=1 history_seconds=0", "above 0"),
        ("a history_seconds=60", "history_seconds needs history"),
        ("a announce=f", "unknown: 'announce=f'"),
        ("a slow=wait", "slow must be"),
        ("a history=1 slow=drop", "loses messages"),
        ("'a", "No closing quotation"),
        ("x" * 256, "longer than 255"),
    ],
)
def test_a_malformed_rule_of_the_settings_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_rule(text)
