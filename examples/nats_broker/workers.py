"""What all workers have: their subscribers and members, and which of them announces changes.

Each worker publishes all its numbers every second, and when they change. So nothing has to be
asked, and what was lost is repaired by the next message. The oldest worker announces. All note the
changes: if it dies, the next one announces what it may not have announced any more.
"""

import json
from collections import Counter
from dataclasses import dataclass, field

from wsgate.topics.presence import GRACE, Change

INTERVAL = 1.0  # seconds between two messages of a worker
LEASE = 3.0  # seconds after which a worker that is not heard of is dead

Entry = tuple[str, str]  # topic and member


@dataclass
class Numbers:
    """What one worker has. heard_at: when it was last heard of, in seconds."""

    subscribers: dict[str, int] = field(default_factory=dict)
    members: Counter[Entry] = field(default_factory=Counter)
    heard_at: float = 0.0


class Workers:
    """All workers, as one of them sees them.

    Args:
        name: Of this worker. The names of workers that start later are greater.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.own = Numbers()
        self._all = {name: self.own}
        self._leads_from: float | None = None  # never before it has heard of the others
        self._known: dict[Entry, float | None] = {}  # the members; when the last connection ended
        self._noted: list[tuple[float, Change]] = []  # that may not be announced yet

    # -- messages ----------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """Return the message of this worker."""
        members = [[*entry, number] for entry, number in self.own.members.items()]
        return json.dumps([self.name, self.own.subscribers, members]).encode()

    def encode_end(self) -> bytes:
        """Return the last message of this worker."""
        return json.dumps([self.name, None, None]).encode()

    def take(self, message: bytes, now: float) -> bool:
        """Take a message of another worker; returns whether that was not known."""
        name, subscribers, members = json.loads(message)
        if subscribers is None:
            self._all.pop(name, None)
            return False
        is_new = name not in self._all
        numbers = Counter({(topic, member): number for topic, member, number in members})
        if name == min(self._all):  # what it has heard of, it has announced
            self._noted = [one for one in self._noted if one[0] > now - INTERVAL]
        self._all[name] = Numbers(subscribers, numbers, now)
        return is_new

    def connect(self, now: float) -> None:
        """Give the others time: this worker can hear them from now on."""
        self._leads_from = now + 1.5 * INTERVAL
        for numbers in self._all.values():
            numbers.heard_at = now

    def expire(self, now: float) -> None:
        """Forget the workers that are dead."""
        self.own.heard_at = now
        for name, numbers in list(self._all.items()):
            if numbers.heard_at < now - LEASE:
                del self._all[name]

    # -- what all have -----------------------------------------------------------------------------

    def count(self, topic: str) -> int:
        """Return the number of a topic's subscribers on the other workers."""
        others = (one for one in self._all.values() if one is not self.own)
        return sum(numbers.subscribers.get(topic, 0) for numbers in others)

    def members(self, topic: str) -> dict[str, int]:
        """Return the number of connections of each member of a topic."""
        found: Counter[str] = Counter()
        for numbers in self._all.values():
            found.update({name: n for (of, name), n in numbers.members.items() if of == topic})
        return dict(found)

    def take_changes(self, now: float) -> list[Change]:
        """Return the changes that this worker is to announce."""
        self._note_changes(now)
        leads = min(self._all) == self.name
        if not leads or self._leads_from is None or now < self._leads_from:
            return []
        noted, self._noted = self._noted, []
        return [change for _, change in noted]

    def _note_changes(self, now: float) -> None:
        present = {entry for numbers in self._all.values() for entry in numbers.members}
        for entry in present:
            if entry not in self._known:
                self._noted.append((now, Change(*entry, has_joined=True)))
            self._known[entry] = None
        for entry in self._known.keys() - present:
            ended_at = self._known[entry]
            if ended_at is None:
                self._known[entry] = now
            elif now >= ended_at + GRACE:
                del self._known[entry]
                self._noted.append((now, Change(*entry, has_joined=False)))
