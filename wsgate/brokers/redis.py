"""The broker over Redis or Valkey."""

import asyncio
import secrets
import struct
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from wsgate import loggers
from wsgate.brokers import redis_scripts as scripts
from wsgate.brokers.broker import Receiver
from wsgate.brokers.redis_commands import MAX_POSTS, Argument, OfServer, Post, TooManyCalls
from wsgate.brokers.redis_connection import ConnectionLost, ReplyError
from wsgate.brokers.redis_follower import Follower, Reached
from wsgate.brokers.redis_format import EPOCH_SIZE, Frame, decode, encode, encode_plain
from wsgate.brokers.redis_keys import channel_of, history_keys, partition_of, topic_of
from wsgate.brokers.redis_link import TIMING, Timing
from wsgate.brokers.redis_scripts import Script
from wsgate.brokers.redis_servers import ClusterServers, Handlers, Server, Servers
from wsgate.brokers.redis_url import Kind, RedisUrl
from wsgate.topics.errors import LimitReached, Unavailable
from wsgate.topics.history import Missed
from wsgate.topics.publication import Publication
from wsgate.topics.rules import Rules

_MAX_OWN = 10_000  # publications of this worker that are remembered until they come back
_MAX_SYNCS = 100  # topics whose gaps are closed at the same time
_STOP_TIMEOUT = 1.0  # seconds in which a stop sends what waits
_T = TypeVar("_T")


class _Topic:
    """A topic that this worker subscribes.

    attached: completed when it is subscribed. follower: of a topic with history, else None.
    """

    __slots__ = ("attached", "channel", "follower", "name")

    def __init__(self, name: str, attached: "asyncio.Future[None]") -> None:
        self.name = name
        self.channel = channel_of(name)
        self.attached = attached
        self.follower: Follower | None = None


class RedisBroker:
    """Carries publications between the workers of all machines that use the same Redis.

    Args:
        url: Where Redis is.
        publish_timeout: Seconds that a call may wait for Redis.
        max_bytes: Bytes of the kept messages of one topic.
        timing: The intervals and deadlines of the connections.
    """

    def __init__(
        self,
        url: RedisUrl,
        *,
        publish_timeout: float,
        max_bytes: int,
        timing: Timing = TIMING,
    ) -> None:
        self._url = url
        self._timeout = publish_timeout
        self._max_bytes = max_bytes
        self._id = secrets.token_bytes(EPOCH_SIZE)
        self._number = 0  # of the last publication
        self._receiver: Receiver
        handlers = Handlers(
            on_message=self._receive,
            on_subscribed=self._note_subscribed,
            on_up=self._set_up_server,
            on_away=self._release_plain,
            on_moved=self._move,
        )
        kind = ClusterServers if url.kind is Kind.CLUSTER else Servers
        self._servers = kind(url, handlers, timing)
        self._topics: dict[str, _Topic] = {}
        self._own: OrderedDict[int, tuple[Publication, object | None]] = OrderedDict()
        self._gaps: dict[str, None] = {}  # topics whose gaps are to be closed
        self._has_gaps = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # -- start and stop ----------------------------------------------------------------------------

    async def start(self, receiver: Receiver) -> None:
        """Connect in the background: a Redis that is away is no error."""
        self._receiver = receiver
        self._servers.start()
        self._tasks = [asyncio.create_task(self._close_gaps())]

    async def stop(self) -> None:
        """Send what waits if Redis is there, and close the connections."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []
        drains = [
            asyncio.create_task(server.commands.drain())
            for server in self._servers.all
            if server.commands.is_up
        ]
        if drains:
            _, late = await asyncio.wait(drains, timeout=_STOP_TIMEOUT)
            for task in late:
                task.cancel()
        await self._servers.stop()
        for topic in self._topics.values():
            topic.attached.cancel()
            if topic.follower is not None:
                topic.follower.end()

    # -- subscriptions -----------------------------------------------------------------------------

    async def attach(self, topic: str) -> None:
        """Subscribe a topic. Of a plain one this returns although Redis is away."""
        known = self._topics.get(topic)
        if known is None:
            known = self._subscribe(topic)
        follower = known.follower
        subscriptions = self._servers.find(partition_of(topic)).subscriptions
        if follower is None and subscriptions.is_away:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.shield(known.attached)
                if follower is not None:
                    await follower.wait_until_synced()
        except TimeoutError:
            if follower is not None:
                raise Unavailable(self._no_answer(topic)) from None

    def _subscribe(self, name: str) -> _Topic:
        topic = _Topic(name, asyncio.get_running_loop().create_future())
        if self._receiver.rules_of(name).history:
            topic.follower = self._follower(name)
        self._topics[name] = topic
        self._servers.find(partition_of(name)).subscriptions.subscribe(topic.channel)
        return topic

    def _follower(self, name: str) -> Follower:
        def deliver(frame: Frame) -> None:
            self._deliver(name, frame)

        def add_gap() -> None:
            self._gaps[name] = None
            self._has_gaps.set()

        def notice_loss() -> None:
            loggers.error.warning("Redis has lost messages of the topic %r", name)
            self._receiver.lost(name)

        return Follower(deliver, add_gap, notice_loss)

    def detach(self, topic: str) -> None:
        """End the subscription of a topic."""
        known = self._topics.pop(topic, None)
        if known is None:
            return
        self._servers.find(partition_of(topic)).subscriptions.unsubscribe(known.channel)
        known.attached.cancel()
        self._gaps.pop(topic, None)
        if known.follower is not None:
            known.follower.end()

    def _release_plain(self) -> None:
        """Let those who wait for plain topics go on: Redis is away."""
        for topic in self._topics.values():
            if topic.follower is None and not topic.attached.done():
                is_away = self._servers.find(partition_of(topic.name)).subscriptions.is_away
                if is_away:
                    topic.attached.set_result(None)

    def _note_subscribed(self, channel: str) -> None:
        """Go on with a topic that the server has subscribed, for the first time or again."""
        topic = self._topics.get(topic_of(channel.encode()))
        if topic is None:
            return
        if topic.follower is not None:
            topic.follower.lose_sync()
        if not topic.attached.done():
            topic.attached.set_result(None)

    def _move(self, partitions: set[int], old: Server, new: Server) -> None:
        """Subscribe the topics of partitions at the server that has them now."""
        for topic in self._topics.values():
            if partition_of(topic.name) in partitions:
                old.subscriptions.unsubscribe(topic.channel)
                new.subscriptions.subscribe(topic.channel)

    # -- what arrives ------------------------------------------------------------------------------

    def _receive(self, channel: bytes, payload: bytes) -> None:
        try:
            frame = decode(payload)
            topic = self._topics.get(topic_of(channel))
        except ValueError as error:
            loggers.error.warning("A message on a Redis channel is not from wsgate: %s", error)
            return
        if topic is None:
            return  # it was detached meanwhile
        if not frame.place:
            if frame.origin != self._id:
                self._deliver(topic.name, frame)
        elif topic.follower is not None:
            topic.follower.receive(frame)
        else:  # its publisher has other rules
            self._deliver(topic.name, frame)

    def _deliver(self, topic: str, frame: Frame) -> None:
        own = self._own.pop(frame.number, None) if frame.origin == self._id else None
        if own is None:
            publication, excluded = Publication(topic, frame.data, frame.id), None
        else:
            publication, excluded = own
        publication.place = frame.place
        self._receiver.deliver(publication, excluded)

    # -- gaps --------------------------------------------------------------------------------------

    async def _close_gaps(self) -> None:
        """Close the gaps of topics, some at a time, whenever there are any."""
        while True:
            await self._has_gaps.wait()
            self._has_gaps.clear()
            while self._gaps:
                names = list(self._gaps)[:_MAX_SYNCS]
                for name in names:
                    del self._gaps[name]
                await asyncio.gather(*map(self._close_gap, names))

    async def _close_gap(self, name: str) -> None:
        topic = self._topics.get(name)
        if topic is None or topic.follower is None:
            return
        follower = topic.follower
        after = "" if follower.place is None else follower.place
        try:
            async with asyncio.timeout(self._timeout):  # the other topics may have other servers
                reply = await self._call_history(scripts.SINCE, name, after)
            reached = Reached(
                epoch=reply[0],
                place=reply[1],
                chain=dict(struct.iter_unpack(">8sQ", reply[2])),
                dropped=reply[3],
                frames=[decode(payload) for payload in reply[4]],
            )
        except (ConnectionLost, TimeoutError, ReplyError, TooManyCalls, ValueError) as error:
            if not isinstance(error, (ConnectionLost, TimeoutError)):
                loggers.error.error("The history of %r cannot be read: %s", name, error)
                await asyncio.sleep(1.0)
            self._gaps[name] = None
            self._has_gaps.set()
            return
        if self._topics.get(name) is topic:
            follower.close_gap(reached)

    # -- publications ------------------------------------------------------------------------------

    async def publish(
        self, publication: Publication, rules: Rules, excluded: object | None, *, is_kept: bool
    ) -> None:
        """Publish a message, and set its id and place."""
        self._number += 1
        if rules.history:
            await self._publish_in_order(publication, rules, excluded, self._number, is_kept)
        else:
            await self._publish_plain(publication, excluded)

    async def _publish_plain(self, publication: Publication, excluded: object | None) -> None:
        payload = encode_plain(publication, self._id, self._number)
        channel, partition = channel_of(publication.topic), partition_of(publication.topic)
        command = ("SPUBLISH" if self._servers.is_sharded else "PUBLISH", channel, payload)
        self._receiver.deliver(publication, excluded)
        commands = self._servers.find(partition).commands
        commands.post(Post(command, partition, len(payload), self._receiver.count_dropped))
        if commands.is_up and commands.waiting_posts > MAX_POSTS // 2:
            await asyncio.sleep(0)  # let the connection write

    async def _publish_in_order(
        self,
        publication: Publication,
        rules: Rules,
        excluded: object | None,
        number: int,
        is_kept: bool,
    ) -> None:
        if is_kept:
            self._check_size(publication)
            publication.id = publication.id or f"{self._id.hex()}-{number}"
        head, tail = encode(publication, self._id, number)
        self._remember(number, publication, excluded)
        topic = publication.topic
        command = "SPUBLISH" if self._servers.is_sharded else "PUBLISH"
        arguments = (command, head, tail, publication.id or "", publication.encoded.size)
        try:
            is_new, epoch, place = await self._within_timeout(
                topic,
                lambda: self._call_history(
                    scripts.PUBLISH, topic, *arguments, keys=(channel_of(topic),), rules=rules
                ),
                may_repeat=is_kept,
            )
        except BaseException:
            self._own.pop(number, None)
            raise
        publication.place = place
        known = self._topics.get(topic)
        if known is None or known.follower is None or not (is_new or number in self._own):
            self._own.pop(number, None)
            return
        frame = Frame(epoch, place, self._id, number, publication.id, publication.data)
        await self._wait_until_delivered(known.follower, frame, is_new=bool(is_new))

    async def _wait_until_delivered(
        self, follower: Follower, frame: Frame, *, is_new: bool
    ) -> None:
        if is_new:
            follower.receive_own(frame)
        try:
            async with asyncio.timeout(self._timeout):
                await follower.wait_for(frame.place)
        except TimeoutError:
            pass  # it has its place; the subscription is away, and will close the gap
        if not is_new:
            self._own.pop(frame.number, None)

    def _check_size(self, publication: Publication) -> None:
        size = publication.encoded.size
        if size > self._max_bytes:
            raise LimitReached(
                f"a message of {size:,} bytes is above --topics-history-max-bytes "
                f"({self._max_bytes:,})"
            )

    def _remember(self, number: int, publication: Publication, excluded: object | None) -> None:
        """Remember a publication until it comes back: its frames are shared, a socket excluded."""
        self._own[number] = (publication, excluded)
        if len(self._own) > _MAX_OWN:
            self._own.popitem(last=False)

    # -- history -----------------------------------------------------------------------------------

    async def missed(self, topic: str, after: str | None, last: int) -> Missed:
        """Return what a subscriber has missed."""
        if not self._receiver.rules_of(topic).history:
            return Missed((), is_complete=after is None, place=0)
        _, place, is_known, payloads = await self._within_timeout(
            topic,
            lambda: self._call_history(scripts.MISSED, topic, after or "", last),
            may_repeat=True,
        )
        known = self._topics.get(topic)
        if known is not None and known.follower is not None:
            await self._wait_for_place(topic, known.follower, place)
        publications = [_publication(topic, decode(payload)) for payload in payloads]
        return Missed(publications, is_complete=after is None or bool(is_known), place=place)

    async def _wait_for_place(self, topic: str, follower: Follower, place: int) -> None:
        """Wait until what the history holds was delivered: after that, all is live."""
        try:
            async with asyncio.timeout(self._timeout):
                await follower.wait_for(place)
        except TimeoutError:
            raise Unavailable(self._no_answer(topic)) from None

    async def _call_history(
        self,
        script: Script,
        topic: str,
        *arguments: Argument,
        keys: Sequence[str] = (),
        rules: Rules | None = None,
    ) -> Any:
        """Call a script of histories once.

        Raises:
            ConnectionLost: There is no answer.
            ReplyError: It has failed.
            TooManyCalls: Too many calls wait.
        """
        rules = rules or self._receiver.rules_of(topic)
        partition = partition_of(topic)
        commands = self._servers.find(partition).commands
        return await commands.call_script(
            script,
            (*history_keys(topic), *keys),
            max(rules.history, 1),
            max(int(rules.history_seconds * 1000), 1),
            self._max_bytes,
            secrets.token_bytes(EPOCH_SIZE),
            OfServer.RUN,
            OfServer.DURABLE,
            *arguments,
            partition=partition,
        )

    async def _within_timeout(
        self, topic: str, call: Callable[[], Awaitable[_T]], *, may_repeat: bool
    ) -> _T:
        """Return what a call returns; it is repeated when the connection was lost.

        Raises:
            Unavailable: It has failed, or did not answer in time.
        """
        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    try:
                        return await call()
                    except ConnectionLost as error:
                        if not may_repeat:
                            raise Unavailable(f"topic {topic!r}: {error}") from None
        except TimeoutError:
            raise Unavailable(self._no_answer(topic)) from None
        except (ReplyError, TooManyCalls) as error:
            raise Unavailable(f"topic {topic!r}: {error}") from None

    def _no_answer(self, topic: str) -> str:
        return f"topic {topic!r}: no answer from Redis {self._url} in {self._timeout:g} s"

    # -- who is there ------------------------------------------------------------------------------

    async def count(self, topic: str) -> int:
        """Return the number of subscribers and listeners on all workers."""
        return self._receiver.subscribers(topic)

    async def members(self, topic: str) -> dict[str, int]:
        """Return the number of connections of each member on all workers."""
        del topic
        return {}

    def changed(self, topic: str) -> None:
        """Notice that the number of the topic's subscribers on this worker has changed."""

    def join(self, topic: str, member: str) -> None:
        """Count a connection of a member."""

    def leave(self, topic: str, member: str) -> None:
        """Count the end of a connection of a member."""

    def _set_up_server(self, server: Server) -> None:
        """Store at a new connection what the server may have forgotten."""


def _publication(topic: str, frame: Frame) -> Publication:
    return Publication(topic, frame.data, frame.id, frame.place)
