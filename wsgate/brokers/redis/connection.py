"""One connection to a Redis server, opened by redis-py. No other file uses redis-py."""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

import redis.asyncio as redis_asyncio
from redis.exceptions import RedisError

from wsgate.brokers.redis.resp import Command, ErrorReply, ReplyParser, pack
from wsgate.brokers.redis.url import Address, RedisUrl

CONNECT_TIMEOUT = 5.0  # seconds for a connection to a server, with TLS and the password
READ_SIZE = 2**18  # bytes that are taken at once

# The server is not, or no longer, the one to ask: connect again, and load the scripts again.
_ENDS_CONNECTION = {"LOADING", "NOAUTH", "NOSCRIPT", "READONLY"}

# A server of a cluster does not have the partition, or not all of it while it moves.
_REFUSES_PARTITION = {"ASK", "CLUSTERDOWN", "MASTERDOWN", "MOVED", "TRYAGAIN"}


class ConnectionLost(Exception):
    """There is no connection, or it has ended. The text says why, in one line."""


class ReplyError(Exception):
    """The server has refused a command; the connection can be used further."""


class Misplaced(Exception):
    """A server of a cluster has not carried out a command, because of its partition.

    has_moved: another server has the partition. Else it is moving, or nobody has it.
    """

    def __init__(self, text: str, *, has_moved: bool) -> None:
        super().__init__(text)
        self.has_moved = has_moved


class RedisConnection:
    """An open connection.

    redis-py has opened it, with TLS and the password. What is sent and read after that does not
    pass through redis-py, whose streams it shares: see resp.py.
    """

    def __init__(self, connection: redis_asyncio.Connection) -> None:
        # No public attribute leads to the streams. All parsers of redis-py read from this one.
        reader, writer = connection._reader, connection._writer  # noqa: SLF001
        assert reader is not None
        assert writer is not None
        self._connection = connection
        self._reader, self._writer = reader, writer
        self._parser = ReplyParser()

    @property
    def has_ended(self) -> bool:
        """Whether the other end has closed it; `read` says so a moment later."""
        return self._reader.at_eof() or self._writer.is_closing()

    async def send(self, commands: Iterable[Command]) -> None:
        """Write commands, and wait until the buffer has room.

        Raises:
            ConnectionLost: The connection has ended.
        """
        try:
            self._writer.write(pack(commands))
            await self._writer.drain()
        except OSError as error:
            raise ConnectionLost(_reason(error)) from None

    def send_now(self, command: Command) -> None:
        """Write a command without waiting. If the connection has ended, `read` says so."""
        with contextlib.suppress(OSError, RuntimeError):  # uvloop: the handle is closed
            self._writer.write(pack((command,)))

    async def read(self) -> Any:
        """Return the next reply.

        Raises:
            ReplyError: The reply is an error.
            Misplaced: The command is of a partition that the server does not have.
            ConnectionLost: The connection has ended, or the server is not the one to ask.
        """
        while not self._parser.replies:
            await self._read_more()
        reply = self._parser.replies.popleft()
        if isinstance(reply, ErrorReply):
            raise _refusal(reply)
        return reply

    async def _read_more(self) -> None:
        try:
            data = await self._reader.read(READ_SIZE)
            self._parser.feed(data)
        except (OSError, ValueError) as error:
            raise ConnectionLost(_reason(error)) from None
        if not data:
            raise ConnectionLost("the server has closed the connection")

    async def call(self, *command: str | bytes | float) -> Any:
        """Send one command and return its reply. No other reply may be due.

        Raises:
            ConnectionLost: There is no answer, or it is an error.
        """
        await self.send([command])
        try:
            return await self.read()
        except (ReplyError, Misplaced) as error:
            raise ConnectionLost(str(error)) from None

    async def close(self) -> None:
        """Close it at once."""
        await _close(self._connection)


async def connect(url: RedisUrl, address: Address, *, is_sentinel: bool = False) -> RedisConnection:
    """Connect to one server.

    Raises:
        ConnectionLost: It cannot be reached, or it refuses.
    """
    password = url.sentinel_password if is_sentinel else url.password
    options: dict[str, Any] = {
        "host": address[0],
        "port": address[1],
        "db": 0 if is_sentinel else url.database,
        "username": None if is_sentinel else url.username,
        "password": password,
        "protocol": 2,  # with 3, messages would come between the replies
        "socket_timeout": None,  # the links have deadlines of their own
        "socket_connect_timeout": CONNECT_TIMEOUT,
    }
    connection: redis_asyncio.Connection
    if url.is_secure:
        options |= {"ssl_ca_certs": url.ca, "ssl_check_hostname": url.verifies}
        options["ssl_cert_reqs"] = "required" if url.verifies else "none"
        connection = redis_asyncio.SSLConnection(**options)
    else:
        connection = redis_asyncio.Connection(**options)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py has no type
    except BaseException as error:
        await _close(connection)
        if isinstance(error, (RedisError, OSError)):  # TimeoutError is an OSError
            raise ConnectionLost(_reason(error)) from None
        raise
    return RedisConnection(connection)


async def _close(connection: redis_asyncio.Connection) -> None:
    with contextlib.suppress(RedisError, OSError):
        await connection.disconnect(nowait=True)


def _refusal(reply: ErrorReply) -> ConnectionLost | Misplaced | ReplyError:
    if reply.kind in _REFUSES_PARTITION:
        return Misplaced(reply.text, has_moved=reply.kind == "MOVED")
    return (ConnectionLost if reply.kind in _ENDS_CONNECTION else ReplyError)(reply.text)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__
