"""The chat's rules: rooms, members and messages, without any I/O.

Nothing here waits. A member is notified by a call of its `post`, which takes one line
of JSON and must return at once. So each room has one order of events, which is the
same for all its members.
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
    """Every limit of the chat. Lengths are in characters (code points)."""

    name: int = 24
    room: int = 32
    text: int = 2_000
    frame: int = 32_768  # a whole message; 2,000 escaped emoji are 24,000 characters
    history: int = 50  # messages that a room stores
    empty_rooms: int = 20  # rooms without members that are stored
    rooms: int = 500
    listed: int = 100  # rooms in the list; the rooms with the most members come first
    outbox: int = 256  # messages that wait for a slow reader
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

    def take(self, now: float) -> bool:
        """Take a token at the time `now` (seconds). Returns whether there was one."""
        self._tokens = min(self._burst, self._tokens + (now - self._updated_at) * self._rate)
        self._updated_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(eq=False, slots=True)
class Member:
    """A client, which is in one room at most and has one name there."""

    post: Callable[[str], None]
    evict: Callable[[], None]  # called when the same person joins on a new connection
    name: str = ""
    key: str = ""
    room: "Room | None" = None

    def has_key(self, key: str) -> bool:
        """Return whether `key` (ASCII) is this member's key. An empty key never is."""
        return bool(key) and secrets.compare_digest(self.key, key)


class Room:
    """The members of one room and its last messages."""

    def __init__(self, name: str, history: int) -> None:
        self.name = name
        # Ids start at 1 in each log. A client that reconnects compares ids only if the log
        # has the same name: the room may have been deleted and created again.
        self.log = secrets.token_hex(4)
        self.members: dict[str, Member] = {}
        self.history: deque[Message] = deque(maxlen=history)
        self._ids = itertools.count(1)

    def member_named(self, name: str) -> Member | None:
        """Return the member with this name, or with one that counts as the same."""
        return self.members.get(fold(name))

    def free_name(self, name: str, limit: int) -> str:
        """Return a name similar to `name` that no member has."""
        suffixes = (f" {number}" for number in itertools.count(2))
        names = (name[: limit - len(suffix)].rstrip() + suffix for suffix in suffixes)
        return next(candidate for candidate in names if not self.member_named(candidate))

    def enter(self, member: Member, at: int) -> None:
        """Add `member` and notify the others, unless it replaces its own old connection."""
        former = self.member_named(member.name)
        if former:
            former.room = None
            former.evict()
        else:
            self._broadcast({"type": "joined", "name": member.name, "at": at})
        self.members[fold(member.name)] = member
        member.room = self

    def leave(self, member: Member, at: int) -> None:
        """Remove `member` and notify the others."""
        del self.members[fold(member.name)]
        member.room = None
        self._broadcast({"type": "left", "name": member.name, "at": at})

    def say(self, member: Member, text: str, at: int, ref: str | None) -> None:
        """Send a text to all members, including the speaker.

        A client that lost its connection cannot know whether its last message arrived and
        sends it again with the same `ref`. The second one is answered with the first.
        """
        known = self._find_said(member.name, ref)
        if known:
            member.post(encode(known))
            return
        said = {"type": "said", "id": next(self._ids), "from": member.name, "text": text, "at": at}
        self.history.append(said if ref is None else {**said, "ref": ref})
        self._broadcast(self.history[-1])

    def _find_said(self, name: str, ref: str | None) -> Message | None:
        if ref is None:
            return None
        found = (said for said in self.history if said["from"] == name and said.get("ref") == ref)
        return next(found, None)

    def _broadcast(self, message: Message) -> None:
        line = encode(message)
        for member in self.members.values():
            member.post(line)


class Rooms:
    """All rooms: those with members, and the last few without."""

    def __init__(self, limits: Limits, clock: Callable[[], int]) -> None:
        """Create the rooms. clock: returns milliseconds since 1970, UTC."""
        self._limits = limits
        self._clock = clock
        self._rooms: dict[str, Room] = {}
        self._empty: dict[str, Room] = {}  # in the order in which they became empty

    def listing(self) -> list[Message]:
        """Return names and member counts, the room with the most members first."""
        rooms = sorted(self._rooms.items(), key=lambda item: (-len(item[1].members), item[0]))
        return [
            {"name": room.name, "members": len(room.members)}
            for _, room in rooms[: self._limits.listed]
        ]

    def join(self, member: Member, room_name: str, name: str, key: str = "") -> Room:
        """Move `member` into a room and send it the welcome.

        A member with the `key` of the name's present holder is the same person, who
        reconnected before the server noticed that the old connection is dead. It replaces
        the old one.

        Raises:
            ChatError: The name is taken or there are too many rooms. `member` stays where
                it was.
        """
        room = self._find_or_create(room_name)
        holder = room.member_named(name)
        if holder and holder is not member:
            if not holder.has_key(key):
                raise self._name_taken(room, name)
            name = holder.name
        if (member.room, member.name) != (room, name):
            self.leave(member)
            self._enter(member, room, name)
        member.key = key
        self._welcome(member, room)
        return room

    def leave(self, member: Member) -> None:
        """Remove `member` from its room, if it is in one."""
        room = member.room
        if not room:
            return
        room.leave(member, self._clock())
        if not room.members:
            self._handle_empty_room(room)

    def say(self, member: Member, raw: str, ref: str | None = None) -> None:
        """Send a text to the room of `member`. Raises ChatError if it is refused."""
        if not member.room:
            raise ChatError("not_joined", "Join a room first.")
        text = clean_text(raw, self._limits.text)
        member.room.say(member, text, self._clock(), ref)

    def _find_or_create(self, name: str) -> Room:
        room = self._rooms.get(fold(name))
        if room:
            return room
        if len(self._rooms) >= self._limits.rooms:
            raise ChatError("too_many_rooms", "There are too many rooms; please choose one.")
        return Room(name, self._limits.history)

    def _name_taken(self, room: Room, name: str) -> ChatError:
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

    def _handle_empty_room(self, room: Room) -> None:
        """Store an empty room if it has messages, and delete the one that is empty the longest."""
        key = fold(room.name)
        if not room.history:
            del self._rooms[key]
            return
        self._empty[key] = room
        if len(self._empty) > self._limits.empty_rooms:
            oldest = next(iter(self._empty))
            del self._empty[oldest], self._rooms[oldest]
