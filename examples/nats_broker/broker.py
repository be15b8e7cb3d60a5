"""A broker over NATS, for plain topics: an example of a broker of your own.

    NATS_URL=nats://127.0.0.1:4222 wsgate rooms:app --topics examples.nats_broker.broker:make

docs/topics-broker.md explains it.
"""

import asyncio
import base64
import contextlib
import functools
import logging
import os
import secrets
import time
from collections.abc import Coroutine
from typing import Protocol

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from examples.nats_broker.workers import INTERVAL, Workers
from wsgate import ConfigError
from wsgate.brokers.broker import BrokerState, Receiver
from wsgate.topics import LimitReached, TopicsError, Unavailable
from wsgate.topics.history import Missed
from wsgate.topics.publication import Publication
from wsgate.topics.rules import Rules

WORKERS = "wsgate.workers"  # the subject of what workers say about themselves
RETRY = 0.2  # seconds between two attempts to connect
TICK = 0.1  # seconds between two checks for members who have left
logger = logging.getLogger("wsgate.error")  # the log of the server


class Settings(Protocol):
    """The settings of wsgate that are meant for brokers."""

    topics_publish_timeout: float


def make(settings: Settings) -> "NatsBroker":
    """Return the broker of one worker."""
    url = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")
    return NatsBroker(url, settings.topics_publish_timeout)


def subject_of(topic: str) -> str:
    """Return the subject of a topic, whose name may have any characters."""
    return f"wsgate.topics.{base64.urlsafe_b64encode(topic.encode()).decode()}"


def encode(data: str | bytes) -> bytes:
    """Return the payload of a message: its kind, and what it says."""
    return b"t" + data.encode() if isinstance(data, str) else b"b" + data


def decode(payload: bytes) -> str | bytes:
    """Return the message of a payload."""
    return payload[1:].decode() if payload[:1] == b"t" else payload[1:]


class NatsBroker:
    """Carries publications between all workers that use the same NATS.

    Args:
        url: Where NATS is.
        timeout: Seconds to wait for it.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._receiver: Receiver
        self._client = Client()
        self._away_since: float | None = None
        self._is_reported = False  # the log says that NATS is away
        self._lag: float | None = None
        self._attached: dict[str, Subscription | None] = {}  # None: not subscribed yet
        self._has_changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    # -- start and stop ----------------------------------------------------------------------------

    async def start(self, receiver: Receiver) -> None:
        """Connect in the background: a NATS that is away is no error."""
        for pattern, rules in receiver.rule_entries():
            if rules.history:
                raise ConfigError(f"topics over NATS have no history, but {pattern!r} has")
        self._receiver = receiver
        # Not earlier: the process may have been forked after this object was made.
        self._workers = Workers(f"{time.time_ns():020}-{secrets.token_hex(4)}")
        self._away_since = asyncio.get_running_loop().time()
        self._run(self._connect())

    async def stop(self) -> None:
        """Publish that this worker ends, and close the connection."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
            await self._send(WORKERS, self._workers.encode_end())
        if self._client.is_connected or self._client.is_reconnecting:
            await self._client.close()

    def _run(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        while not self._client.is_connected:
            try:
                await self._client.connect(
                    self._url,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RETRY,  # type: ignore[arg-type]  # any number of seconds
                    ping_interval=2,
                    no_echo=True,  # what this worker publishes does not come back
                    error_cb=self._note_error,
                    disconnected_cb=self._note_loss,
                    reconnected_cb=self._note_connected,
                )
            except (nats.errors.Error, OSError, TimeoutError):
                await asyncio.sleep(RETRY)
        await self._client.subscribe(WORKERS, cb=self._take_numbers)
        await self._note_connected()
        await self._publish_numbers()

    async def _note_connected(self) -> None:
        """Go on after a connection: the client subscribes again what it had subscribed before."""
        self._away_since = None
        if self._is_reported:
            self._is_reported = False
            logger.info("NATS is back")
        for topic in list(self._attached):
            await self._subscribe(topic)
        self._workers.connect(asyncio.get_running_loop().time())
        self._has_changed.set()

    async def _note_loss(self) -> None:
        """Note the end of a connection: the client connects again."""
        if self._tasks:  # else this broker stops
            self._away_since = asyncio.get_running_loop().time()
            self._report_away("the connection has ended")

    async def _note_error(self, error: Exception) -> None:
        """Report why there is no connection: the client tries again."""
        if self._away_since is not None:
            self._report_away(str(error) or type(error).__name__)

    def _report_away(self, reason: str) -> None:
        if not self._is_reported:
            self._is_reported = True
            logger.warning("NATS is away: %s", reason)

    def state(self) -> BrokerState:
        """Return since when NATS is away, and how long it took to confirm a subscription."""
        return BrokerState(self._away_since, self._lag, self._client.stats["reconnects"])

    # -- subscriptions -----------------------------------------------------------------------------

    async def attach(self, topic: str) -> None:
        """Subscribe a topic. While NATS is away it is subscribed later."""
        if self._receiver.rules_of(topic).history:
            raise TopicsError(f"topics over NATS have no history, but {topic!r} has")
        self._attached.setdefault(topic, None)
        if not self._client.is_connected:
            return
        await self._subscribe(topic)
        time = asyncio.get_running_loop().time
        try:
            # The client's PING overtakes a SUB that it has not written yet; the second does not.
            for _ in range(2):
                sent_at = time()
                await self._client.flush(self._timeout)  # type: ignore[arg-type]  # the same
                self._lag = time() - sent_at
        except (nats.errors.Error, OSError) as error:
            if self._client.is_connected:
                raise Unavailable(f"no answer from NATS for {topic!r}") from error

    async def _subscribe(self, topic: str) -> None:
        if topic in self._attached and self._attached[topic] is None:
            receive = functools.partial(self._receive, topic)
            subscription = await self._client.subscribe(subject_of(topic), cb=receive)
            if topic in self._attached and self._attached[topic] is None:
                self._attached[topic] = subscription
            else:  # it was detached meanwhile
                await subscription.unsubscribe()

    def detach(self, topic: str) -> None:
        """End the subscription of a topic."""
        subscription = self._attached.pop(topic, None)
        if subscription is not None:
            self._run(self._unsubscribe(subscription))

    async def _unsubscribe(self, subscription: Subscription) -> None:
        with contextlib.suppress(nats.errors.Error):  # the connection may have ended
            await subscription.unsubscribe()

    async def _receive(self, topic: str, message: Msg) -> None:
        if topic in self._attached:
            self._receiver.deliver(Publication(topic, decode(message.data)), None)

    # -- publications ------------------------------------------------------------------------------

    async def publish(
        self, publication: Publication, rules: Rules, excluded: object | None, *, is_kept: bool
    ) -> None:
        """Deliver a message here, and send it to the other workers."""
        del is_kept
        if rules.history:
            raise TopicsError(f"topics over NATS have no history, but {publication.topic!r} has")
        payload = encode(publication.data)
        if len(payload) > self._client.max_payload:
            raise LimitReached(f"a message of {len(payload):,} bytes is above what NATS carries")
        self._receiver.deliver(publication, excluded)
        if not await self._send(subject_of(publication.topic), payload):
            self._receiver.count_dropped("broker away")

    async def _send(self, subject: str, payload: bytes) -> bool:
        """Publish a payload, or after the next connection; returns whether there is room."""
        if not (self._client.is_connected or self._client.is_reconnecting):
            return False
        try:
            await self._client.publish(subject, payload)
        except (nats.errors.Error, OSError):
            return False
        return True

    async def missed(self, topic: str, after: str | None, last: int) -> Missed:
        """Return nothing: there is no history."""
        del topic, last
        return Missed((), is_complete=after is None, place=0)

    # -- subscribers and members -------------------------------------------------------------------

    async def count(self, topic: str) -> int:
        """Return the number of subscribers on all workers."""
        self._check_connected(topic)
        return self._receiver.subscribers(topic) + self._workers.count(topic)

    async def members(self, topic: str) -> dict[str, int]:
        """Return the number of connections of each member on all workers."""
        self._check_connected(topic)
        return self._workers.members(topic)

    def _check_connected(self, topic: str) -> None:
        if not self._client.is_connected:
            raise Unavailable(f"NATS is away: what other servers have of {topic!r} is not known")

    def changed(self, topic: str) -> None:
        """Note the number of subscribers on this worker."""
        number = self._receiver.subscribers(topic)
        if number:
            self._workers.own.subscribers[topic] = number
        else:
            self._workers.own.subscribers.pop(topic, None)
        self._has_changed.set()

    def join(self, topic: str, member: str) -> None:
        """Count a connection of a member."""
        self._workers.own.members[topic, member] += 1
        self._has_changed.set()

    def leave(self, topic: str, member: str) -> None:
        """Count the end of a connection of a member."""
        members = self._workers.own.members
        members[topic, member] -= 1
        if not members[topic, member]:
            del members[topic, member]
        self._has_changed.set()

    async def _publish_numbers(self) -> None:
        """Publish at intervals what this worker has, and announce changes."""
        loop = asyncio.get_running_loop()
        published_at = checked_at = 0.0
        while True:
            now = loop.time()
            if now > checked_at + INTERVAL:  # this process did not run: what it has not heard waits
                self._workers.connect(now)
            checked_at = now
            if self._client.is_connected:
                if self._has_changed.is_set() or now >= published_at + INTERVAL:
                    self._has_changed.clear()
                    published_at = now
                    await self._send(WORKERS, self._workers.encode())
                self._workers.expire(now)
                for change in self._workers.take_changes(now):
                    self._receiver.change(change)
            await asyncio.sleep(TICK)

    async def _take_numbers(self, message: Msg) -> None:
        if self._workers.take(message.data, asyncio.get_running_loop().time()):
            self._has_changed.set()  # so that the new worker knows this one at once
