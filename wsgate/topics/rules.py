"""The rules of topics: how much is kept, and what happens to slow subscribers."""

import fnmatch
import math
import re
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from wsgate.bounded_cache import BoundedCache
from wsgate.topics.names import check_name

MAX_HISTORY = 1_000_000  # messages of one topic
ID_LIFETIMES = 10  # the newest id outlives its message by so many times `history_seconds`
_KNOWN_NAMES = 4096  # names whose rules are remembered

Announced = str | bytes | tuple[str | bytes, str] | None
Announce = Callable[[str, str, bool], Announced | Awaitable[Announced]]


class Slow(Enum):
    """What happens to a message for a subscriber whose outlet is full.

    CLOSE: the WebSocket is closed with 1013, and the client recovers when it is back. DROP: the
    message is dropped. CONFLATE: it replaces all messages of its topic that still wait.
    """

    CLOSE = "close"
    DROP = "drop"
    CONFLATE = "conflate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of one topic.

    history: number of messages that are kept for subscribers that were away, 0 for a plain topic.
    history_seconds: how long they are kept. slow: what happens to slow subscribers. announce:
    called with (topic, member, joined) when a member has joined or left; what it returns is
    published.
    """

    history: int = 0
    history_seconds: float = 300.0
    slow: Slow = Slow.DROP
    announce: Announce | None = field(default=None, compare=False)


PLAIN = Rules()


class RuleBook:
    """The rules of all topics, by patterns: the last pattern that matches a name wins.

    entries: the patterns with their rules, in the order in which they were added.
    """

    def __init__(self) -> None:
        self._rules: list[tuple[re.Pattern[str], Rules]] = []
        self.entries: list[tuple[str, Rules]] = []
        self._known: BoundedCache[str, Rules | Literal[False]] = BoundedCache(_KNOWN_NAMES)

    def add(self, pattern: str, rules: Rules) -> None:
        """Add the rules of the topics whose name matches a pattern of `fnmatch`."""
        self._rules.append((re.compile(fnmatch.translate(pattern)), rules))
        self.entries.append((pattern, rules))
        self._known.clear()

    def find(self, name: str) -> Rules | None:
        """Return the rules of a topic, None if no pattern matches."""
        if (known := self._known.get(name)) is not None:
            return known or None
        matching = (rules for pattern, rules in reversed(self._rules) if pattern.match(name))
        found = next(matching, None)
        self._known.keep(name, found or False)
        return found


def make_rules(
    *,
    history: int | None = None,
    history_seconds: float | None = None,
    slow: str | None = None,
    announce: Announce | None = None,
) -> Rules:
    """Return checked rules; `slow` is "close", "drop" or "conflate".

    The default of `slow` is "close" with history and "drop" without.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of bounds, there are seconds without a history, or `slow` breaks
            the promise of a history.
    """
    if history is None:
        if history_seconds is not None:
            raise ValueError("history_seconds needs history, the number of messages that are kept")
        history = PLAIN.history
    if history_seconds is None:
        history_seconds = PLAIN.history_seconds
    _check_history(history, history_seconds)
    if announce is not None and not callable(announce):
        raise TypeError(f"announce must be a function, not {type(announce).__name__}")
    return Rules(
        history=history,
        history_seconds=float(history_seconds),
        slow=_slow(slow, has_history=history > 0),
        announce=announce,
    )


def _check_history(history: object, seconds: object) -> None:
    if isinstance(history, bool) or not isinstance(history, int):
        raise TypeError(f"history must be a number of messages, not {history!r}")
    if not 0 <= history <= MAX_HISTORY:
        raise ValueError(f"history must be from 0 to {MAX_HISTORY:,} messages, not {history}")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"history_seconds must be a number of seconds, not {seconds!r}")
    if not 0 < seconds < math.inf:
        raise ValueError(f"history_seconds must be above 0 and finite, not {seconds}")


def _slow(value: str | None, *, has_history: bool) -> Slow:
    if value is None:
        return Slow.CLOSE if has_history else Slow.DROP
    if not isinstance(value, str):
        raise TypeError(f"slow must be a str, not {type(value).__name__}")
    if value not in [choice.value for choice in Slow]:
        raise ValueError(f'slow must be "close", "drop" or "conflate", not {value!r}')
    slow = Slow(value)
    if has_history and slow is not Slow.CLOSE:
        raise ValueError(
            f'slow="{value}" loses messages, so it cannot be combined with history: use "close"'
        )
    return slow


def parse_rule(text: str) -> tuple[str, Rules]:
    """Return the pattern and the rules of --topics-rule: `PATTERN history=100 slow=close`.

    Raises:
        ValueError: The text is malformed; the message says what is wrong with it.
    """
    words = shlex.split(text)
    if not words or "=" in words[0]:
        raise ValueError("a rule begins with a pattern, such as room:*")
    pattern, *pairs = words
    check_name(pattern)
    values: dict[str, Any] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        name = name.replace("-", "_")
        if name not in _READERS:
            raise ValueError(f"unknown: {pair!r}; a rule has {', '.join(_READERS)}")
        values[name] = _READERS[name](value)
    return pattern, make_rules(**values)


def _whole_number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError(f"history must be a number of messages, not {text!r}")
    return int(text)


def _number(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise ValueError(f"history_seconds must be a number of seconds, not {text!r}")
    return float(text)


_READERS: dict[str, Callable[[str], object]] = {
    "history": _whole_number,
    "history_seconds": _number,
    "slow": str,
}
