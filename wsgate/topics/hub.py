"""The hub: gives publications of many workers one order, keeps histories and presence.

It is pure: messages in, messages out. `wsgate/brokers/local/hub_process.py` connects it to sockets.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from wsgate.topics import messages
from wsgate.topics.history import Histories, History, missed_of
from wsgate.topics.hub_counts import HubCounts
from wsgate.topics.hub_members import HubMembers
from wsgate.topics.messages import Delivered, Kept, Message, Mode, Placed, Refusal, Sync
from wsgate.topics.outlet import MIN_COUNTED, counted_size
from wsgate.topics.publication import Publication
from wsgate.topics.rules import PLAIN, RuleBook, Rules
from wsgate.topics.wire_format import WireError

CLAIM_SECONDS = 60.0  # after the first worker, within which the others say how far they were
SEEN_INTERVAL = 5.0  # seconds between two messages that say how far a connection is
PART_BYTES = 256 * 1024  # of the messages in one part of an answer, or one larger message
PART_MEMBERS = 1000
MAX_HELD = 64 * 2**20  # bytes that are published before the hub is settled, about
MAX_ANSWERS = 64  # of one connection that are under way in parts

Outgoing = list[tuple[int, Message]]


class _Connection:
    """A worker, or a publisher outside.

    worker: its name, None for a publisher. topics: those that it has attached. rests: the rest of
    each answer that is sent in parts.
    """

    __slots__ = ("rests", "topics", "worker")

    def __init__(self, worker: str | None) -> None:
        self.worker = worker
        self.topics: set[str] = set()
        self.rests: dict[int, _Answer] = {}

    @property
    def is_worker(self) -> bool:
        """Whether it is a worker."""
        return self.worker is not None


class _Answer:
    """An answer that is sent in parts, and how far it is."""

    __slots__ = ("_at", "_publications", "is_complete", "place")

    def __init__(
        self, publications: Sequence[Publication], *, is_complete: bool, place: int
    ) -> None:
        self._publications = publications
        self._at = 0
        self.is_complete = is_complete
        self.place = place

    @property
    def has_more(self) -> bool:
        """Whether another part follows."""
        return self._at < len(self._publications)

    def next_part(self) -> list[Kept]:
        """Return the next messages."""
        part: list[Kept] = []
        size = 0
        while self.has_more:
            one = self._publications[self._at]
            size += one.encoded.size
            if part and size > PART_BYTES:
                break
            assert one.id is not None  # history keeps no others
            part.append(Kept(one.id, one.place, one.data))
            self._at += 1
        return part


class _Topic:
    """A topic that some connection has attached.

    subscribers: the connections, with the place up to which each has everything. place: of the
    newest message that this hub has placed. claimed: of the newest one of an earlier hub.
    """

    __slots__ = ("claimed", "place", "subscribers")

    def __init__(self) -> None:
        self.subscribers: dict[int, int] = {}
        self.place = 0
        self.claimed = 0


class Hub:
    """Everything that the workers of one machine share.

    Args:
        max_bytes: Bytes of all kept messages.
        start: The place to begin with, above those of every earlier hub: the time in microseconds.
        settled_at: Until then, in seconds, no message gets a place, and none from outside is
            delivered. After an earlier hub has died, the workers first say what they have attached
            and how far they are: who lacks a message must not get a later one.
    """

    def __init__(self, max_bytes: int, start: int, settled_at: float = 0.0) -> None:
        self._start = self._place = start
        self._histories = Histories(max_bytes)
        self._topics: dict[str, _Topic] = {}
        self._connections: dict[int, _Connection] = {}
        self._rules = RuleBook()
        self._rules_version = -1
        self._members = HubMembers()
        self._counts = HubCounts()
        self._settled_at = settled_at
        self._held: deque[tuple[int, messages.Publish]] = deque()  # until it is settled
        self._held_size = 0
        self._claims_end_at: float | None = None
        self._seen_at = 0.0  # when all connections were told how far they are
        self._handlers: dict[type[Any], Callable[[int, Any, float], Outgoing]] = {
            messages.Hello: self._greet,
            messages.SetRules: self._set_rules,
            messages.Attach: self._attach,
            messages.Detach: self._detach,
            messages.Claim: self._claim,
            messages.Publish: self._publish,
            messages.GetMissed: self._get_missed,
            messages.GetSince: self._get_since,
            messages.GetMore: self._get_more,
            messages.Forget: self._forget,
            messages.GetCount: self._get_count,
            messages.Subscribers: self._take_count,
            messages.GetMembers: self._get_members,
            messages.SetMember: self._set_member,
        }

    # -- what the program calls --------------------------------------------------------------------

    def handle(self, connection: int, message: Message, now: float) -> Outgoing:
        """Handle a message of a connection.

        Args:
            connection: Its number.
            message: What it has sent; the first one of a connection is a Hello.
            now: A monotonic time in seconds.

        Returns:
            What to send, with the number of the connection that gets it, in order.

        Raises:
            WireError: The message is out of place; the connection has to be closed.
        """
        handler = self._handlers.get(type(message))
        is_hello = type(message) is messages.Hello
        if handler is None or is_hello is (connection in self._connections):
            raise WireError(f"{type(message).__name__} is out of place")
        return handler(connection, message, now)

    def disconnect(self, connection: int, now: float) -> Outgoing:
        """Forget a connection that has ended; returns what to send to others."""
        known = self._connections.pop(connection, None)
        if known is None:
            return []
        for topic in known.topics:
            self._remove_subscriber(topic, connection)
        self._members.remove(connection, now)
        return self._counts.remove(connection)

    def next_due(self) -> float:
        """Return when `expire` has something to do at the earliest, in seconds."""
        due = (self._histories.next_due, self._members.next_due, self._counts.next_due)
        settled_at = [self._settled_at] if self._held and self._has_rules else []
        regular = max(self._seen_at + SEEN_INTERVAL, self._settled_at)
        return min([regular, *settled_at, *(at for at in due if at is not None)])

    def expire(self, now: float) -> Outgoing:
        """Drop what is too old; returns what to send."""
        self._histories.expire(now)
        if self._claims_end_at is not None and now >= self._claims_end_at:
            self._forget_claims()
        out: Outgoing = [*self._members.expire(now), *self._counts.expire(now)]
        while self._held and self._may_publish(now):
            connection, message = self._held.popleft()
            if connection in self._connections:
                out += self._publish_now(connection, message, now)
        if now >= max(self._seen_at + SEEN_INTERVAL, self._settled_at):
            self._seen_at = now
            seen = messages.Seen(self._place)
            out += [(number, seen) for number, one in self._connections.items() if one.is_worker]
        return out

    # -- connections and rules ---------------------------------------------------------------------

    def _greet(self, connection: int, hello: messages.Hello, now: float) -> Outgoing:
        if self._claims_end_at is None:
            self._claims_end_at = now + CLAIM_SECONDS
        if hello.version != messages.VERSION:
            text = f"the hub speaks version {messages.VERSION}, not {hello.version}"
            return [(connection, messages.Refused(0, Refusal.VERSION, text))]
        others = [] if hello.worker is None else self._workers()
        self._connections[connection] = _Connection(hello.worker)
        peers = [worker for _, worker in others]
        is_settled = now >= self._settled_at
        welcome = messages.Welcome(messages.VERSION, self._start, self._place, peers, is_settled)
        out: Outgoing = [(connection, welcome)]
        if hello.worker is not None:
            self._use_rules(hello.rules_version, hello.rules)
            joined = messages.Joined(hello.worker)
            out += [(number, joined) for number, _ in others]
        return [*out, *self._members.add(connection, is_worker=hello.worker is not None)]

    def _workers(self) -> list[tuple[int, str]]:
        """Return the connections of workers, with their names."""
        return [(n, one.worker) for n, one in self._connections.items() if one.worker is not None]

    def _set_rules(self, connection: int, message: messages.SetRules, now: float) -> Outgoing:
        del now
        if self._connections[connection].is_worker:
            self._use_rules(message.version, message.rules)
        return []

    def _use_rules(self, version: int, rules: Iterable[messages.HistoryRule]) -> None:
        """Use rules, unless newer ones are known."""
        if version < self._rules_version:
            return
        self._rules_version = version
        self._rules = RuleBook()
        for one in rules:
            self._rules.add(one.pattern, Rules(history=one.history, history_seconds=one.seconds))

    @property
    def _has_rules(self) -> bool:
        """Whether a worker has said which topics have a history."""
        return self._rules_version >= 0

    def _may_publish(self, now: float) -> bool:
        return self._has_rules and now >= self._settled_at

    def _rules_of(self, topic: str) -> Rules:
        return self._rules.find(topic) or PLAIN

    # -- subscriptions -----------------------------------------------------------------------------

    def _attach(self, connection: int, message: messages.Attach, now: float) -> Outgoing:
        name = message.topic
        topic = self._topics.setdefault(name, _Topic())
        self._connections[connection].topics.add(name)
        out = self._note_claim(topic, name, message.newest)
        sync = self._sync_of(topic, message, now) if message.position else Sync.CURRENT
        # What it has from an earlier hub is compared with what others have from it.
        topic.subscribers[connection] = message.former or self._place
        return [(connection, messages.Attached(message.request, name, sync, self._place)), *out]

    def _sync_of(self, topic: _Topic, message: messages.Attach, now: float) -> Sync:
        """Return what a connection lacks that has everything up to a position."""
        name, position = message.topic, message.position
        if not self._rules_of(name).history:
            return Sync.CURRENT
        if message.former and topic.claimed > message.former:
            return Sync.LOST
        history = self._histories.get(name, now)
        if history is None:
            return Sync.LOST if self._histories.forgotten_place > position else Sync.CURRENT
        if history.newest_place <= position:
            return Sync.CURRENT
        return Sync.LOST if history.dropped_place > position else Sync.BEHIND

    def _claim(self, connection: int, message: messages.Claim, now: float) -> Outgoing:
        del connection, now
        topic = self._topics.setdefault(message.topic, _Topic())
        return self._note_claim(topic, message.topic, message.newest)

    def _note_claim(self, topic: _Topic, name: str, newest: int) -> Outgoing:
        """Note the place up to which a connection had a topic from an earlier hub.

        Returns:
            Messages for the subscribers that lack something: it was lost with that hub.
        """
        if not topic.claimed < newest < self._start:
            return []
        former, topic.claimed = topic.claimed, newest
        lost = messages.Lost(name)
        subscribers = topic.subscribers.items()
        return [(number, lost) for number, place in subscribers if former <= place < newest]

    def _forget_claims(self) -> None:
        self._claims_end_at = math.inf
        for name, topic in list(self._topics.items()):
            topic.claimed = 0
            if not topic.subscribers:
                del self._topics[name]

    def _detach(self, connection: int, message: messages.Detach, now: float) -> Outgoing:
        del now
        self._connections[connection].topics.discard(message.topic)
        self._remove_subscriber(message.topic, connection)
        return []

    def _remove_subscriber(self, name: str, connection: int) -> None:
        topic = self._topics.get(name)
        if topic is None:
            return
        topic.subscribers.pop(connection, None)
        if not topic.subscribers and not topic.claimed:
            del self._topics[name]

    # -- publications ------------------------------------------------------------------------------

    def _publish(self, connection: int, message: messages.Publish, now: float) -> Outgoing:
        if self._held or not self._may_publish(now):  # after those that wait, for the order
            return self._hold(connection, message)
        return self._publish_now(connection, message, now)

    def _publish_now(self, connection: int, message: messages.Publish, now: float) -> Outgoing:
        rules = self._rules_of(message.topic)
        if not rules.history and not self._connections[connection].is_worker:
            return self._publish_plain(connection, message)
        if message.mode is Mode.LIVE:
            return self._place_next(connection, message, None)
        known = self._find(message.topic, message.id, now)
        if known is not None:
            return self._answer_publish(connection, message, known.id, known.place, is_known=True)
        publication = Publication(message.topic, message.data, message.id, self._place + 1)
        size = counted_size(publication.encoded)
        if size > self._histories.max_bytes:
            text = f"a message of {size:,} bytes is above the limit of history"
            return [(connection, messages.Refused(message.request, Refusal.LIMIT, text))]
        publication.id = message.id or f"{self._start:x}-{publication.place - self._start}"
        if rules.history:
            self._histories.add(publication, rules, now)
        return self._place_next(connection, message, publication.id)

    def _hold(self, connection: int, message: messages.Publish) -> Outgoing:
        """Keep a message until this hub is settled; one that has no room is not answered."""
        size = max(len(message.data), MIN_COUNTED)
        if self._held_size + size <= MAX_HELD:
            self._held_size += size
            self._held.append((connection, message))
        return []

    def _publish_plain(self, connection: int, message: messages.Publish) -> Outgoing:
        """Deliver what was published outside; workers send theirs to each other."""
        self._histories.forget(message.topic)  # the topic may have had one before
        delivered = Delivered(0, message.topic, None, 0, 0, message.data)
        topic = self._topics.get(message.topic)
        subscribers = [] if topic is None else topic.subscribers
        out: Outgoing = [(number, delivered) for number in subscribers]
        return out + self._answer_publish(connection, message, None, 0)

    def _place_next(self, connection: int, message: messages.Publish, id: str | None) -> Outgoing:
        """Give a message the next place, and deliver it to all, the publisher too."""
        self._place += 1
        topic = self._topics.get(message.topic)
        out: Outgoing = []
        if topic is not None:
            previous, topic.place = topic.place, self._place
            name, place, data = message.topic, self._place, message.data
            own = Delivered(message.request, name, id, previous, place, data)
            others = Delivered(0, name, id, previous, place, data)
            out += [(n, own if n == connection else others) for n in topic.subscribers]
        return out + self._answer_publish(connection, message, id, self._place)

    def _answer_publish(
        self,
        connection: int,
        message: messages.Publish,
        id: str | None,
        place: int,
        *,
        is_known: bool = False,
    ) -> Outgoing:
        if not message.request:
            return []
        return [(connection, Placed(message.request, id, place, is_known))]

    def _find(self, topic: str, id: str | None, now: float) -> Publication | None:
        history = self._histories.get(topic, now) if id is not None else None
        return None if history is None or id is None else history.find(id)

    # -- histories ---------------------------------------------------------------------------------

    def _get_missed(self, connection: int, message: messages.GetMissed, now: float) -> Outgoing:
        if not self._rules_of(message.topic).history:
            self._histories.forget(message.topic)  # the topic may have had one before
        history = self._histories.get(message.topic, now)
        missed = missed_of(history, message.after, message.last, self._place)
        answer = _Answer(missed.publications, is_complete=missed.is_complete, place=missed.place)
        return self._next_part(connection, message.request, answer)

    def _get_since(self, connection: int, message: messages.GetSince, now: float) -> Outgoing:
        history = self._histories.get(message.topic, now)
        answer = _Answer(
            history.after(message.place) if history is not None else [],
            is_complete=_reaches_back(history, message.place),
            place=self._place,
        )
        return self._next_part(connection, message.request, answer)

    def _get_more(self, connection: int, message: messages.GetMore, now: float) -> Outgoing:
        del now
        answer = self._connections[connection].rests.pop(message.request, None)
        return [] if answer is None else self._next_part(connection, message.request, answer)

    def _forget(self, connection: int, message: messages.Forget, now: float) -> Outgoing:
        del now
        self._connections[connection].rests.pop(message.request, None)
        return []

    def _next_part(self, connection: int, request: int, answer: _Answer) -> Outgoing:
        part = answer.next_part()
        rests = self._connections[connection].rests
        if answer.has_more:
            if len(rests) >= MAX_ANSWERS:
                raise WireError(f"more than {MAX_ANSWERS} answers are under way")
            rests[request] = answer
        is_complete, place = answer.is_complete, answer.place
        found = messages.MissedPart(request, is_complete, place, answer.has_more, part)
        return [(connection, found)]

    # -- presence ----------------------------------------------------------------------------------

    def _get_count(self, connection: int, message: messages.GetCount, now: float) -> Outgoing:
        topic = self._topics.get(message.topic)
        workers = () if topic is None else topic.subscribers
        return self._counts.ask(connection, message.request, message.topic, workers, now)

    def _take_count(self, connection: int, message: messages.Subscribers, now: float) -> Outgoing:
        del now
        return self._counts.take(connection, message.question, message.count)

    def _get_members(self, connection: int, message: messages.GetMembers, now: float) -> Outgoing:
        del now
        found = [messages.Member(*one) for one in self._members.members(message.topic).items()]
        starts = range(0, max(len(found), 1), PART_MEMBERS)
        parts = [found[start : start + PART_MEMBERS] for start in starts]
        more = [True] * (len(parts) - 1) + [False]
        return [
            (connection, messages.Members(message.request, has_more, part))
            for has_more, part in zip(more, parts, strict=True)
        ]

    def _set_member(self, connection: int, message: messages.SetMember, now: float) -> Outgoing:
        return list(self._members.set(connection, message, now))


def _reaches_back(history: History | None, place: int) -> bool:
    return history is not None and history.dropped_place <= place
