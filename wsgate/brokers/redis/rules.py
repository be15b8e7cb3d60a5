"""The rules of topics as they are stored in Redis, for those who publish from outside."""

import json
from dataclasses import dataclass

from wsgate.brokers.broker import Receiver
from wsgate.topics.rules import PLAIN, RuleBook, Rules

KEY = "wsgate:{0}:rules"
NO_VERSION = "0"  # the server gives it one


@dataclass(frozen=True, slots=True)
class StoredRules:
    """Rules, and the bytes of the kept messages of one topic."""

    rules: RuleBook
    max_bytes: int

    def find(self, topic: str) -> Rules:
        """Return the rules of a topic."""
        return self.rules.find(topic) or PLAIN


def encode_rules(receiver: Receiver, max_bytes: int) -> str:
    """Return the rules of a worker as JSON. What concerns only subscribers is left out."""
    rules = [[name, one.history, one.history_seconds] for name, one in receiver.rule_entries()]
    return json.dumps({"max_bytes": max_bytes, "rules": rules})


def decode_rules(text: bytes | None) -> StoredRules:
    """Return rules; without any, all topics are plain.

    Raises:
        ValueError: They are malformed.
    """
    book = RuleBook()
    if text is None:
        return StoredRules(book, 0)
    try:
        stored = json.loads(text)
        for pattern, history, seconds in stored["rules"]:
            book.add(pattern, Rules(history=int(history), history_seconds=float(seconds)))
        return StoredRules(book, int(stored["max_bytes"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"the rules in Redis are malformed: {error}") from None
