"""The broker over Redis or Valkey."""

import asyncio
import functools
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from wsgate import loggers, quantities
from wsgate.brokers.broker import BrokerState, Receiver
from wsgate.brokers.redis import scripts
from wsgate.brokers.redis.commands import Post, TooManyCalls
from wsgate.brokers.redis.connection import ConnectionLost, ReplyError
from wsgate.brokers.redis.follower import Follower
from wsgate.brokers.redis.format import EPOCH_SIZE, Frame, decode, encode_plain
from wsgate.brokers.redis.histories import Histories
from wsgate.brokers.redis.keys import channel_of, partition_of, topic_of
from wsgate.brokers.redis.link import TIMING, Timing
from wsgate.brokers.redis.presence import PresenceTiming, RedisPresence
from wsgate.brokers.redis.rules import KEY, NO_VERSION, encode_rules
from wsgate.brokers.redis.servers import Handlers, Server, make_servers
from wsgate.brokers.redis.url import RedisUrl
from wsgate.observe.throttled_log import throttled
from wsgate.topics.history import Missed
from wsgate.topics.publication import Publication
from wsgate.topics.rules import Rules

_MAX_OWN = 10_000  # publications of this worker that are remembered until they come back
_MAX_SYNCS = 100  # topics whose gaps are closed at the same time
_STOP_TIMEOUT = 1.0  # seconds in which a stop sends what waits
PRESENCE_TIMING = PresenceTiming()
_RULES_INTERVAL = 5.0  # seconds between two checks of the rules of the app
_RENEWAL = 1800.0  # seconds between two renewals of what Redis knows of a topic


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
        presence: The lease and intervals of presence.
    """

    def __init__(
        self,
        url: RedisUrl,
        *,
        publish_timeout: float,
        max_bytes: int,
        timing: Timing = TIMING,
        presence: PresenceTiming = PRESENCE_TIMING,
    ) -> None:
        self._presence_timing = presence
        self._presence: RedisPresence
        self._id = b""
        self._number = 0  # of the last publication
        self._receiver: Receiver
        handlers = Handlers(
            on_message=self._receive,
            on_subscribed=self._note_subscribed,
            on_up=self._set_up_server,
            on_away=self._release_plain,
            on_moved=self._move,
        )
        self._servers = make_servers(url, handlers, timing)
        self._histories = Histories(self._servers, publish_timeout, max_bytes, self._id)
        self._rules = ""  # as they are stored
        self._rules_version = NO_VERSION
        self._topics: dict[str, _Topic] = {}
        self._attaching: dict[_Topic, None] = {}  # those that are not subscribed yet
        self._lost: list[str] = []  # topics that have lost messages, until that is logged
        self._own: OrderedDict[int, tuple[Publication, object | None]] = OrderedDict()
        self._gaps: dict[str, None] = {}  # topics whose gaps are to be closed
        self._has_gaps = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # -- start and stop ----------------------------------------------------------------------------

    async def start(self, receiver: Receiver) -> None:
        """Connect in the background: a Redis that is away is no error."""
        self._receiver = receiver
        # Not earlier: the process may have been forked after this object was made.
        self._id = self._histories.origin = secrets.token_bytes(EPOCH_SIZE)
        self._presence = RedisPresence(
            self._servers,
            self._id,
            self._presence_timing,
            on_change=receiver.change,
            count=receiver.subscribers,
        )
        self._rules = encode_rules(receiver, self._histories.max_bytes)
        self._tasks = [
            asyncio.create_task(_keep_running(run))
            for run in (self._close_gaps, self._renew, self._presence.run)
        ]
        self._servers.start()

    async def stop(self) -> None:
        """Send what waits if Redis is there, and close the connections."""
        if not self._tasks:
            return  # it was not started
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._tasks = []
        self._presence.clear()
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

    def state(self) -> BrokerState:
        """Return since when a link is down."""
        return self._servers.health.state

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
            async with asyncio.timeout(self._histories.timeout):
                await asyncio.shield(known.attached)
                if follower is not None:
                    await follower.wait_until_synced()
        except TimeoutError:
            if follower is not None:
                raise self._histories.no_answer(topic) from None

    def _subscribe(self, name: str) -> _Topic:
        topic = _Topic(name, asyncio.get_running_loop().create_future())
        if self._receiver.rules_of(name).history:
            topic.follower = self._follower(name)
        self._topics[name] = topic
        self._attaching[topic] = None
        self._servers.find(partition_of(name)).subscriptions.subscribe(topic.channel)
        return topic

    def _follower(self, name: str) -> Follower:
        def deliver(frame: Frame) -> None:
            self._deliver(name, frame)

        def notice_loss() -> None:
            self._lost.append(name)
            self._receiver.lost(name)

        return Follower(deliver, functools.partial(self._add_gap, name), notice_loss)

    def detach(self, topic: str) -> None:
        """End the subscription of a topic."""
        known = self._topics.pop(topic, None)
        if known is None:
            return
        self._servers.find(partition_of(topic)).subscriptions.unsubscribe(known.channel)
        self._attaching.pop(known, None)
        known.attached.cancel()
        self._gaps.pop(topic, None)
        if known.follower is not None:
            known.follower.end()

    def _release_plain(self) -> None:
        """Resume the calls that wait for plain topics: Redis is away."""
        for topic in list(self._attaching):
            server = self._servers.find(partition_of(topic.name))
            if topic.follower is None and server.subscriptions.is_away:
                self._complete_attach(topic)

    def _complete_attach(self, topic: _Topic) -> None:
        self._attaching.pop(topic, None)
        if not topic.attached.done():
            topic.attached.set_result(None)

    def _note_subscribed(self, channel: str) -> None:
        """Go on with a topic that the server has subscribed, for the first time or again."""
        topic = self._topics.get(topic_of(channel.encode()))
        if topic is None:
            return
        if topic.follower is not None:
            topic.follower.lose_sync()
        self._complete_attach(topic)

    def _move(self, partitions: set[int], old: Server, new: Server) -> None:
        """Subscribe the topics of partitions at the server that has them now."""
        for topic in self._topics.values():
            if partition_of(topic.name) in partitions:
                old.subscriptions.forget(topic.channel)
                new.subscriptions.subscribe(topic.channel)

    # -- what arrives ------------------------------------------------------------------------------

    def _receive(self, channel: bytes, payload: bytes) -> None:
        try:
            frame = decode(payload)
            topic = self._topics.get(topic_of(channel))
        except ValueError as error:
            throttled.warning("A message on a Redis channel is not from wsgate: %s", str(error))
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

    def _add_gap(self, name: str) -> None:
        self._gaps[name] = None
        self._has_gaps.set()

    async def _close_gaps(self) -> None:
        """Close the gaps of topics, some at a time, whenever there are any."""
        while True:
            await self._has_gaps.wait()
            self._has_gaps.clear()
            while self._gaps:
                names = list(self._gaps)[:_MAX_SYNCS]
                for name in names:
                    del self._gaps[name]
                closings = map(self._close_gap, names)
                results = await asyncio.gather(*closings, return_exceptions=True)
                for name, result in zip(names, results, strict=True):
                    if isinstance(result, Exception):
                        loggers.error.error("The gap of %r stays open", name, exc_info=result)
                        self._add_gap(name)
                self._log_lost()

    def _log_lost(self) -> None:
        lost, self._lost = self._lost, []
        if lost:
            loggers.error.warning(
                "Redis has lost messages of %s, whose WebSockets are closed: %r%s",
                quantities.count(len(lost), "topic"),
                lost[0],
                ", ..." if len(lost) > 1 else "",
            )

    async def _close_gap(self, name: str) -> None:
        topic = self._topics.get(name)
        if topic is None or topic.follower is None:
            return
        follower, rules = topic.follower, self._receiver.rules_of(name)
        try:
            reached = await self._histories.since(name, rules, follower.begin_sync())
        except (ConnectionLost, TimeoutError):
            self._add_gap(name)
            return
        except (ReplyError, TooManyCalls, ValueError) as error:
            loggers.error.error("The history of %r cannot be read: %s", name, error)
            await asyncio.sleep(1.0)
            self._add_gap(name)
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
        command = (self._servers.publish_command, channel, payload)
        self._receiver.deliver(publication, excluded)
        commands = self._servers.find(partition).commands
        commands.post(Post(command, partition, len(payload), self._receiver.count_dropped))
        try:
            async with asyncio.timeout(self._histories.timeout):
                await commands.wait_for_room()
        except TimeoutError:
            pass  # Redis is slow: the oldest that wait are dropped

    async def _publish_in_order(
        self,
        publication: Publication,
        rules: Rules,
        excluded: object | None,
        number: int,
        is_kept: bool,
    ) -> None:
        topic = publication.topic
        self._remember(number, publication, excluded)
        try:
            is_new, epoch = await self._histories.publish(
                publication, rules, number, is_kept=is_kept
            )
        except BaseException:
            self._own.pop(number, None)
            raise
        known = self._topics.get(topic)
        if known is None or known.follower is None or not (is_new or number in self._own):
            self._own.pop(number, None)
            return
        frame = Frame(epoch, publication.place, self._id, number, publication.id, publication.data)
        await self._wait_until_delivered(known.follower, frame, is_new=is_new)

    async def _wait_until_delivered(
        self, follower: Follower, frame: Frame, *, is_new: bool
    ) -> None:
        if is_new:
            follower.receive_own(frame)
        try:
            async with asyncio.timeout(self._histories.timeout):
                await follower.wait_for(frame.place)
        except TimeoutError:
            pass  # it has its place; the subscription is away, and will close the gap
        if not is_new:
            self._own.pop(frame.number, None)

    def _remember(self, number: int, publication: Publication, excluded: object | None) -> None:
        """Remember a publication until it comes back: its frames are shared, a socket excluded."""
        self._own[number] = (publication, excluded)
        if len(self._own) > _MAX_OWN:
            self._own.popitem(last=False)

    # -- history -----------------------------------------------------------------------------------

    async def missed(self, topic: str, after: str | None, last: int) -> Missed:
        """Return what a subscriber has missed."""
        rules = self._receiver.rules_of(topic)
        if not rules.history:
            return Missed((), is_complete=after is None, place=0)
        missed = await self._histories.missed(topic, rules, after, last)
        known = self._topics.get(topic)
        if known is not None and known.follower is not None:
            await self._wait_for_place(topic, known.follower, missed.place)
        return missed

    async def _wait_for_place(self, topic: str, follower: Follower, place: int) -> None:
        """Wait until what the history holds was delivered: after that, all is live."""
        try:
            async with asyncio.timeout(self._histories.timeout):
                await follower.wait_for(place)
        except TimeoutError:
            raise self._histories.no_answer(topic) from None

    # -- presence ----------------------------------------------------------------------------------

    async def count(self, topic: str) -> int:
        """Return the number of subscribers and listeners on all workers."""
        presence = self._presence
        others = await self._histories.within_timeout(
            topic, lambda: presence.count_others(topic), may_repeat=True
        )
        return self._receiver.subscribers(topic) + others

    async def members(self, topic: str) -> dict[str, int]:
        """Return the number of connections of each member on all workers."""
        presence = self._presence
        return await self._histories.within_timeout(
            topic, lambda: presence.members(topic), may_repeat=True
        )

    def changed(self, topic: str) -> None:
        """Notice that the number of the topic's subscribers on this worker has changed."""
        self._presence.note_count(topic)

    def join(self, topic: str, member: str) -> None:
        """Count a connection of a member."""
        self._presence.change(topic, member, 1)

    def leave(self, topic: str, member: str) -> None:
        """Count the end of a connection of a member."""
        self._presence.change(topic, member, -1)

    # -- what Redis may have forgotten -------------------------------------------------------------

    def _set_up_server(self, server: Server) -> None:
        """Store at a new connection what the server may have forgotten."""
        if 0 in self._servers.partitions_of(server):
            self._store_rules(server)
        self._presence.renew(self._servers.partitions_of(server))

    def _store_rules(self, server: Server) -> None:
        arguments = (self._rules_version, self._rules)
        reply = server.commands.call_script(scripts.STORE_RULES, (KEY,), *arguments)
        reply.add_done_callback(self._note_version)

    def _note_version(self, reply: "asyncio.Future[bytes]") -> None:
        """Keep the version: a worker that connects again does not replace newer rules."""
        if not reply.cancelled() and reply.exception() is None:
            self._rules_version = reply.result().decode()

    def _check_rules(self) -> None:
        """Store the rules again if the app has added some: then they are new."""
        rules = encode_rules(self._receiver, self._histories.max_bytes)
        server = self._servers.find(0)
        if rules != self._rules and server.commands.is_up:
            self._rules, self._rules_version = rules, NO_VERSION
            self._store_rules(server)

    async def _renew(self) -> None:
        """Keep what Redis knows: the rules, and each topic that is subscribed, however silent."""
        due = 0.0
        while True:
            await asyncio.sleep(_RULES_INTERVAL)
            self._check_rules()
            due += _RULES_INTERVAL
            if due < _RENEWAL:
                continue
            due = 0.0
            for name in list(self._topics):
                topic = self._topics.get(name)
                if topic is not None and topic.follower is not None and topic.follower.is_synced:
                    topic.follower.lose_sync()
                    await asyncio.sleep(0)


async def _keep_running(run: Callable[[], Awaitable[None]]) -> None:
    """Run what never ends; start it again should it fail."""
    while True:
        try:
            await run()
        except Exception:  # noqa: BLE001  # without it topics would stand still
            loggers.error.exception("A task of the Redis broker has failed; it is started again")
        await asyncio.sleep(1.0)
