"""The topics that a worker has attached to the hub: how far each is, and how a gap is closed."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

from wsgate.topics.errors import Unavailable
from wsgate.topics.messages import Attach, Attached, Delivered, Detach, Kept, Message, Sync
from wsgate.topics.outlet import counted_size
from wsgate.topics.publication import Publication

MAX_BUFFERED = 16 * 2**20  # bytes that are published while gaps are closed; with more they are lost


class Deliverer(Protocol):
    """The part of a Receiver that is needed here."""

    def deliver(self, publication: Publication, excluded: object | None) -> None:
        """Give a publication to the subscribers of its topic on this worker."""

    def lost(self, topic: str) -> None:
        """Close the subscribers of a topic: they may lack messages."""


class Since(Protocol):
    """What history has after a place. is_complete: it reaches back to that place."""

    is_complete: bool
    place: int
    messages: list[Kept]


class AttachedTopic:
    """A topic that is attached, or about to be.

    Attributes:
        request: The number of its latest Attach.
        attached: Set when the hub has answered the first one.
        is_current: Everything up to `position` was delivered, and what follows arrives in order.
        position: Up to which place everything was delivered; 0 before the first answer.
        former: The position with which the last settled hub was left, 0 for none.
        newest: The place of the newest message that is known, delivered or not; 0 for none.
        live: What arrives while the messages before it are fetched.
        held: What is called when the topic is current again.
    """

    __slots__ = (
        *("attached", "former", "held", "is_current", "live", "name"),
        *("newest", "position", "request"),
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.request = 0
        self.attached = asyncio.Event()
        self.is_current = False
        self.position = 0
        self.former = 0
        self.newest = 0
        self.live: list[tuple[Publication, object | None]] = []
        self.held: list[Callable[[], object]] = []


class AttachedTopics:
    """All attached topics of a worker.

    Args:
        send: Sends a message to the hub; returns False if there is no connection.
        next_number: Returns the number of the next request.
        fetch: Returns what history has of a topic after a place. It raises Unavailable.

    Attributes:
        receiver: Gets the publications; set before the first connection.
    """

    receiver: Deliverer

    def __init__(
        self,
        send: Callable[[Message], bool],
        next_number: Callable[[], int],
        fetch: Callable[[str, int], Awaitable[Since]],
    ) -> None:
        self._send = send
        self._next_number = next_number
        self._fetch = fetch
        self._topics: dict[str, AttachedTopic] = {}
        self._behind: OrderedDict[AttachedTopic, None] = OrderedDict()
        self._buffered = 0  # bytes of all `live`
        self._closing: asyncio.Task[None] | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._topics

    def __iter__(self) -> Iterator[str]:
        return iter(self._topics)

    async def stop(self) -> None:
        """Close no more gaps."""
        if self._closing is not None:
            self._closing.cancel()
            await asyncio.wait([self._closing])

    # -- attaching ---------------------------------------------------------------------------------

    def attach(self, name: str) -> AttachedTopic:
        """Ask for the publications of a topic; returns the topic."""
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = AttachedTopic(name)
            self._ask(topic)
        return topic

    def _ask(self, topic: AttachedTopic) -> None:
        topic.request = self._next_number()
        position, newest, former = topic.position, topic.newest, topic.former
        self._send(Attach(topic.request, topic.name, position, newest, former))

    def detach(self, name: str) -> int:
        """Ask for no more publications of a topic; returns the place of the newest one here."""
        topic = self._topics.pop(name, None)
        if topic is None:
            return 0
        self._forget_live(topic)
        self._behind.pop(topic, None)
        self._resume(topic)
        self._send(Detach(name))
        return topic.newest

    def leave_hub(self, *, was_settled: bool) -> None:
        """Note that the next connection is to another hub.

        Args:
            was_settled: The one before has compared how far all workers were with their last one.
                Else that comparison is still to be made.
        """
        for topic in self._topics.values():
            if was_settled or not topic.former:
                topic.former = topic.position

    def attach_all(self) -> None:
        """Attach all topics to the hub of a new connection, and say how far each is."""
        for topic in self._topics.values():
            self._ask(topic)

    def note_loss(self, seen: int) -> None:
        """Note that the connection has ended, on which everything up to a place has arrived."""
        self._behind.clear()
        for topic in self._topics.values():
            self._forget_live(topic)
            if topic.is_current:
                topic.position = max(topic.position, seen)
                topic.is_current = False

    def take_attached(self, message: Attached) -> None:
        """Take the hub's answer to an Attach."""
        topic = self._topics.get(message.topic)
        if topic is None or topic.request != message.request:
            return  # it was detached meanwhile
        if message.sync is Sync.BEHIND:
            self._behind[topic] = None
            self._close_gaps()
        elif message.sync is Sync.LOST:
            self._lose(topic, message.place)
        else:
            self._catch_up(topic, message.place)
        topic.attached.set()

    def _catch_up(self, topic: AttachedTopic, place: int) -> None:
        """Note that everything up to a place was delivered."""
        topic.position = max(topic.position, place)
        topic.is_current = True
        self._resume(topic)

    def _resume(self, topic: AttachedTopic) -> None:
        held, topic.held = topic.held, []
        for call in held:
            call()

    # -- publications ------------------------------------------------------------------------------

    def when_current(self, name: str, call: Callable[[], object]) -> None:
        """Call a function when nothing of a topic is missing here: now, or when it is current."""
        topic = self._topics.get(name)
        if topic is None or topic.is_current:
            call()
        else:
            topic.held.append(call)

    def note_place(self, name: str, place: int) -> None:
        """Note that a message of a topic has this place, although it may not be delivered yet."""
        topic = self._topics[name]
        topic.newest = max(topic.newest, place)

    def take(self, message: Delivered, publication: Publication, excluded: object | None) -> None:
        """Deliver a publication, after those before it."""
        topic = self._topics.get(message.topic)
        if topic is None:
            return
        if not message.place:
            self.receiver.deliver(publication, excluded)
        elif not topic.is_current:
            self._buffer(topic, publication, excluded)
        elif message.previous > topic.position:  # it cannot be: a connection loses nothing
            topic.is_current = False
            self._behind[topic] = None
            self._buffer(topic, publication, excluded)
            self._close_gaps()
        else:
            self._deliver(topic, publication, excluded)

    def _deliver(
        self, topic: AttachedTopic, publication: Publication, excluded: object | None
    ) -> None:
        if publication.place > topic.position:
            topic.position = publication.place
            topic.newest = max(topic.newest, publication.place)
            self.receiver.deliver(publication, excluded)

    def _buffer(
        self, topic: AttachedTopic, publication: Publication, excluded: object | None
    ) -> None:
        topic.newest = max(topic.newest, publication.place)
        topic.live.append((publication, excluded))
        self._buffered += counted_size(publication.encoded)
        if self._buffered > MAX_BUFFERED:
            self._lose(topic, publication.place)

    def _forget_live(self, topic: AttachedTopic) -> None:
        self._buffered -= sum(counted_size(one.encoded) for one, _ in topic.live)
        topic.live.clear()

    def take_lost(self, name: str) -> None:
        """Note that messages of a topic are missing here which nobody holds."""
        topic = self._topics.get(name)
        if topic is not None:
            self._lose(topic, topic.position)

    def _lose(self, topic: AttachedTopic, place: int) -> None:
        """Give up what is missing up to a place: those who lack it are closed."""
        self._behind.pop(topic, None)
        self._forget_live(topic)
        topic.former = 0
        if self._topics.get(topic.name) is topic:
            self._catch_up(topic, place)
            self.receiver.lost(topic.name)

    # -- gaps --------------------------------------------------------------------------------------

    def _close_gaps(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close_all())
            self._closing.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        if self._closing is task:
            self._closing = None

    async def _close_all(self) -> None:
        """Fetch what is missing, one topic after the other."""
        while self._behind:
            topic, _ = self._behind.popitem(last=False)
            await self._close_gap(topic)

    async def _close_gap(self, topic: AttachedTopic) -> None:
        try:
            since = await self._fetch(topic.name, topic.position)
        except Unavailable:
            since = None
        if self._topics.get(topic.name) is not topic or topic.is_current:
            return
        if since is None:
            self._behind[topic] = None  # try again
            return
        if not since.is_complete:
            self._lose(topic, max([since.place, *(one.place for one, _ in topic.live)]))
            return
        for kept in since.messages:
            self._deliver(topic, Publication(topic.name, kept.data, kept.id, kept.place), None)
        live = list(topic.live)
        self._forget_live(topic)
        for publication, excluded in live:
            self._deliver(topic, publication, excluded)
        self._catch_up(topic, since.place)
