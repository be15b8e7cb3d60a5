"""The chat's rules: rooms, members and messages, without any I/O.

Nothing here waits: a member is told something by a call of its `post`, which takes
one line of JSON and must return at once. So each room has one order of events, and
it is the same for all who are in it.
"""

import itertools
import json
import re
import secrets
import unicodedata
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound of the chat; lengths count characters (code points)."""

    name: int = 24
    room: int = 32
    text: int = 2_000
    frame: int = 32_768  # one whole message as it came; 2,000 emoji, escaped, are 24,000
    history: int = 50  # messages a room keeps
    empty_rooms: int = 20  # rooms without members that are remembered
    rooms: int = 500
    listed: int = 100  # rooms named in one list, the fullest first
    outbox: int = 256  # messages waiting for one slow reader
    burst: int = 20  # messages a client may send at once ...
    per_second: float = 5.0  # ... and for good


class ChatError(Exception):
    """A wish the chat refuses; the client is told and stays connected."""

    def __init__(self, code: str, message: str, **extra: str) -> None:
        """Take a `code` for programs and a `message` for people."""
        super().__init__(message)
        self.code = code
        self.extra = extra

    def as_message(self, ref: str | None = None) -> Message:
        """Give the error as it goes to the client, with the `ref` of what caused it."""
        answer = {"type": "error", "code": self.code, "message": str(self), **self.extra}
        return answer if ref is None else {**answer, "ref": ref}


def encode(message: Message) -> str:
    """Give a message as one line of JSON."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


# What a text may not hold: control characters but the tab, lone surrogates (UTF-8 has
# no bytes for them) and the overrides that turn the direction of what follows.
_UNWANTED = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def clean_text(raw: str, limit: int) -> str:
    """Give a message's text with line ends as LF and no control characters.

    Lines and blank lines inside stay; blank lines around go. Raises ChatError when
    nothing visible is left, or more than `limit` characters.
    """
    lines = (_UNWANTED.sub("", line).rstrip() for line in raw.splitlines())
    text = "\n".join(lines).strip("\n")
    if not _visible(text):
        raise ChatError("empty", "There is nothing to read in that message.")
    if len(text) > limit:
        raise ChatError("too_long", f"A message may have {limit:,} characters at most.")
    return text


def clean_label(raw: str, what: str, limit: int) -> str:
    """Give a name on one line, with single spaces and nothing invisible in it.

    Raises ChatError `bad_<what>` when nothing visible is left, or more than `limit`
    characters.
    """
    kept = (c for c in " ".join(raw.split()) if unicodedata.category(c) not in {"Cc", "Cf", "Cs"})
    label = unicodedata.normalize("NFC", " ".join("".join(kept).split()))
    if not _visible(label):
        raise ChatError(f"bad_{what}", f"A {what} needs a character one can see.")
    if len(label) > limit:
        raise ChatError(f"bad_{what}", f"A {what} may have {limit} characters at most.")
    return label


def _visible(text: str) -> bool:
    return any(c.isprintable() and not c.isspace() for c in text)


def fold(label: str) -> str:
    """Give what two labels share when they count as the same, as "Ada" and "ADA" do."""
    return unicodedata.normalize("NFKC", label).casefold()


class Bucket:
    """A token bucket: `burst` tokens at once, `rate` more each second."""

    def __init__(self, burst: int, rate: float, now: float) -> None:
        self._burst = burst
        self._rate = rate
        self._tokens = float(burst)
        self._then = now

    def take(self, now: float) -> bool:
        """Take a token at `now` (seconds); False when there is none."""
        self._tokens = min(self._burst, self._tokens + (now - self._then) * self._rate)
        self._then = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(eq=False, slots=True)
class Member:
    """A client as the rooms see it: in one room at most, under one name there."""

    post: Callable[[str], None]
    evict: Callable[[], None]  # called when the same person comes back on a new connection
    name: str = ""
    key: str = ""
    room: "Room | None" = None

    def is_same_person(self, key: str) -> bool:
        """Tell whether `key`, which is ASCII, is this member's, and not just empty as well."""
        return bool(key) and secrets.compare_digest(self.key, key)


class Room:
    """The members of one room and what they last said."""

    def __init__(self, name: str, history: int) -> None:
        self.name = name
        # Ids begin at 1 in each log. A client that comes back compares ids only when
        # the log has the same name: a room may have been forgotten and made anew.
        self.log = secrets.token_hex(4)
        self.members: dict[str, Member] = {}
        self.history: deque[Message] = deque(maxlen=history)
        self._ids = itertools.count(1)

    def holder(self, name: str) -> Member | None:
        """Give who has this name, or one that counts as the same."""
        return self.members.get(fold(name))

    def free_name(self, name: str, limit: int) -> str:
        """Give a name like `name` that nobody here has."""
        suffixes = (f" {number}" for number in itertools.count(2))
        names = (name[: limit - len(suffix)].rstrip() + suffix for suffix in suffixes)
        return next(candidate for candidate in names if not self.holder(candidate))

    def enter(self, member: Member, at: int) -> None:
        """Let `member` in and tell the others, unless it takes its own old place."""
        former = self.holder(member.name)
        if former:
            former.room = None
            former.evict()
        else:
            self._tell({"type": "joined", "name": member.name, "at": at})
        self.members[fold(member.name)] = member
        member.room = self

    def leave(self, member: Member, at: int) -> None:
        """Let `member` out and tell the others."""
        del self.members[fold(member.name)]
        member.room = None
        self._tell({"type": "left", "name": member.name, "at": at})

    def say(self, member: Member, text: str, at: int, ref: str | None) -> None:
        """Tell all, the speaker as well, what `member` said.

        A client that lost its connection cannot know whether its last words arrived, and
        says them again with the same `ref`: then the first time counts.
        """
        known = self._find(member.name, ref)
        if known:
            member.post(encode(known))
            return
        said = {"type": "said", "id": next(self._ids), "from": member.name, "text": text, "at": at}
        self.history.append(said if ref is None else {**said, "ref": ref})
        self._tell(self.history[-1])

    def _find(self, name: str, ref: str | None) -> Message | None:
        if ref is None:
            return None
        heard = (said for said in self.history if said["from"] == name and said.get("ref") == ref)
        return next(heard, None)

    def _tell(self, message: Message) -> None:
        line = encode(message)
        for member in self.members.values():
            member.post(line)


class Rooms:
    """All rooms there are: those with members, and the last few without."""

    def __init__(self, limits: Limits, clock: Callable[[], int]) -> None:
        """Take the bounds and a clock in milliseconds since 1970, UTC."""
        self._limits = limits
        self._clock = clock
        self._rooms: dict[str, Room] = {}
        self._empty: dict[str, Room] = {}  # the longest empty first

    def listing(self) -> list[Message]:
        """Give names and member counts, the fullest room first."""
        rooms = sorted(self._rooms.items(), key=lambda item: (-len(item[1].members), item[0]))
        return [
            {"name": room.name, "members": len(room.members)}
            for _, room in rooms[: self._limits.listed]
        ]

    def join(self, member: Member, room_name: str, name: str, key: str = "") -> Room:
        """Bring `member` into a room, out of the one before; welcome it there.

        Raises ChatError, with `member` still where it was, when the name is taken or
        there are too many rooms. Who has the `key` of the name's holder is the same
        person, come back before the old connection was found dead: it takes the place.
        """
        room = self._find_or_make(room_name)
        holder = room.holder(name)
        if holder and holder is not member:
            if not holder.is_same_person(key):
                raise self._taken(room, name)
            name = holder.name
        if (member.room, member.name) != (room, name):
            self.leave(member)
            self._enter(member, room, name)
        member.key = key
        self._welcome(member, room)
        return room

    def leave(self, member: Member) -> None:
        """Let `member` out of its room, if it is in one."""
        room = member.room
        if not room:
            return
        room.leave(member, self._clock())
        if not room.members:
            self._retire(room)

    def say(self, member: Member, raw: str, ref: str | None = None) -> None:
        """Say something in the room of `member`; raises ChatError when it may not."""
        if not member.room:
            raise ChatError("not_joined", "Join a room first.")
        text = clean_text(raw, self._limits.text)
        member.room.say(member, text, self._clock(), ref)

    def _find_or_make(self, name: str) -> Room:
        room = self._rooms.get(fold(name))
        if room:
            return room
        if len(self._rooms) >= self._limits.rooms:
            raise ChatError("too_many_rooms", "There are too many rooms; please choose one.")
        return Room(name, self._limits.history)

    def _taken(self, room: Room, name: str) -> ChatError:
        free = room.free_name(name, self._limits.name)
        return ChatError("name_taken", f"{name} is here already.", suggestion=free)

    def _enter(self, member: Member, room: Room, name: str) -> None:
        key = fold(room.name)
        self._rooms[key] = room
        self._empty.pop(key, None)
        member.name = name
        room.enter(member, self._clock())

    def _welcome(self, member: Member, room: Room) -> None:
        welcome = {
            "type": "welcome",
            "room": room.name,
            "name": member.name,
            "log": room.log,
            "members": [other.name for other in room.members.values()],
            "history": list(room.history),
            "rooms": self.listing(),
        }
        member.post(encode(welcome))

    def _retire(self, room: Room) -> None:
        """Remember an empty room if something was said there, and forget the oldest."""
        key = fold(room.name)
        if not room.history:
            del self._rooms[key]
            return
        self._empty[key] = room
        if len(self._empty) > self._limits.empty_rooms:
            oldest = next(iter(self._empty))
            del self._empty[oldest], self._rooms[oldest]
