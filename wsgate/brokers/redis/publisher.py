"""Publishes to topics over Redis from any program, without a server."""

import asyncio
import secrets
from typing import Any

from wsgate.brokers.redis.format import EPOCH_SIZE, encode_plain
from wsgate.brokers.redis.histories import Histories
from wsgate.brokers.redis.keys import channel_of, partition_of
from wsgate.brokers.redis.link import Timing
from wsgate.brokers.redis.rules import KEY, StoredRules, decode_rules
from wsgate.brokers.redis.servers import Handlers, make_servers
from wsgate.brokers.redis.url import RedisUrl
from wsgate.topics.errors import Unavailable
from wsgate.topics.publication import Publication

MAX_RULES_AGE = 5.0  # seconds for which rules are used before they are read again
_TURNS = 5  # loop iterations in which the end of a connection is noticed


class RedisPublisher:
    """Publishes messages; nothing is received.

    Args:
        url: Where Redis is.
        timeout: Seconds that a publish may take.
    """

    def __init__(self, url: RedisUrl, timeout: float) -> None:
        self._origin = secrets.token_bytes(EPOCH_SIZE)
        self._number = 0
        handlers = Handlers(
            on_message=_ignore,
            on_subscribed=_ignore,
            on_up=_ignore,
            on_away=_ignore,
            on_moved=_ignore,
        )
        # Without Pings: a loop that runs only while something is published would miss the answers.
        timing = Timing(ping_interval=0.0)
        self._servers = make_servers(url, handlers, timing, subscribes=False)
        self._histories = Histories(self._servers, timeout, 0, self._origin)
        self._rules: StoredRules | None = None
        self._rules_read_at = 0.0

    async def start(self) -> None:
        """Connect in the background."""
        self._servers.start()

    async def stop(self) -> None:
        """Close the connections."""
        await self._servers.stop()

    async def publish(
        self, topic: str, data: str | bytes, id: str | None, *, is_kept: bool
    ) -> str | None:
        """Publish a message, and wait until Redis has it; returns the id under which it is kept.

        Raises:
            LimitReached: It is too large for the history.
            Unavailable: Redis did not answer in time.
        """
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        rules = (await self._current_rules(topic)).find(topic)
        self._number += 1  # no other task runs between here and its use
        publication = Publication(topic, data, id if is_kept or not rules.history else None)
        if rules.history:
            await self._histories.publish(publication, rules, self._number, is_kept=is_kept)
            return publication.id if is_kept else None
        await self._publish_plain(publication)
        return None

    async def _publish_plain(self, publication: Publication) -> None:
        topic = publication.topic
        payload = encode_plain(publication, self._origin, self._number)
        partition = partition_of(topic)
        await self._histories.within_timeout(
            topic,
            lambda: self._servers.find(partition).commands.call(
                (self._servers.publish_command, channel_of(topic), payload), partition
            ),
            may_repeat=False,
        )

    async def _current_rules(self, topic: str) -> StoredRules:
        now = asyncio.get_running_loop().time()
        if self._rules is None or now > self._rules_read_at + MAX_RULES_AGE:
            text = await self._histories.within_timeout(
                topic,
                lambda: self._servers.find(0).commands.call(("HGET", KEY, "rules")),
                may_repeat=True,
            )
            try:
                self._rules = decode_rules(text)
            except ValueError as error:
                raise Unavailable(str(error)) from None
            self._rules_read_at = now
            self._histories.max_bytes = self._rules.max_bytes
        return self._rules


def _ignore(*_: Any) -> None:
    """Do nothing: there are no subscriptions."""
