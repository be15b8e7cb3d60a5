"""The Redis servers: one, the one that the Sentinels name, or those of a cluster."""

import asyncio
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from wsgate import loggers
from wsgate.brokers.redis.commands import Call, CommandLink, Post
from wsgate.brokers.redis.connection import (
    CONNECT_TIMEOUT,
    ConnectionLost,
    RedisConnection,
    connect,
)
from wsgate.brokers.redis.health import Health
from wsgate.brokers.redis.keys import PARTITIONS, partition_of, slot_of, topic_of
from wsgate.brokers.redis.link import TIMING, Timing
from wsgate.brokers.redis.subscriptions import SubscriptionLink
from wsgate.brokers.redis.url import Address, Kind, RedisUrl

MAX_MAP_AGE = 30.0  # seconds after which the cluster is asked again which server has what
ALL_PARTITIONS = frozenset(range(PARTITIONS))


@dataclass(frozen=True, slots=True)
class Server:
    """Both connections to one server."""

    commands: CommandLink
    subscriptions: SubscriptionLink

    def start(self, *, subscribes: bool) -> None:
        """Connect, and stay connected."""
        self.commands.start()
        if subscribes:
            self.subscriptions.start()

    async def stop(self) -> None:
        """Close the connections."""
        await self.commands.stop()
        await self.subscriptions.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """Who is called when something happens.

    on_message: with the channel and the payload of a message. on_subscribed: with a channel that
    is subscribed now. on_up: with a server that can take commands now. on_away: when a connection
    for subscriptions has ended. on_moved: with partitions and the servers that had and have them.
    """

    on_message: Callable[[bytes, bytes], object]
    on_subscribed: Callable[[str], object]
    on_up: Callable[[Server], object]
    on_away: Callable[[], object]
    on_moved: Callable[[set[int], Server, Server], object]


class Servers:
    """All servers of a URL: what each kind has in common.

    Args:
        url: Where they are.
        handlers: Who is called.
        timing: The intervals and deadlines of the connections.
        subscribes: Open connections for subscriptions as well.

    Attributes:
        health: How all links are.
    """

    is_sharded = False
    publish_command = "PUBLISH"

    def __init__(
        self,
        url: RedisUrl,
        handlers: Handlers,
        timing: Timing = TIMING,
        *,
        subscribes: bool = True,
    ) -> None:
        self.url = url
        self.health = Health(str(url))
        self._subscribes = subscribes
        self._handlers = handlers
        self._timing = timing

    def find(self, partition: int) -> Server:
        """Return the server of a partition."""
        raise NotImplementedError

    def partitions_of(self, server: Server) -> Iterable[int]:
        """Return the partitions that a server has."""
        raise NotImplementedError

    @property
    def all(self) -> list[Server]:
        """The servers."""
        raise NotImplementedError

    def start(self) -> None:
        """Connect, and stay connected."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Close all connections."""
        raise NotImplementedError

    def _make(self, name: str, connect_to: Callable[[], Any]) -> Server:
        subscriptions = SubscriptionLink(
            name,
            connect_to,
            self._timing,
            self.health,
            on_message=self._handlers.on_message,
            on_subscribed=self._handlers.on_subscribed,
            is_sharded=self.is_sharded,
        )
        commands = CommandLink(name, connect_to, self._timing, self.health)
        server = Server(commands, subscriptions)
        subscriptions.on_down = self._handlers.on_away
        commands.on_up = functools.partial(self._handlers.on_up, server)
        return server


class SingleServer(Servers):
    """One server, whose address is asked for at each connection if Sentinels know it."""

    def __init__(
        self,
        url: RedisUrl,
        handlers: Handlers,
        timing: Timing = TIMING,
        *,
        subscribes: bool = True,
    ) -> None:
        super().__init__(url, handlers, timing, subscribes=subscribes)
        self._server = self._make(str(url), functools.partial(_connect_single, url))

    def find(self, partition: int) -> Server:
        """Return the server."""
        del partition
        return self._server

    def partitions_of(self, server: Server) -> Iterable[int]:
        """Return all partitions."""
        del server
        return ALL_PARTITIONS

    @property
    def all(self) -> list[Server]:
        """The server."""
        return [self._server]

    def start(self) -> None:
        """Connect, and stay connected."""
        self._server.start(subscribes=self._subscribes)

    async def stop(self) -> None:
        """Close the connections."""
        await self._server.stop()


async def _connect_single(url: RedisUrl) -> RedisConnection:
    """Connect to the server, or to the one that a Sentinel names.

    Raises:
        ConnectionLost: That failed.
    """
    if url.kind is not Kind.SENTINEL:
        return await connect(url, url.addresses[0])
    connection = await connect(url, await _find_master(url))
    try:
        await _check_master(connection)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _check_master(connection: RedisConnection) -> None:
    """Raise ConnectionLost for a server that is no master: what the Sentinels say may be old."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            role = await connection.call("ROLE")
    except TimeoutError:
        raise ConnectionLost("no answer from the master") from None
    if role[0] != b"master":
        raise ConnectionLost("the server that the Sentinels name is no master yet")


async def _find_master(url: RedisUrl) -> Address:
    reason = "no Sentinel knows it"
    for address in url.addresses:
        try:
            found = await _ask(url, address, "SENTINEL", "get-master-addr-by-name", url.service)
        except ConnectionLost as error:
            reason = str(error)
            continue
        if found:
            return found[0].decode(), int(found[1])
    raise ConnectionLost(f"the master {url.service!r} was not found: {reason}")


async def _ask(url: RedisUrl, address: Address, *command: str) -> Any:
    """Return the reply to one command, over a connection of its own."""
    connection = await connect(url, address, is_sentinel=url.kind is Kind.SENTINEL)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await connection.call(*command)
    except TimeoutError:
        raise ConnectionLost(f"no answer from {address[0]}:{address[1]}") from None
    finally:
        await connection.close()


class ClusterServers(Servers):
    """The servers of a cluster.

    Which server has which partition is asked at the start, each time that a connection ends or that
    a server refuses a partition, and at intervals. What waits for a partition moves with it. What a
    server has refused waits until the cluster was asked again; nothing else of that server does.
    """

    is_sharded = True
    publish_command = "SPUBLISH"

    def __init__(
        self,
        url: RedisUrl,
        handlers: Handlers,
        timing: Timing = TIMING,
        *,
        subscribes: bool = True,
    ) -> None:
        super().__init__(url, handlers, timing, subscribes=subscribes)
        # Keeps what is to be sent to partitions whose server is not known; it never connects.
        self._unknown = self._make(str(url), _connect_nowhere)
        self._map = dict.fromkeys(range(PARTITIONS), self._unknown)
        self._by_address: dict[Address, Server] = {}
        self._task: asyncio.Task[None] | None = None
        self._stale = asyncio.Event()

    def find(self, partition: int) -> Server:
        """Return the server of a partition."""
        return self._map[partition]

    def partitions_of(self, server: Server) -> Iterable[int]:
        """Return the partitions that a server has."""
        return [partition for partition, one in self._map.items() if one is server]

    @property
    def all(self) -> list[Server]:
        """The servers."""
        return list(self._by_address.values())

    def start(self) -> None:
        """Find the servers, and connect."""
        self._stale.set()
        self.health.expect(self._unknown.commands)
        self._task = asyncio.get_running_loop().create_task(self._keep_map())

    async def stop(self) -> None:
        """Close all connections."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for server in (*self.all, self._unknown):
            await server.stop()

    async def _keep_map(self) -> None:
        while True:
            try:
                async with asyncio.timeout(MAX_MAP_AGE):
                    await self._stale.wait()
            except TimeoutError:
                pass
            self._stale.clear()
            try:
                await self._load_map()
            except ConnectionLost as error:
                self._unknown.subscriptions.is_away = True
                self._unknown.commands.reason = str(error)
                self.health.note_down(self._unknown.commands, str(error))
                self._handlers.on_away()
                self._stale.set()
            except Exception:  # noqa: BLE001  # without a map nothing would be sent
                loggers.error.exception("Redis cluster %s: its slots cannot be read", self.url)
                self._stale.set()
            await asyncio.sleep(self._timing.backoff_min)

    def _note_away(self) -> None:
        self._stale.set()
        self._handlers.on_away()

    async def _load_map(self) -> None:
        """Ask one server after the other which of them has which slot, until one answers."""
        reason: Exception = ConnectionLost("no server is known")
        for address in (*self.url.addresses, *self._by_address):
            try:
                ranges = await _ask(self.url, address, "CLUSTER", "SLOTS")
            except ConnectionLost as error:
                reason = error
                continue
            masters = {p: _master_of(slot_of(p), ranges, address) for p in ALL_PARTITIONS}
            await self._apply(masters)
            return
        raise reason

    async def _apply(self, masters: dict[int, Address | None]) -> None:
        moved: dict[tuple[int, int], tuple[set[int], Server, Server]] = {}
        for partition, address in masters.items():
            old = self._map[partition]
            new = old if address is None else self._server_at(address)
            if new is old:
                continue
            if self._is_answering(partition):
                self._stale.set()  # what it refuses must not come after what is newer
                continue
            key = (id(old), id(new))
            moved.setdefault(key, (set(), old, new))[0].add(partition)
            self._map[partition] = new
        for partitions, old, new in moved.values():
            self._pass_on(old.commands.take_waiting(partitions))
            self._handlers.on_moved(partitions, old, new)
        self._unknown.subscriptions.is_away = False
        self._pass_on(self._unknown.commands.take_waiting(ALL_PARTITIONS))
        if self._unknown not in self._map.values():
            self.health.forget(self._unknown.commands)
        await self._stop_unused()

    def _is_answering(self, partition: int) -> bool:
        return any(server.commands.is_answering(partition) for server in self.all)

    def _pass_on(self, commands: Iterable[Call | Post]) -> None:
        for command in commands:
            self.find(command.partition).commands.put_back(command)

    async def _stop_unused(self) -> None:
        used = set(map(id, self._map.values()))
        for address, server in list(self._by_address.items()):
            if id(server) not in used:
                del self._by_address[address]
                await server.stop()
                self.health.forget(server.commands)
                self.health.forget(server.subscriptions)

    def _server_at(self, address: Address) -> Server:
        server = self._by_address.get(address)
        if server is None:
            name = f"{address[0]}:{address[1]}"
            server = self._make(name, functools.partial(connect, self.url, address))
            server.commands.on_down = self._stale.set
            server.commands.on_misplaced = functools.partial(self._take_misplaced, server)
            server.subscriptions.on_down = self._note_away
            server.subscriptions.on_moved = functools.partial(self._note_moved, server)
            self._by_address[address] = server
            server.start(subscribes=self._subscribes)
        return server

    def _take_misplaced(self, server: Server, command: Call | Post, has_moved: bool) -> None:
        """Keep a command that a server has refused, until the server of its partition is known."""
        if has_moved:
            self._lose_partition(command.partition, server)
        self._unknown.commands.put_back(command)
        self._stale.set()

    def _note_moved(self, server: Server, channel: str) -> None:
        self._lose_partition(partition_of(topic_of(channel.encode())), server)

    def _lose_partition(self, partition: int, server: Server) -> None:
        """Notice that a server does not have a partition any more."""
        if self._map[partition] is server:
            self._map[partition] = self._unknown
            self.health.expect(self._unknown.commands)
            self._handlers.on_moved({partition}, server, self._unknown)
            self._pass_on(server.commands.take_waiting({partition}))
            self._stale.set()


async def _connect_nowhere() -> RedisConnection:
    raise ConnectionLost("the server is not known")


def _master_of(slot: int, ranges: Any, asked: Address) -> Address | None:
    """Return the address of the server that has a slot; None if none has it."""
    for first, last, (host, port, *_), *_ in ranges:
        if first <= slot <= last:
            return (host.decode() if host else asked[0]), int(port)
    return None


def make_servers(
    url: RedisUrl, handlers: Handlers, timing: Timing = TIMING, *, subscribes: bool = True
) -> Servers:
    """Return the servers of a URL."""
    kind = ClusterServers if url.kind is Kind.CLUSTER else SingleServer
    return kind(url, handlers, timing, subscribes=subscribes)
