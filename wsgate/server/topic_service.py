"""The topics of one worker: subscriptions, recoveries, and the delivery of publications."""

import asyncio
import threading
from typing import TYPE_CHECKING, Protocol

from wsgate import quantities
from wsgate.errors import ClientDisconnected, ConfigError
from wsgate.observe.causes import Cause
from wsgate.observe.throttled_log import throttled
from wsgate.server.announcer import Announcer
from wsgate.server.spread_closing import SpreadClosing
from wsgate.server.topic_listener import TopicListener
from wsgate.server.topic_recovery import Recovery
from wsgate.topics import process
from wsgate.topics.counts import DELIVERY_ERROR, SLOW_SUBSCRIBER, Counts
from wsgate.topics.errors import LimitReached, TopicsError, Unavailable
from wsgate.topics.interface import Extension, Recovered
from wsgate.topics.outlet import OutletFull
from wsgate.topics.presence import Change
from wsgate.topics.publication import Publication
from wsgate.topics.rules import PLAIN, RuleBook, Rules, Slow, parse_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from contextvars import Context

    from wsgate.brokers.broker import Broker, BrokerState
    from wsgate.config import Config
    from wsgate.metrics.meter import Meter
    from wsgate.server.websocket import WebSocket
    from wsgate.topics.history import Missed

try:
    from wsgate.server._fast_path import deliver
except ImportError:  # no compiler was found where wsgate was installed
    from wsgate.server.fast_path import deliver

# After so many deliveries the publisher waits for the next loop iteration, so that a loop of
# publications to a large topic does not keep everything else waiting.
MAX_DELIVERIES = 1000
MAX_RECOVERED = 100  # messages that one recovery sends in an iteration of the loop


class Owner(Protocol):
    """A call of the app, which has listeners."""

    @property
    def is_over(self) -> bool:
        """Whether its client has left, or it has returned."""


class LocalTopic:
    """A topic that has subscribers or listeners on this worker.

    Attributes:
        name: Its name.
        subscribers: The WebSockets that get what is published, with the member that each is.
        recoveries: Those that are still sent what they have missed.
        listeners: Of the app itself.
        is_attached: The broker delivers the topic's publications.
        attaching: The call of the broker that is under way, if there is one.
    """

    __slots__ = (
        "_targets",
        "attaching",
        "is_attached",
        "listeners",
        "name",
        "recoveries",
        "subscribers",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.subscribers: dict[WebSocket, str | None] = {}
        self.recoveries: dict[WebSocket, Recovery] = {}
        self.listeners: dict[TopicListener, None] = {}
        self.is_attached = False
        self.attaching: asyncio.Task[None] | None = None
        self._targets: list[WebSocket] | None = None

    def __len__(self) -> int:
        return len(self.subscribers) + len(self.recoveries) + len(self.listeners)

    @property
    def targets(self) -> "list[WebSocket]":
        """The subscribers; they may change while a publication is delivered to these."""
        if self._targets is None:
            self._targets = list(self.subscribers)
        return self._targets

    def add(self, socket: "WebSocket", member: str | None) -> None:
        """Have a WebSocket get what is published."""
        self.subscribers[socket] = member
        self._targets = None

    def discard(self, socket: "WebSocket") -> str | None:
        """Remove a WebSocket if it is there; returns the member that it was."""
        if (recovery := self.recoveries.pop(socket, None)) is not None:
            recovery.ended.wake()
        self._targets = None
        return self.subscribers.pop(socket, None)


class TopicService:
    """The topics of one worker.

    Args:
        config: The settings.
        broker: Carries publications between the workers.
        variables: Returns the context variables for a call of the app.

    Attributes:
        counts: What has happened since the start.
        max_outlet: Bytes that may wait for one socket or listener.
        meter: Counts publications, None while metrics are off.
    """

    def __init__(
        self, config: "Config", broker: "Broker", variables: "Callable[[], Context]"
    ) -> None:
        self._broker = broker
        self._variables = variables
        self._max_topics = config.topics_max
        self._max_per_connection = config.topics_max_per_connection
        self.max_outlet = config.topics_max_outlet
        self._rules = RuleBook()
        for text in config.topics_rule:
            self._rules.add(*_parse(text))
        self._topics: dict[str, LocalTopic] = {}
        self._sockets: dict[WebSocket, dict[str, LocalTopic]] = {}
        self._listeners: dict[Owner | None, dict[TopicListener, LocalTopic]] = {}
        self._has_ended = False
        self._announcer = Announcer(self._publish_announcement, variables)
        self._closing = SpreadClosing()
        self.counts = Counts()
        self.meter: Meter | None = None
        self._thread = 0  # of the event loop, known from the start on

    async def start(self) -> None:
        """Start the broker."""
        self._thread = threading.get_ident()
        process.running.add(self.counts)
        await self._broker.start(self)

    def end_listeners(self) -> None:
        """End the listeners that are left when all calls of the app have ended: of the lifespan."""
        self._has_ended = True
        for owner in list(self._listeners):
            self.leave(owner)

    async def stop(self) -> None:
        """Stop the broker."""
        await self._announcer.stop()
        self._closing.stop()
        await self._broker.stop()
        process.running.discard(self.counts)

    def extension(self, owner: Owner | None, socket: "WebSocket | None" = None) -> Extension:
        """Return the value of the ASGI extension for one call of the app."""
        return Extension(self, owner, socket)

    def _check_thread(self) -> None:
        """Raise TopicsError in another thread, where half of the work would be done."""
        if threading.get_ident() != self._thread:
            raise TopicsError(
                "topics belong to the thread of the server's event loop: "
                "in another thread use anyio.from_thread.run(...)"
            )

    @property
    def broker_state(self) -> "BrokerState":
        """Whether the broker reaches its server."""
        return self._broker.state()

    @property
    def local_topics(self) -> "Collection[LocalTopic]":
        """The topics with subscribers or listeners on this worker."""
        return self._topics.values()

    def rules_of(self, topic: str) -> Rules:
        """Return the rules of a topic: those of the app before those of the settings."""
        return process.configured.find(topic) or self._rules.find(topic) or PLAIN

    def rule_entries(self) -> "Sequence[tuple[str, Rules]]":
        """Return all patterns with their rules; the last one that matches counts."""
        return [*self._rules.entries, *process.configured.entries]

    def count_dropped(self, cause: str) -> None:
        """Count a publication that the broker has dropped."""
        self.counts.dropped[cause] += 1

    # -- sockets -----------------------------------------------------------------------------------

    async def subscribe(
        self,
        socket: "WebSocket | None",
        topic: str,
        after: str | None,
        last: int,
        member: str | None,
    ) -> Recovered:
        """Subscribe a WebSocket, and send it what it has missed."""
        self._check_thread()
        if socket is None:
            raise TopicsError("only a WebSocket can subscribe; use listen() in other scopes")
        while (recovery := self._recovery_of(socket, topic)) is not None:
            await recovery.ended.wait()  # another call subscribes at this moment
        socket.check_can_subscribe()
        topics = self._sockets.get(socket, {})
        if topic in topics:
            return self._subscribe_again(socket, topics[topic], after, member)
        if len(topics) >= self._max_per_connection:
            raise LimitReached(
                f"a connection has {quantities.count(len(topics), 'topic')} "
                "(--topics-max-per-connection)"
            )
        local = self._find_or_add(topic)
        self._sockets[socket] = topics
        topics[topic] = local
        local.recoveries[socket] = recovery = Recovery(socket, self.max_outlet)
        self._broker.changed(topic)
        try:
            await self._attach(local)
            recovered = await self._recover(recovery, local, after, last)
        except BaseException:
            if local.recoveries.get(socket) is recovery:
                self._end_subscription(socket, local)
            raise
        if local.recoveries.get(socket) is recovery:
            self._complete_subscription(recovery, local, member)
        else:  # unsubscribed meanwhile
            socket.check_can_subscribe()
        return recovered

    def _recovery_of(self, socket: "WebSocket", topic: str) -> Recovery | None:
        local = self._sockets.get(socket, {}).get(topic)
        return None if local is None else local.recoveries.get(socket)

    def _complete_subscription(
        self, recovery: Recovery, local: LocalTopic, member: str | None
    ) -> None:
        socket = recovery.socket
        local.discard(socket)
        local.add(socket, member)
        if member is not None:
            self._broker.join(local.name, member)

    def _subscribe_again(
        self, socket: "WebSocket", local: LocalTopic, after: str | None, member: str | None
    ) -> Recovered:
        if after is not None:
            raise TopicsError(
                f"{local.name!r} is subscribed already: `after` can only be given the first time"
            )
        former = local.subscribers.get(socket)
        if member is not None and member != former:
            local.subscribers[socket] = member
            self._broker.join(local.name, member)
            if former is not None:
                self._broker.leave(local.name, former)
        return Recovered(complete=True, count=0)

    async def _recover(
        self, recovery: Recovery, local: LocalTopic, after: str | None, last: int
    ) -> Recovered:
        """Send what a WebSocket has missed, and what is published until it has caught up."""
        if after is None and not last:
            while (live := recovery.pop_live(0)) is not None:
                self._deliver_to(recovery.socket, live, self.rules_of(local.name))
            return Recovered(complete=True, count=0)
        missed = await self._broker.missed(local.name, after, last)
        if after is not None:
            self._count_recovery(missed)
        for publication in missed.publications:
            await self._send_missed(recovery, local, publication)
        while (live := recovery.pop_live(missed.place)) is not None:
            await self._send_missed(recovery, local, live)
        return Recovered(missed.is_complete, len(missed.publications))

    def _count_recovery(self, missed: "Missed") -> None:
        if missed.is_complete:
            self.counts.recovered += 1
        else:
            self.counts.incomplete += 1

    async def _send_missed(
        self, recovery: Recovery, local: LocalTopic, publication: Publication
    ) -> None:
        socket = recovery.socket
        await socket.wait_for_reader()
        recovery.sent += 1
        if not recovery.sent % MAX_RECOVERED:
            await asyncio.sleep(0)
            await socket.wait_for_reader()
        if local.recoveries.get(socket) is not recovery:
            return  # unsubscribed meanwhile
        if not socket.session.can_send:
            raise ClientDisconnected("the client has left")
        socket.publish(publication, self.rules_of(local.name).slow)
        self.counts.delivered += 1

    async def unsubscribe(self, socket: "WebSocket | None", topic: str) -> None:
        """End the subscription of a WebSocket, if there is one."""
        self._check_thread()
        if socket is None:
            raise TopicsError("only a WebSocket can subscribe and unsubscribe")
        local = self._sockets.get(socket, {}).get(topic)
        if local is not None:
            self._end_subscription(socket, local)

    def _end_subscription(self, socket: "WebSocket", local: LocalTopic) -> None:
        topics = self._sockets.get(socket)
        if topics is None or topics.pop(local.name, None) is None:
            return  # the socket has left meanwhile
        if not topics:
            del self._sockets[socket]
        self._remove_socket(socket, local)

    def _remove_socket(self, socket: "WebSocket", local: LocalTopic) -> None:
        member = local.discard(socket)
        if member is not None:
            self._broker.leave(local.name, member)
        self._broker.changed(local.name)
        self._drop_if_unused(local)

    # -- listeners ---------------------------------------------------------------------------------

    def listen(
        self, owner: Owner | None, topic: str, after: str | None, last: int
    ) -> TopicListener:
        """Return a listener, which does nothing before it is entered."""
        return TopicListener(self, owner, topic, after, last)

    async def add_listener(
        self, owner: Owner | None, listener: TopicListener, after: str | None, last: int
    ) -> "Missed | None":
        """Give a listener what is published from now on; returns what it has missed.

        A listener whose owner is over ends at once.
        """
        self._check_thread()
        if self._has_ended if owner is None else owner.is_over:
            listener.end()
            await asyncio.sleep(0)  # an app that listens again and again lets others run
            return None
        local = self._find_or_add(listener.topic)
        local.listeners[listener] = None
        self._broker.changed(local.name)
        self._listeners.setdefault(owner, {})[listener] = local
        try:
            await self._attach(local)
            if after is None and not last:
                return None
            missed = await self._broker.missed(listener.topic, after, last)
        except BaseException:
            self.remove_listener(owner, listener)
            raise
        if after is not None:
            self._count_recovery(missed)
        return missed

    def remove_listener(self, owner: Owner | None, listener: TopicListener) -> None:
        """Give a listener nothing more."""
        listeners = self._listeners.get(owner)
        if listeners is None or (local := listeners.pop(listener, None)) is None:
            return
        if not listeners:
            del self._listeners[owner]
        del local.listeners[listener]
        self._broker.changed(local.name)
        self._drop_if_unused(local)

    def leave(self, owner: Owner | None) -> None:
        """End the listeners of a call of the app whose client has left, or which has returned."""
        if not self._listeners:
            return
        for listener in list(self._listeners.get(owner, ())):
            self.remove_listener(owner, listener)
            listener.end()

    def leave_socket(self, socket: "WebSocket") -> None:
        """End all subscriptions and listeners of a WebSocket that can send nothing more."""
        for local in self._sockets.pop(socket, {}).values():
            self._remove_socket(socket, local)
        self.leave(socket)

    # -- topics ------------------------------------------------------------------------------------

    def _find_or_add(self, name: str) -> LocalTopic:
        local = self._topics.get(name)
        if local is None:
            if len(self._topics) >= self._max_topics:
                known = quantities.count(len(self._topics), "topic")
                raise LimitReached(f"a worker has {known} (--topics-max)")
            local = self._topics[name] = LocalTopic(name)
        return local

    async def _attach(self, local: LocalTopic) -> None:
        """Wait until the broker delivers a topic. All who wait share one call of the broker.

        Raises:
            Unavailable: The broker did not answer in time. The next one tries again.
        """
        if local.is_attached:
            return
        if local.attaching is None:
            # Not in the context of the caller: the broker would go on with another app's variables.
            work = self._broker.attach(local.name)
            local.attaching = self._variables().run(asyncio.ensure_future, work)
        attaching = local.attaching
        if not attaching.done():
            await asyncio.wait([attaching])
        if local.attaching is attaching:
            local.attaching = None
        if not attaching.cancelled():
            attaching.result()
            local.is_attached = True
        elif self._topics.get(local.name) is local:  # else the caller was unsubscribed meanwhile
            raise Unavailable(f"the subscription to {local.name!r} was cancelled")

    def _drop_if_unused(self, local: LocalTopic) -> None:
        if not len(local) and self._topics.get(local.name) is local:
            del self._topics[local.name]
            if local.attaching is not None:
                local.attaching.cancel()
            self._broker.detach(local.name)

    # -- publications ------------------------------------------------------------------------------

    async def publish(
        self,
        topic: str,
        data: str | bytes,
        id: str | None,
        excluded: object,
        *,
        is_kept: bool,
    ) -> str | None:
        """Publish a message to all subscribers; returns the id under which history keeps it."""
        self._check_thread()
        rules = self.rules_of(topic)
        keeps = is_kept and rules.history > 0
        publication = Publication(topic, data, id if keeps else None)
        delivered = self.counts.delivered
        await self._broker.publish(publication, rules, excluded, is_kept=is_kept)
        self.counts.published += 1
        if self.counts.delivered - delivered > MAX_DELIVERIES:
            await asyncio.sleep(0)
        return publication.id if keeps else None

    def deliver(self, publication: Publication, excluded: object | None) -> None:
        """Give a publication to the subscribers and listeners of its topic."""
        local = self._topics.get(publication.topic)
        if local is None:
            return
        rules = self.rules_of(publication.topic)

        def deliver_slowly(socket: "WebSocket") -> None:
            self._deliver_to(socket, publication, rules)

        count = deliver(local.targets, publication.encoded, excluded, deliver_slowly)
        self.counts.delivered += count
        if self.meter is not None:
            self.meter.count_delivery(publication.topic, publication.data, count)
        for recovery in list(local.recoveries.values()):
            if recovery.socket is not excluded:
                self._add_to(recovery, publication, rules)
        for listener in list(local.listeners):
            listener.put(publication, rules)

    def _add_to(self, recovery: Recovery, publication: Publication, rules: Rules) -> None:
        """Deliver to a socket after what it has missed."""
        try:
            dropped = recovery.put(publication, rules)
        except OutletFull:
            self.counts.closed_slow += 1
            recovery.socket.give_up_slow()
        else:
            recovery.socket.dropped_messages += dropped
            self._count_dropped(dropped)

    def _count_dropped(self, dropped: int) -> None:
        if dropped:
            self.counts.dropped[SLOW_SUBSCRIBER] += dropped

    def _deliver_to(self, socket: "WebSocket", publication: Publication, rules: Rules) -> None:
        """Deliver to a socket that is slow, or whose frames are its own.

        A socket that would miss a message of a history is aborted, so that it recovers.
        """
        if not socket.session.can_send:
            return  # it has left, while others got the message
        try:
            dropped, is_closed = socket.publish(publication, rules.slow)
        except Exception:  # noqa: BLE001  # a publish never fails because of a subscriber
            throttled.exception("A publication could not be delivered to a WebSocket")
            self.counts.dropped[DELIVERY_ERROR] += 1
            if rules.slow is Slow.CLOSE:
                socket.abort(Cause.MESSAGES_LOST)
            return
        self._count_dropped(dropped)
        self.counts.closed_slow += is_closed
        self.counts.delivered += not (dropped or is_closed)

    def lost(self, topic: str) -> None:
        """Close the WebSockets of a topic, and end its listeners: they may lack messages."""
        local = self._topics.get(topic)
        if local is None or not self.rules_of(topic).history:
            return
        sockets = [*local.subscribers, *local.recoveries]
        for listener in list(local.listeners):
            listener.overrun()
        for socket in sockets:  # they get nothing more, so that they recover from where they are
            self._end_subscription(socket, local)
        if sockets:
            text = "Messages of topics were lost: closing %s with 1012"
            throttled.warning(text, quantities.count(len(sockets), "WebSocket"))
            self._closing.add(sockets)

    # -- numbers and members -----------------------------------------------------------------------

    def subscribers(self, topic: str) -> int:
        """Return how many subscribers and listeners a topic has on this worker."""
        local = self._topics.get(topic)
        return len(local) if local is not None else 0

    async def count(self, topic: str) -> int:
        """Return how many subscribers and listeners a topic has on all workers."""
        self._check_thread()
        return await self._broker.count(topic)

    async def members(self, topic: str) -> dict[str, int]:
        """Return the members of a topic on all workers."""
        self._check_thread()
        return await self._broker.members(topic)

    def change(self, change: Change) -> None:
        """Have the app announce that a member has joined or left."""
        announce = self.rules_of(change.topic).announce
        if announce is not None:
            self._announcer.announce(announce, change)

    async def _publish_announcement(self, topic: str, data: str | bytes, id: str | None) -> None:
        await self.publish(topic, data, id, None, is_kept=id is not None)


def _parse(text: str) -> tuple[str, Rules]:
    try:
        return parse_rule(text)
    except ValueError as error:
        raise ConfigError(f"--topics-rule {text!r}: {error}", setting="topics_rule") from None
