"""The chat's rules: names, texts, rates and who is who, without any I/O."""

import hashlib
import itertools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

Message = dict[str, Any]

MAX_TOPIC = 255  # bytes of the name of a topic
MAX_TOKEN = 64  # characters of a key and of a `ref`
MAX_ID = 128  # characters of the id of a message: a hash and a `ref`


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit of the chat. Lengths are in characters (code points)."""

    name: int = 24
    room: int = 32
    text: int = 2_000
    frame: int = 32_768  # a whole message; 2,000 escaped emoji are 24,000 characters
    history: int = 200  # messages of a room that a client can recover
    history_seconds: int = 86_400  # how long they are kept
    last: int = 50  # messages for a client that has none, or was away for too long
    rooms: int = 500  # with people in them
    listed: int = 100  # rooms in the list; the rooms with the most members come first
    burst: int = 20  # messages that a client may send at once
    per_second: float = 5.0  # messages per second that a client may send in the long run


class ChatError(Exception):
    """A refused request. The client receives the error and stays connected."""

    def __init__(self, code: str, message: str, **extra: str) -> None:
        """Create an error with a `code` for programs and a `message` for people."""
        super().__init__(message)
        self.code = code
        self.extra = extra

    def as_message(self, ref: str | None = None) -> Message:
        """Return the message to the client. ref: that of the request that failed."""
        answer = {"type": "error", "code": self.code, "message": str(self), **self.extra}
        return answer if ref is None else {**answer, "ref": ref}


def encode(message: Message) -> str:
    """Return a message as one line of JSON."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def parse(text: str | None, limit: int) -> Message:
    """Return the JSON object in the text of a message. Raises ChatError if there is none."""
    if text is None:
        raise ChatError("binary", "Please send text, not binary.")
    if len(text) > limit:
        raise ChatError("too_big", f"More than {limit:,} characters are not read.")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise ChatError("bad_json", "That is not JSON.") from None
    if not isinstance(message, dict):
        raise ChatError("bad_json", "A message is a JSON object.")
    return message


def required_string(message: Message, field: str) -> str:
    """Return a field that must be a string. Raises ChatError if it is not."""
    value = message.get(field)
    if not isinstance(value, str):
        raise ChatError("bad_field", f'"{field}" must be a string.')
    return value


def optional_token(message: Message, field: str, longest: int = MAX_TOKEN) -> str | None:
    """Return a field of some characters A-Z a-z 0-9 _ -, or None if it is missing."""
    if field not in message:
        return None
    value = required_string(message, field)
    if not re.fullmatch("[A-Za-z0-9_-]+", value) or len(value) > longest:
        raise ChatError("bad_field", f'"{field}" must be 1 to {longest} of A-Z a-z 0-9 _ -')
    return value


# Characters that are removed from texts: control characters except the tab, lone
# surrogates (UTF-8 cannot encode them) and overrides of the writing direction.
_FORBIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def clean_text(raw: str, limit: int) -> str:
    """Return a message's text with LF as line end and without control characters.

    Blank lines at the start and at the end are removed, those between lines stay.

    Raises:
        ChatError: The text has no visible character, or more than `limit` characters.
    """
    lines = (_FORBIDDEN.sub("", line).rstrip() for line in raw.splitlines())
    text = "\n".join(lines).strip("\n")
    if not _is_visible(text):
        raise ChatError("empty", "There is nothing to read in that message.")
    if len(text) > limit:
        raise ChatError("too_long", f"A message may have {limit:,} characters at most.")
    return text


def clean_label(raw: str, what: str, limit: int) -> str:
    """Return a name on one line, with single spaces and without invisible characters.

    Raises:
        ChatError: `bad_<what>` if the name has no visible character, or more than
            `limit` characters.
    """
    kept = (c for c in " ".join(raw.split()) if unicodedata.category(c) not in {"Cc", "Cf", "Cs"})
    label = unicodedata.normalize("NFC", " ".join("".join(kept).split()))
    if not _is_visible(label):
        raise ChatError(f"bad_{what}", f"A {what} needs a character one can see.")
    if len(label) > limit:
        raise ChatError(f"bad_{what}", f"A {what} may have {limit} characters at most.")
    return label


def _is_visible(text: str) -> bool:
    return any(c.isprintable() and not c.isspace() for c in text)


def fold(label: str) -> str:
    """Return a key that is equal for labels that count as the same, as "Ada" and "ADA"."""
    return unicodedata.normalize("NFKC", label).casefold()


class Bucket:
    """A token bucket: `burst` tokens at once, `rate` more each second."""

    def __init__(self, burst: int, rate: float, now: float) -> None:
        self._burst = burst
        self._rate = rate
        self._tokens = float(burst)
        self._updated_at = now

    def take(self, now: float) -> None:
        """Take a token at the time `now` (seconds). Raises ChatError if there is none."""
        self._tokens = min(self._burst, self._tokens + (now - self._updated_at) * self._rate)
        self._updated_at = now
        if self._tokens < 1:
            raise ChatError("too_fast", "That was too fast; please wait a moment.")
        self._tokens -= 1


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in a room: a name, and a hash of the secret key of the client that has it.

    One person may have several connections: an old one of which no worker knows yet that it is
    dead, and the new one, perhaps on another worker. Both are the same member of the room's topic.
    """

    name: str
    proof: str

    @classmethod
    def with_key(cls, name: str, key: str) -> Self:
        """Return the person with this name whose client knows this key (ASCII)."""
        return cls(name, hashlib.sha256(key.encode()).hexdigest()[:16])

    @classmethod
    def from_member(cls, member: str) -> Self:
        """Return the person that is this member of a topic."""
        proof, _, name = member.partition(" ")
        return cls(name, proof)

    @property
    def member(self) -> str:
        """The member of a topic."""
        return f"{self.proof} {self.name}"


class Join(NamedTuple):
    """What a client that wants to enter a room asks for.

    after: the id of the last message of this room that it has.
    """

    room: str
    person: Person
    after: str | None


def parse_join(message: Message, limits: Limits, default_key: str) -> Join:
    """Return what a message asks for. default_key: of a client that gives none."""
    room = clean_label(required_string(message, "room"), "room", limits.room)
    name = clean_label(required_string(message, "name"), "name", limits.name)
    key = optional_token(message, "key") or default_key
    return Join(room, Person.with_key(name, key), optional_token(message, "after", MAX_ID))


def names_of(members: Iterable[str]) -> list[str]:
    """Return the names of the members of a room's topic, sorted."""
    return sorted({Person.from_member(member).name for member in members})


def check_name(members: Iterable[str], person: Person, limit: int) -> None:
    """Check that nobody else in a room has the person's name.

    Raises:
        ChatError: Somebody has it; the error suggests a similar one that is free.
    """
    people = [Person.from_member(member) for member in members]
    taken = {fold(other.name) for other in people if other.proof != person.proof}
    if fold(person.name) in taken:
        free = _free_name(person.name, taken, limit)
        raise ChatError("name_taken", f"{person.name} is here already.", suggestion=free)


def _free_name(name: str, taken: set[str], limit: int) -> str:
    suffixes = (f" {number}" for number in itertools.count(2))
    names = (name[: limit - len(suffix)].rstrip() + suffix for suffix in suffixes)
    return next(candidate for candidate in names if fold(candidate) not in taken)


def topic_of(room: str) -> str:
    """Return the topic of a room. Raises ChatError if it has no place in a topic's name."""
    topic = f"room:{fold(room)}"
    if len(topic.encode()) > MAX_TOPIC:
        raise ChatError("bad_room", "That name of a room is too long.")
    return topic


def spelling_of(room: str, rooms: Iterable[str], limit: int) -> str:
    """Return a room's name as the people in it spell it; of an empty room as it is given.

    Args:
        room: The name.
        rooms: The rooms with people in them.
        limit: How many there may be.

    Raises:
        ChatError: It is a new room, and there are too many.
    """
    known = {fold(other): other for other in sorted(rooms, reverse=True)}
    if fold(room) not in known and len(known) >= limit:
        raise ChatError("too_many_rooms", "There are too many rooms; please choose one.")
    return known.get(fold(room), room)


def listing(rooms: Mapping[str, int], limit: int) -> list[Message]:
    """Return rooms with the numbers of people in them, the largest first.

    Two people may have opened the same room at once, in two spellings: it is listed once.
    """
    spellings = {fold(name): name for name in sorted(rooms, reverse=True)}
    numbers: Counter[str] = Counter()
    for name, number in rooms.items():
        numbers[fold(name)] += number
    largest = sorted(numbers, key=lambda key: (-numbers[key], key))
    return [{"name": spellings[key], "members": numbers[key]} for key in largest[:limit]]
