"""The connection for subscriptions: gets what is published on the channels of topics."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from wsgate.brokers.redis.connection import (
    ConnectionLost,
    Misplaced,
    RedisConnection,
    ReplyError,
)
from wsgate.brokers.redis.health import Health
from wsgate.brokers.redis.link import Connect, Link, Timing
from wsgate.brokers.redis.resp import Command

MAX_CHANNELS = 500  # of one command, when all are subscribed again
MAX_BATCH = 100  # commands of one write
MAX_TURN = 0.003  # seconds for which messages are delivered before everything else runs
_MESSAGES = (b"message", b"smessage")


class SubscriptionLink(Link):
    """Subscribes channels of one server.

    Args:
        name: Of the server, for the log.
        connect: Opens a connection.
        timing: Its intervals and deadlines.
        health: Gets to know when it is up and down.
        on_message: Called with the channel and the payload of each message.
        on_subscribed: Called with a channel when the server has subscribed it: what is published
            after that arrives, as long as the connection is there.
        is_sharded: Use the subscriptions of a cluster, which are bound to the channel's slot.

    Attributes:
        on_moved: Called with a channel whose slot has moved to another server of the cluster.
    """

    def __init__(
        self,
        name: str,
        connect: Connect,
        timing: Timing,
        health: Health,
        *,
        on_message: Callable[[bytes, bytes], object],
        on_subscribed: Callable[[str], object],
        is_sharded: bool,
    ) -> None:
        super().__init__(name, connect, timing, health)
        self.on_moved: Callable[[str], object] | None = None
        self._on_message = on_message
        self._on_subscribed = on_subscribed
        self._is_sharded = is_sharded
        prefix = "S" if is_sharded else ""
        self._subscribe, self._unsubscribe = f"{prefix}SUBSCRIBE", f"{prefix}UNSUBSCRIBE"
        self._channels: dict[str, None] = {}
        self._waiting: deque[Command] = deque()
        # Replies come in the order of the commands. A Ping has a future, a command channels.
        self._expected: deque[asyncio.Future[None] | tuple[str, str]] = deque()
        self._unanswered: Counter[str] = Counter()  # commands of each channel
        self._changed = asyncio.Event()

    def subscribe(self, channel: str) -> None:
        """Subscribe a channel, now or when there is a connection."""
        self._channels[channel] = None
        self._send(self._subscribe, channel)

    def unsubscribe(self, channel: str) -> None:
        """End the subscription of a channel."""
        if channel in self._channels:
            del self._channels[channel]
            self._send(self._unsubscribe, channel)

    def forget(self, channel: str) -> None:
        """Forget a channel whose slot has moved: the server has ended its subscription, or will."""
        self._channels.pop(channel, None)

    def _send(self, name: str, channel: str) -> None:
        if self.is_up:  # else all channels are subscribed when it is
            self._put((name, channel), (name.lower(), channel))

    def _put(self, command: Command, *expected: "asyncio.Future[None] | tuple[str, str]") -> None:
        self._waiting.append(command)
        self._expected.extend(expected)
        self._unanswered.update(one[1] for one in expected if isinstance(one, tuple))
        self._changed.set()

    def tear_down(self) -> None:
        """Forget what was to be sent and answered."""
        self._waiting.clear()
        self._unanswered.clear()
        expected, self._expected = self._expected, deque()
        for one in expected:
            if isinstance(one, asyncio.Future):
                one.cancel()

    def parts(self, connection: RedisConnection) -> list[Coroutine[Any, Any, None]]:
        """Return what subscribes all channels and then writes, and what reads."""
        channels = list(self._channels)
        self._subscribe_all(channels[:MAX_CHANNELS])  # before those that are new
        return [self._write(connection, channels[MAX_CHANNELS:]), self._read(connection)]

    async def ping(self) -> None:
        """Send a Ping after the commands that wait, and wait for the answer."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(("PING",), answer)
        await answer

    async def _write(self, connection: RedisConnection, channels: Sequence[str]) -> None:
        for start in range(0, len(channels), MAX_CHANNELS):
            self._subscribe_all(channels[start : start + MAX_CHANNELS])
            await self._flush(connection)
            await asyncio.sleep(0)
        while True:
            self._changed.clear()
            await self._flush(connection)
            await self._changed.wait()

    def _subscribe_all(self, channels: Sequence[str]) -> None:
        """Subscribe channels again, but for those that were left meanwhile."""
        name = self._subscribe
        left = [channel for channel in channels if channel in self._channels]
        size = 1 if self._is_sharded else MAX_CHANNELS  # of a cluster each has a slot of its own
        for start in range(0, len(left), size):
            group = left[start : start + size]
            self._put((name, *group), *((name.lower(), channel) for channel in group))

    async def _flush(self, connection: RedisConnection) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
            await connection.send(batch)

    async def _read(self, connection: RedisConnection) -> None:
        time = asyncio.get_running_loop().time
        turn_ends = time() + MAX_TURN
        while True:
            try:
                reply = await connection.read()
            except ReplyError as error:  # such as a channel that the user may not subscribe
                raise ConnectionLost(f"a subscription was refused: {error}") from None
            except Misplaced as error:
                self._take_misplaced(error)
                continue
            self.read_count += 1
            if isinstance(reply, list) and reply[0] in _MESSAGES:
                self._on_message(reply[1], reply[2])
            else:
                self._confirm(reply)
            if time() > turn_ends:
                await asyncio.sleep(0)
                turn_ends = time() + MAX_TURN

    def _confirm(self, reply: Any) -> None:
        """Match a reply with the command that it answers."""
        expected = self._expected.popleft() if self._expected else None
        if isinstance(expected, asyncio.Future) and _is_pong(reply):
            if not expected.done():
                expected.set_result(None)
            return
        kind, channel = _kind_and_channel(reply)
        if expected == (kind, channel):
            self._count_answer(kind, channel)
        elif kind == "sunsubscribe" and self.on_moved is not None:
            # Nobody has asked for it: the slot has moved.
            if expected is not None:
                self._expected.appendleft(expected)
            self.on_moved(channel)
        else:
            raise ConnectionLost("the server has ended a subscription")

    def _take_misplaced(self, error: Misplaced) -> None:
        expected = self._expected.popleft() if self._expected else None
        if self.on_moved is None or not isinstance(expected, tuple):
            raise ConnectionLost(str(error))
        self._count_answer("", expected[1])
        self.on_moved(expected[1])

    def _count_answer(self, kind: str, channel: str) -> None:
        self._unanswered[channel] -= 1
        if self._unanswered[channel]:
            return  # it is unsubscribed again, and may be subscribed after that
        del self._unanswered[channel]
        if kind == self._subscribe.lower():
            self._on_subscribed(channel)


def _is_pong(reply: Any) -> bool:
    return not isinstance(reply, list) or reply[0] == b"pong"


def _kind_and_channel(reply: Any) -> tuple[str, str]:
    return (reply[0].decode(), reply[1].decode()) if isinstance(reply, list) else ("", "")
