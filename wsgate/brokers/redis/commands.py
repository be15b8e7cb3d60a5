"""The connection for commands: those that wait are sent together, and answered in order."""

import asyncio
import bisect
import itertools
import operator
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from enum import Enum
from typing import Any

from wsgate.brokers.redis import presence_scripts, scripts
from wsgate.brokers.redis.connection import (
    ConnectionLost,
    Misplaced,
    RedisConnection,
    ReplyError,
)
from wsgate.brokers.redis.health import Health
from wsgate.brokers.redis.link import Connect, Link, Timing
from wsgate.brokers.redis.resp import Command
from wsgate.brokers.redis.scripts import Script

MIN_VERSION = 7
MAX_IN_FLIGHT = 1000  # commands that were sent and not answered
MAX_TURN = 50  # replies that are read before everything else runs
MAX_BATCH = 250  # commands of one write
MAX_CALLS = 20_000  # calls without an answer yet; each has a deadline
MAX_POSTS = 10_000  # plain publications that wait
MAX_POST_BYTES = 16 * 2**20


class OfServer(Enum):
    """An argument that depends on the server to which a script is sent.

    RUN: the id of its process. DURABLE: 1 if it writes each change to a file before it answers,
    else 0.
    """

    RUN = "run"
    DURABLE = "durable"


_numbers = itertools.count(1)
_number_of = operator.attrgetter("number")

Argument = str | bytes | int | float | OfServer


class TooManyCalls(Exception):
    """More calls wait than may wait."""


class Call:
    """A command whose caller waits for the reply. number: its place in the order of all."""

    __slots__ = ("command", "number", "partition", "reply")

    def __init__(
        self, command: Sequence[Argument], partition: int, reply: "asyncio.Future[Any]"
    ) -> None:
        self.command = command
        self.number = next(_numbers)
        self.partition = partition
        self.reply = reply

    @property
    def is_wanted(self) -> bool:
        """Whether the caller still waits."""
        return not self.reply.done()

    def succeed(self, reply: Any) -> None:
        """Give the caller the reply."""
        if not self.reply.done():
            self.reply.set_result(reply)

    def fail(self, error: Exception) -> None:
        """Raise an exception in the caller."""
        if not self.reply.done():
            self.reply.set_exception(error)


class Post:
    """A command for whose reply nobody waits.

    size: bytes. on_drop: called with the cause if it was not carried out, or may not have been.
    number: its place in the order of all.
    """

    __slots__ = ("command", "number", "on_drop", "partition", "size")

    is_wanted = True

    def __init__(
        self,
        command: Sequence[Argument],
        partition: int,
        size: int,
        on_drop: Callable[[str], object],
    ) -> None:
        self.command = command
        self.number = next(_numbers)
        self.partition = partition
        self.size = size
        self.on_drop = on_drop

    def succeed(self, reply: Any) -> None:
        """Do nothing."""

    def fail(self, error: Exception) -> None:
        """Count it."""
        self.on_drop("unconfirmed" if isinstance(error, ConnectionLost) else "refused")


class CommandLink(Link):
    """Sends commands to one server.

    Attributes:
        on_up: Called when a connection is there.
        on_misplaced: Called with a command that the server has refused, because it does not have
            the partition, and whether another server has it. By default the connection ends.
    """

    def __init__(self, name: str, connect: Connect, timing: Timing, health: Health) -> None:
        super().__init__(name, connect, timing, health)
        self._run_id = ""
        self._is_durable = False
        self.on_up: Callable[[], object] = lambda: None
        self.on_misplaced: Callable[[Call | Post, bool], object] | None = None
        self._calls: deque[Call] = deque()
        self._posts: deque[Post] = deque()
        self._post_bytes = 0
        self._in_flight: deque[Call | Post] = deque()
        self._connection: RedisConnection | None = None  # which the tasks below serve
        self._has_room = asyncio.Event()  # less than half of the posts that may wait do
        self._has_room.set()
        self._changed = asyncio.Event()  # there is more to send, or more room to send it

    # -- what others call --------------------------------------------------------------------------

    def call(self, command: Sequence[Argument], partition: int = 0) -> "asyncio.Future[Any]":
        """Send a command, or when there is a connection again; returns the future reply.

        The future raises ConnectionLost if the command may have been carried out or not, and
        ReplyError if it was refused. A caller who does not wait any more cancels it.

        Raises:
            TooManyCalls: Too many wait.
        """
        if len(self._calls) >= MAX_CALLS:
            self._calls = deque(call for call in self._calls if call.is_wanted)
            if len(self._calls) >= MAX_CALLS:
                raise TooManyCalls(f"{MAX_CALLS:,} calls wait for Redis")
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        call = Call(command, partition, reply)
        if not self._send_at_once(call):
            self._calls.append(call)
            self._changed.set()
        return reply

    def call_script(
        self, script: Script, keys: Sequence[str], *arguments: Argument, partition: int = 0
    ) -> "asyncio.Future[Any]":
        """Call a script, as `call` does with a command."""
        return self.call(("EVALSHA", script.sha, len(keys), *keys, *arguments), partition)

    def post(self, post: Post) -> None:
        """Send a command without waiting. If too many wait, the oldest ones are dropped."""
        if self._send_at_once(post):
            return
        self._posts.append(post)
        self._note_post(post)

    def _note_post(self, post: Post) -> None:
        self._post_bytes += post.size
        if self._is_half_full:
            self._has_room.clear()
        while len(self._posts) > MAX_POSTS or (
            self._post_bytes > MAX_POST_BYTES and len(self._posts) > 1
        ):
            self._pop_post().on_drop("broker away")
        self._changed.set()

    def _send_at_once(self, command: Call | Post) -> bool:
        """Send a command if nothing is under way; returns whether it was sent.

        It saves an iteration of the loop. While something is under way, what comes in an iteration
        is sent together.
        """
        if self._connection is None or self._connection.has_ended:
            return False
        if self._in_flight or self._calls or self._posts:
            return False
        self._in_flight.append(command)
        self._connection.send_now(self._filled(command.command))
        return True

    @property
    def _is_half_full(self) -> bool:
        return len(self._posts) > MAX_POSTS // 2 or self._post_bytes > MAX_POST_BYTES // 2

    async def wait_for_room(self) -> None:
        """Wait while much waits to be sent, and is being sent. The caller has a deadline."""
        if self.is_up:
            await self._has_room.wait()

    def take_waiting(self, partitions: Collection[int]) -> list[Call | Post]:
        """Remove and return what waits for some partitions."""
        calls = [call for call in self._calls if call.partition in partitions]
        posts = [post for post in self._posts if post.partition in partitions]
        self._calls = deque(call for call in self._calls if call.partition not in partitions)
        self._posts = deque(post for post in self._posts if post.partition not in partitions)
        self._post_bytes = sum(post.size for post in self._posts)
        return [*calls, *posts]

    def put_back(self, command: Call | Post) -> None:
        """Add what was removed, here or from another server's link, before all that is newer."""
        if isinstance(command, Post):
            bisect.insort(self._posts, command, key=_number_of)
            self._note_post(command)
        else:
            bisect.insort(self._calls, command, key=_number_of)
            self._changed.set()

    def is_answering(self, partition: int) -> bool:
        """Return whether commands of a partition were sent and not answered."""
        return any(command.partition == partition for command in self._in_flight)

    async def stop(self) -> None:
        """Close the connection; nothing that waits is sent any more."""
        await super().stop()
        for call in self._calls:
            call.fail(ConnectionLost("the server stops"))
        self._calls.clear()
        while self._posts:
            self._pop_post().on_drop("broker away")

    async def drain(self) -> None:
        """Wait until everything that waits was sent and answered. The caller has a deadline."""
        while self._calls or self._posts or self._in_flight:
            await asyncio.gather(self.call(("PING",)), return_exceptions=True)

    # -- while there is a connection ---------------------------------------------------------------

    async def set_up(self, connection: RedisConnection) -> None:
        """Learn which process the server is, and load the scripts."""
        server = _fields(await connection.call("INFO", "server"))
        _check_version(server.get("redis_version", ""))
        self._run_id = server.get("run_id", "")
        self._is_durable = await _is_durable(connection)
        for script in (*scripts.ALL, *presence_scripts.ALL):
            await connection.call("SCRIPT", "LOAD", script.text)

    def note_up(self) -> None:
        """Send first what the server may have forgotten."""
        self.on_up()

    def tear_down(self) -> None:
        """Tell the callers of what was sent that it may have been carried out or not."""
        self._connection = None
        in_flight, self._in_flight = self._in_flight, deque()
        for command in in_flight:
            command.fail(ConnectionLost("the connection to Redis has ended"))
        self._has_room.set()

    def parts(self, connection: RedisConnection) -> list[Coroutine[Any, Any, None]]:
        """Return what writes and what reads."""
        self._connection = connection
        return [self._write(connection), self._read(connection)]

    async def ping(self) -> None:
        """Send a Ping before the commands that wait, and wait for the answer."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        ping = Call(("PING",), 0, reply)
        ping.number = 0
        self._calls.appendleft(ping)
        self._changed.set()
        await reply

    async def _write(self, connection: RedisConnection) -> None:
        while True:
            self._changed.clear()
            while not connection.has_ended and (batch := self._next_batch()):
                self._in_flight.extend(batch)
                await connection.send([self._filled(command.command) for command in batch])
            await self._changed.wait()

    def _filled(self, command: Sequence[Argument]) -> Command:
        """Return a command with the arguments that depend on the server."""
        values: dict[OfServer, str | int] = {
            OfServer.RUN: self._run_id,
            OfServer.DURABLE: int(self._is_durable),
        }
        return [values[part] if isinstance(part, OfServer) else part for part in command]

    def _next_batch(self) -> list[Call | Post]:
        room = min(MAX_IN_FLIGHT - len(self._in_flight), MAX_BATCH)
        batch: list[Call | Post] = []
        while self._calls and len(batch) < room:
            call = self._calls.popleft()
            if call.is_wanted:
                batch.append(call)
        posts = min(room - len(batch), len(self._posts))
        batch.extend(self._pop_post() for _ in range(posts))
        return batch

    def _pop_post(self) -> Post:
        post = self._posts.popleft()
        self._post_bytes -= post.size
        if not self._is_half_full:
            self._has_room.set()
        return post

    async def _read(self, connection: RedisConnection) -> None:
        while True:
            for _ in range(MAX_TURN):
                await self._read_reply(connection)
            await asyncio.sleep(0)  # replies that have arrived are read without a pause

    async def _read_reply(self, connection: RedisConnection) -> None:
        self.read_count += 1
        try:
            reply = await connection.read()
        except ReplyError as error:
            self._in_flight.popleft().fail(error)
        except Misplaced as error:
            if self.on_misplaced is None:
                raise ConnectionLost(str(error)) from None
            self.on_misplaced(self._in_flight.popleft(), error.has_moved)
        else:
            self._in_flight.popleft().succeed(reply)
        if self._calls or self._posts:
            self._changed.set()


def _check_version(version: str) -> None:
    """Raise ConnectionLost for a server that cannot run the scripts. Each Valkey can."""
    major = version.partition(".")[0]
    if major.isdecimal() and int(major) < MIN_VERSION:
        raise ConnectionLost(
            f"topics need Redis {MIN_VERSION}.0 or newer, or Valkey; it is {version}"
        )


async def _is_durable(connection: RedisConnection) -> bool:
    """Return whether a server has written each change to its file before it answers.

    With `appendfsync everysec` it may answer up to two seconds earlier, while the disk is slow.
    """
    wanted = {"appendonly": b"yes", "appendfsync": b"always"}
    for name, value in wanted.items():
        await connection.send([("CONFIG", "GET", name)])
        try:
            reply = await connection.read()
        except ReplyError:  # the user may not ask
            return False
        if not isinstance(reply, list) or reply[1:] != [value]:
            return False
    return True


def _fields(reply: Any) -> dict[str, str]:
    """Return the fields of INFO."""
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value for name, colon, value in pairs if colon}
