"""The histories of topics in Redis: calls of their scripts, with deadlines."""

import asyncio
import secrets
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from wsgate.brokers.redis import scripts
from wsgate.brokers.redis.commands import Argument, OfServer, TooManyCalls
from wsgate.brokers.redis.connection import ConnectionLost, ReplyError
from wsgate.brokers.redis.follower import Reached
from wsgate.brokers.redis.format import EPOCH_SIZE, decode, encode
from wsgate.brokers.redis.keys import channel_of, history_keys, partition_of
from wsgate.brokers.redis.scripts import Script
from wsgate.brokers.redis.servers import Servers
from wsgate.topics.errors import LimitReached, Unavailable
from wsgate.topics.history import Missed
from wsgate.topics.publication import Publication
from wsgate.topics.rules import Rules

_T = TypeVar("_T")


class Histories:
    """The histories of all topics.

    Args:
        servers: Where they are.
        timeout: Seconds that a call may take.
        max_bytes: Of the kept messages of one topic.
        origin: Who publishes.
    """

    def __init__(self, servers: Servers, timeout: float, max_bytes: int, origin: bytes) -> None:
        self.timeout = timeout
        self.max_bytes = max_bytes
        self._servers = servers
        self.origin = origin

    async def publish(
        self, publication: Publication, rules: Rules, number: int, *, is_kept: bool
    ) -> tuple[bool, bytes]:
        """Publish a message, and set its id and place.

        Returns:
            Whether it is new, and the epoch of its place.

        Raises:
            LimitReached: It is too large for the history.
            Unavailable: It has no place in the order of its topic, or that is not known.
        """
        topic = publication.topic
        if is_kept:
            self._check_size(publication)
            publication.id = publication.id or f"{self.origin.hex()}-{number}"
        head, tail = encode(publication, self.origin, number)
        command = self._servers.publish_command
        arguments = (command, head, tail, publication.id or "", publication.encoded.size)
        channel = channel_of(topic)
        is_new, epoch, place = await self.within_timeout(
            topic,
            lambda: self._call(scripts.PUBLISH, topic, rules, *arguments, keys=(channel,)),
            # A message with an id is published once, however often it is sent.
            may_repeat=is_kept,
        )
        publication.place = place
        return bool(is_new), epoch

    def _check_size(self, publication: Publication) -> None:
        size = publication.encoded.size
        if size > self.max_bytes:
            raise LimitReached(
                f"a message of {size:,} bytes is above --topics-history-max-bytes "
                f"({self.max_bytes:,})"
            )

    async def missed(self, topic: str, rules: Rules, after: str | None, last: int) -> Missed:
        """Return what a subscriber has missed.

        Raises:
            Unavailable: Redis did not answer in time.
        """
        _, place, is_known, payloads = await self.within_timeout(
            topic,
            lambda: self._call(scripts.MISSED, topic, rules, after or "", last),
            may_repeat=True,
        )
        publications = [_publication(topic, payload) for payload in payloads]
        return Missed(publications, is_complete=after is None or bool(is_known), place=place)

    async def since(self, topic: str, rules: Rules, place: int | None) -> Reached:
        """Return how far a history is, and what it has after a place; None for nothing of it.

        It also has what is known of the topic outlive another two hours.

        Raises:
            ConnectionLost, TimeoutError: There is no answer.
            ReplyError, TooManyCalls, ValueError: It has failed.
        """
        async with asyncio.timeout(self.timeout):
            after = "" if place is None else place
            reply = await self._call(scripts.SINCE, topic, rules, after)
        epoch, place, chain, dropped, payloads = reply
        return Reached(
            epoch=epoch,
            place=place,
            chain=dict(struct.iter_unpack(">8sQ", chain)),
            dropped=dropped,
            frames=[decode(payload) for payload in payloads],
        )

    async def _call(
        self,
        script: Script,
        topic: str,
        rules: Rules,
        *arguments: Argument,
        keys: Sequence[str] = (),
    ) -> Any:
        """Call a script once.

        Raises:
            ConnectionLost: There is no answer.
            ReplyError: It has failed.
            TooManyCalls: Too many calls wait.
        """
        partition = partition_of(topic)
        return await self._servers.find(partition).commands.call_script(
            script,
            (*history_keys(topic), *keys),
            max(rules.history, 1),
            max(int(rules.history_seconds * 1000), 1),
            self.max_bytes,
            secrets.token_bytes(EPOCH_SIZE),
            OfServer.RUN,
            OfServer.DURABLE,
            *arguments,
            partition=partition,
        )

    async def within_timeout(
        self, topic: str, call: Callable[[], Awaitable[_T]], *, may_repeat: bool
    ) -> _T:
        """Return what a call returns.

        Args:
            topic: The topic, for the error.
            call: Called until there is an answer.
            may_repeat: Call it again when the connection was lost before the answer.

        Raises:
            Unavailable: It has failed, or did not answer in time.
        """
        try:
            async with asyncio.timeout(self.timeout):
                while True:
                    try:
                        return await call()
                    except ConnectionLost as error:
                        if not may_repeat:
                            raise Unavailable(f"topic {topic!r}: {error}") from None
        except TimeoutError:
            raise self.no_answer(topic) from None
        except (ReplyError, TooManyCalls) as error:
            raise Unavailable(f"topic {topic!r}: {error}") from None

    def no_answer(self, topic: str) -> Unavailable:
        """Return the exception for a call that took too long."""
        reason = self._servers.find(partition_of(topic)).commands.reason
        return Unavailable(
            f"topic {topic!r}: no answer from Redis {self._servers.url} in {self.timeout:g} s"
            + (f": {reason}" if reason else "")
        )


def _publication(topic: str, payload: bytes) -> Publication:
    frame = decode(payload)
    return Publication(topic, frame.data, frame.id, frame.place)
