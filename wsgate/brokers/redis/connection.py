"""One connection to a Redis server, over redis-py. No other file imports redis-py."""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import redis.asyncio as redis_asyncio
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from wsgate.brokers.redis.url import Address, RedisUrl

CONNECT_TIMEOUT = 5.0  # seconds for a connection to a server, with TLS and the password

Command = Sequence[str | bytes | int | float]

# The server is not, or no longer, the one to ask: connect again, and load the scripts again.
_ENDS_CONNECTION = (NoScriptError, ReadOnlyError)

# A server of a cluster does not have the partition, or not all of it while it moves.
_REFUSES_PARTITION = (AskError, ClusterDownError, MovedError, TryAgainError)


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
    """An open connection."""

    def __init__(self, connection: redis_asyncio.Connection) -> None:
        self._connection = connection

    async def send(self, commands: Iterable[Command]) -> None:
        """Write commands, and wait until the buffer has room.

        Raises:
            ConnectionLost: The connection has ended.
        """
        try:
            packed = self._connection.pack_commands(commands)
            await self._connection.send_packed_command(packed, check_health=False)
        except (RedisError, OSError) as error:
            raise ConnectionLost(_reason(error)) from None

    async def read(self) -> Any:
        """Return the next reply.

        Raises:
            ReplyError: The reply is an error.
            Misplaced: The command is of a partition that the server does not have.
            ConnectionLost: The connection has ended, or the server is not the one to ask.
        """
        try:
            return await self._connection.read_response(disable_decoding=True)
        except _REFUSES_PARTITION as error:
            has_moved = isinstance(error, MovedError)
            raise Misplaced(_refusal(error), has_moved=has_moved) from None
        except _ENDS_CONNECTION as error:
            raise ConnectionLost(_refusal(error)) from None
        except ResponseError as error:
            raise ReplyError(_reason(error)) from None
        except (RedisError, OSError) as error:
            raise ConnectionLost(_reason(error)) from None

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
        with contextlib.suppress(RedisError, OSError):
            await self._connection.disconnect(nowait=True)


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
        await RedisConnection(connection).close()
        if isinstance(error, (RedisError, OSError)):  # TimeoutError is an OSError
            raise ConnectionLost(_reason(error)) from None
        raise
    return RedisConnection(connection)


def _refusal(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__
