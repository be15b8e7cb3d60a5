"""The broker of the workers of one machine, `local:`, which a hub connects."""

import asyncio
import contextlib
import functools
import itertools
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from wsgate.brokers.broker import BrokerState, Receiver
from wsgate.brokers.local.attached_topics import AttachedTopics
from wsgate.brokers.local.hub_link import HubLink
from wsgate.brokers.local.mesh import Mesh
from wsgate.brokers.local.own_members import OwnMembers
from wsgate.brokers.local.requests import Requests
from wsgate.topics import messages
from wsgate.topics.errors import LimitReached, Unavailable
from wsgate.topics.history import Missed
from wsgate.topics.messages import Delivered, HistoryRule, Kept, Message, MissedPart, Mode, Placed
from wsgate.topics.outlet import counted_size
from wsgate.topics.presence import Change
from wsgate.topics.publication import Publication
from wsgate.topics.rules import Rules
from wsgate.topics.wire_format import MAX_FRAME, OVERHEAD

_INT = 2**32 - 1
MAX_FETCHES = 16  # answers of the history that are under way at a time
MAX_EXCLUDED = 10_000  # publications whose excluded socket is remembered until they are placed
MAX_CLAIMS = 1000  # topics whose place is remembered for a new hub although nobody has them here


class LocalBroker:
    """Publications, histories and presence of the workers of one machine.

    Args:
        find_path: Returns the path of the hub's socket; None if it is not known.
        timeout: Seconds to wait for an answer of the hub.
        max_bytes: Bytes of all kept messages.
    """

    def __init__(self, find_path: Callable[[], str | None], timeout: float, max_bytes: int) -> None:
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._receiver: Receiver
        self._find_path = find_path
        self._link = HubLink(self._prepare, self._hello, self._begin, self._take, self._end)
        self._send = self._link.send
        self._requests = Requests(self._send, self._link.no_answer, timeout)
        self._topics = AttachedTopics(self._send, self._requests.next_number, self._fetch_since)
        self._mesh = Mesh(self._topics, self._deliver_plain, self._count_dropped)
        self._members = OwnMembers(self._send)
        self._fetches = asyncio.Semaphore(MAX_FETCHES)
        self._hub_start = 0  # of the hub of the last connection
        self._is_settled = False  # that hub has heard from all workers how far they were
        self._seen = 0  # up to which place everything has arrived on this connection
        self._rules_version = time.time_ns()
        self._sent_rules = 0  # number of rules that the hub knows
        self._ids = itertools.count(1)
        self._id_prefix = secrets.token_hex(4)
        self._excluded: OrderedDict[int, object] = OrderedDict()
        self._claims: OrderedDict[str, int] = OrderedDict()
        self._handlers: dict[type[Any], Callable[[Any], object]] = {
            Delivered: self._take_delivered,
            Placed: self._take_placed,
            messages.Attached: self._take_attached,
            MissedPart: self._take_part,
            messages.Members: self._take_answer,
            messages.Count: self._take_answer,
            messages.Refused: self._take_answer,
            messages.AskCount: self._answer_count,
            messages.Announce: self._announce,
            messages.Lost: self._take_lost,
            messages.Seen: self._take_seen,
            messages.Joined: self._take_joined,
        }

    def changed(self, topic: str) -> None:
        """Do nothing: the hub asks for the numbers of subscribers."""

    async def start(self, receiver: Receiver) -> None:
        """Connect to the hub; it is no error if that takes a while."""
        self._receiver = receiver
        self._topics.receiver = receiver
        self._link.start()

    async def stop(self) -> None:
        """End the connections: the hub forgets this worker's members and subscriptions."""
        await self._topics.stop()
        await self._link.stop()
        await self._mesh.stop()
        self._requests.fail_all()

    def state(self) -> BrokerState:
        """Return since when there is no hub, and how long it took for its latest answer."""
        return BrokerState(self._link.away_since, self._requests.lag, self._link.reconnects)

    # -- the connection to the hub -----------------------------------------------------------------

    async def _prepare(self) -> str | None:
        """Return the path of the hub's socket, when the other workers can connect to this one."""
        path = self._find_path()
        if path is not None:
            await self._mesh.listen(path)
        return path

    def _hello(self) -> messages.Hello:
        return messages.Hello(
            messages.VERSION,
            worker=self._mesh.name,
            rules_version=self._rules_version,
            rules=self._own_rules(),
        )

    def _own_rules(self) -> list[HistoryRule]:
        entries = self._receiver.rule_entries()
        self._sent_rules = len(entries)
        return [HistoryRule(name, one.history, one.history_seconds) for name, one in entries]

    def _begin(self, welcome: messages.Welcome) -> None:
        """Bring the hub of a new connection up to date."""
        is_same_hub = welcome.start == self._hub_start
        self._hub_start, self._seen = welcome.start, 0
        if not is_same_hub:
            self._topics.leave_hub(was_settled=self._is_settled)
            self._is_settled = False
        self._topics.attach_all()
        for topic, place in self._claims.items():
            self._send(messages.Claim(topic, place))
        self._members.report_all(is_same_hub=is_same_hub)
        self._requests.repeat(is_same_hub=is_same_hub)
        self._mesh.add_all(welcome.peers)
        if welcome.is_settled:
            self._mesh.settle()

    def _end(self) -> None:
        self._topics.note_loss(self._seen)

    def _take(self, message: Message) -> None:
        handler = self._handlers.get(type(message))
        if handler is not None:  # a later hub may say more
            handler(message)

    def _take_joined(self, message: messages.Joined) -> None:
        self._mesh.add(message.name)

    def _count_dropped(self, cause: str) -> None:
        self._receiver.count_dropped(cause)

    def _take_seen(self, message: messages.Seen) -> None:
        self._is_settled = True
        self._mesh.settle()
        self._note_seen(message)

    def _note_seen(self, message: Any) -> None:
        self._seen = max(self._seen, message.place)

    # -- topics ------------------------------------------------------------------------------------

    async def attach(self, topic: str) -> None:
        """Deliver a topic's publications from now on."""
        if topic not in self._topics:
            self._mesh.want(topic)
        attached = self._topics.attach(topic).attached
        if self._receiver.rules_of(topic).history:
            await self._wait_for_hub(attached)
            return
        with contextlib.suppress(Unavailable):  # workers publish to plain topics without it
            await self._wait_for_hub(attached, self._mesh.settled)
        await self._mesh.wait_until_noted()

    async def _wait_for_hub(self, *events: asyncio.Event) -> None:
        """Wait for events that the hub causes. Raises Unavailable if one does not come in time."""
        try:
            async with asyncio.timeout(self._timeout):
                for event in events:
                    await event.wait()
        except TimeoutError:
            raise self._link.no_answer(self._timeout) from None

    def detach(self, topic: str) -> None:
        """Deliver nothing more of a topic."""
        self._mesh.detach(topic)
        newest = self._topics.detach(topic)
        if newest:
            self._note_claim(topic, newest)

    def _note_claim(self, topic: str, place: int) -> None:
        """Remember a place of a topic that is not attached, in case that the hub dies."""
        self._claims[topic] = place
        self._claims.move_to_end(topic)
        if len(self._claims) > MAX_CLAIMS:
            self._claims.popitem(last=False)

    def _take_attached(self, message: messages.Attached) -> None:
        self._note_seen(message)
        self._topics.take_attached(message)

    def _take_lost(self, message: messages.Lost) -> None:
        self._topics.take_lost(message.topic)

    # -- publications ------------------------------------------------------------------------------

    async def publish(
        self, publication: Publication, rules: Rules, excluded: object | None, *, is_kept: bool
    ) -> None:
        """Publish a message, and set its id and place."""
        self._check_size(publication, is_kept=is_kept and rules.history > 0)
        if rules.history:
            await self._publish_in_order(publication, excluded, is_kept=is_kept)
        else:
            self._receiver.deliver(publication, excluded)
            await self._mesh.publish(publication.topic, publication.data)

    def _check_size(self, publication: Publication, *, is_kept: bool) -> None:
        size = counted_size(publication.encoded)
        if is_kept and size > self._max_bytes:
            limit = f"--topics-history-max-bytes ({self._max_bytes:,})"
        elif size > MAX_FRAME - OVERHEAD:
            limit = f"what the topics hub carries ({MAX_FRAME - OVERHEAD:,})"
        else:
            return
        raise LimitReached(f"a message of {size:,} bytes is above {limit}")

    def _deliver_plain(self, message: Delivered) -> None:
        """Deliver what another worker has published without a place."""
        if message.topic in self._topics:
            self._receiver.deliver(Publication(message.topic, message.data), None)

    async def _publish_in_order(
        self, publication: Publication, excluded: object | None, *, is_kept: bool
    ) -> None:
        """Have the hub give a message its place; return when it was delivered here."""
        self._send_changed_rules()
        if is_kept and publication.id is None:
            publication.id = f"{self._id_prefix}-{next(self._ids)}"
        topic, id_, data = publication.topic, publication.id, publication.data
        mode = Mode.KEPT if is_kept else Mode.LIVE

        def make(number: int) -> Message:
            if excluded is not None:
                self._note_excluded(number, excluded)
            return messages.Publish(number, topic, mode, id_, data)

        # A message without an id would be published twice.
        _, answer = await self._requests.ask(make, publication, may_repeat=is_kept)
        if not isinstance(answer, Placed):
            raise LimitReached(answer.text)
        publication.place = answer.place

    def _send_changed_rules(self) -> None:
        """Send the rules again if the app has configured more since."""
        if len(self._receiver.rule_entries()) != self._sent_rules and self._link.connection:
            self._rules_version = max(self._rules_version + 1, time.time_ns())
            self._send(messages.SetRules(self._rules_version, self._own_rules()))

    def _note_excluded(self, number: int, excluded: object) -> None:
        self._excluded[number] = excluded
        if len(self._excluded) > MAX_EXCLUDED:
            self._excluded.popitem(last=False)

    def _take_delivered(self, message: Delivered) -> None:
        """Deliver a publication, of this worker or of another."""
        self._note_seen(message)
        request = self._requests.find(message.request) if message.request else None
        if request is None or request.publication is None:
            publication = Publication(message.topic, message.data, message.id, message.place)
        else:
            publication = request.publication
            publication.place = message.place
            # In case the hub ends before it answers.
            request.placed = Placed(message.request, message.id, message.place, is_known=False)
        excluded = self._excluded.get(message.request)
        self._topics.take(message, publication, excluded)

    def _take_placed(self, message: Placed) -> None:
        """Have a publish return when its message was delivered here."""
        self._note_seen(message)
        self._excluded.pop(message.request, None)
        request = self._requests.find(message.request)
        if request is None or request.publication is None:
            return
        self._requests.note_answer(request)
        topic = request.publication.topic
        request.placed = message
        if topic in self._topics:
            self._topics.note_place(topic, message.place)
        else:
            self._note_claim(topic, message.place)
        self._topics.when_current(topic, functools.partial(request.complete, message))

    # -- histories ---------------------------------------------------------------------------------

    async def missed(self, topic: str, after: str | None, last: int) -> Missed:
        """Return what a subscriber has missed."""
        parts = await self._fetch(lambda n: messages.GetMissed(n, topic, after, min(last, _INT)))
        found = [
            Publication(topic, kept.data, kept.id, kept.place)
            for part in parts
            for kept in part.messages
        ]
        return Missed(found, is_complete=parts[0].is_complete, place=parts[0].place)

    async def _fetch_since(self, topic: str, place: int) -> MissedPart:
        parts = await self._fetch(lambda number: messages.GetSince(number, topic, place))
        first = parts[0]
        kept: list[Kept] = [one for part in parts for one in part.messages]
        return MissedPart(0, first.is_complete, first.place, has_more=False, messages=kept)

    async def _fetch(self, make: Callable[[int], Message]) -> list[MissedPart]:
        """Return all parts of an answer of the history."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._fetches.acquire()
        except TimeoutError:
            raise Unavailable("too many recoveries are under way") from None
        try:
            parts, last = await self._requests.ask(make)
        finally:
            self._fetches.release()
        return [*parts, last]

    def _take_part(self, message: MissedPart) -> None:
        self._note_seen(message)
        self._requests.take(message.request, message)

    def _take_answer(self, message: messages.Members | messages.Count | messages.Refused) -> None:
        self._requests.take(message.request, message)

    # -- presence ----------------------------------------------------------------------------------

    async def count(self, topic: str) -> int:
        """Return the number of subscribers and listeners on all workers."""
        _, answer = await self._requests.ask(lambda number: messages.GetCount(number, topic))
        count: int = answer.count
        return count

    def _answer_count(self, message: messages.AskCount) -> None:
        count = self._receiver.subscribers(message.topic)
        self._send(messages.Subscribers(message.question, count))

    async def members(self, topic: str) -> dict[str, int]:
        """Return the number of connections of each member on all workers."""
        parts, last = await self._requests.ask(lambda n: messages.GetMembers(n, topic))
        return {one.name: one.connections for part in [*parts, last] for one in part.members}

    def join(self, topic: str, member: str) -> None:
        """Count a connection of a member."""
        self._members.join(topic, member)

    def leave(self, topic: str, member: str) -> None:
        """Count the end of a connection of a member."""
        self._members.leave(topic, member)

    def _announce(self, message: messages.Announce) -> None:
        self._receiver.change(Change(message.topic, message.member, message.has_joined))
