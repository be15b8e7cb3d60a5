"""Two servers over one Redis, as on two machines, with many subscribers."""

import asyncio
import contextlib
import json
import resource
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import websockets
from websockets.asyncio.client import ClientConnection, connect

from tests.harness.processes import ServerProcess, running, started
from tests.harness.redis import RedisServer, redis_server
from tests.harness.waiting import pause
from wsgate.topics import Publisher

PATIENCE = 120.0
APP = "tests.apps.topic_client:app"
RULE = "h* history=1000"


@pytest_asyncio.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path) as server:
        yield server


@contextlib.asynccontextmanager
async def servers(url: str, *options: str) -> AsyncIterator[list[ServerProcess]]:
    """Run two servers."""
    arguments = ("--topics", url, "--topics-rule", RULE, *options)
    async with running(APP, *arguments) as one, running(APP, *arguments) as other:
        yield [one, other]


class Client:
    """A client that keeps what was published, and comes back with the last id when it was closed.

    Attributes:
        got: The texts of the messages.
        codes: With which it was closed.
    """

    def __init__(self, url: str, topic: str, **options: Any) -> None:
        self.topic = topic
        self.got: list[str] = []
        self.codes: list[int | None] = []
        self.incomplete = 0
        self.socket: ClientConnection
        self._url = url
        self._options = options
        self._answer: asyncio.Future[Any]
        self._is_subscribed = asyncio.Event()
        self._changed = asyncio.Condition()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(websockets.ConnectionClosed, OSError):
                async with connect(
                    self._url,
                    compression=None,
                    proxy=None,
                    ping_interval=None,
                    open_timeout=PATIENCE,
                ) as self.socket:
                    after = json.loads(self.got[-1])["id"] if self.got else None
                    await self._send("subscribe", topic=self.topic, after=after, **self._options)
                    await self._read()
            self.codes.append(self.socket.close_code)

    async def _read(self) -> None:
        while True:
            text = await self.socket.recv()
            assert isinstance(text, str)
            if not text.startswith('{"re": '):
                self.got.append(text)
                async with self._changed:
                    self._changed.notify_all()
            elif not self._is_subscribed.is_set() or isinstance(json.loads(text)["re"], list):
                self.incomplete += not json.loads(text)["re"][0]
                self._is_subscribed.set()
            else:
                self._answer.set_result(json.loads(text)["re"])

    async def _send(self, command: str, **arguments: Any) -> None:
        await self.socket.send(json.dumps({"do": command, **arguments}))

    async def ask(self, command: str, **arguments: Any) -> Any:
        """Send a command, and return the answer."""
        self._answer = asyncio.get_running_loop().create_future()
        await self._send(command, **arguments)
        async with asyncio.timeout(PATIENCE):
            return await self._answer

    async def is_subscribed(self) -> None:
        """Wait for the first subscription."""
        async with asyncio.timeout(PATIENCE):
            await self._is_subscribed.wait()

    async def has(self, count: int) -> None:
        """Wait for so many messages."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: len(self.got) >= count)

    async def stop(self) -> None:
        """Leave."""
        self._task.cancel()
        await asyncio.wait([self._task])


@contextlib.asynccontextmanager
async def clients(*made: Client) -> AsyncIterator[None]:
    """Wait until all are subscribed; stop them at the end."""
    try:
        for client in made:
            await client.is_subscribed()
        yield
    finally:
        await asyncio.gather(*(client.stop() for client in made))


def message(number: int) -> dict[str, Any]:
    return {"data": json.dumps({"id": f"id{number}", "n": number}), "id": f"id{number}"}


def numbers(client: Client) -> list[int]:
    return [json.loads(text)["n"] for text in client.got]


@pytest.fixture
def many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def test_a_thousand_subscribers_on_two_servers(redis: RedisServer, many_files: None) -> None:
    """Nothing in a wrong topic, nothing twice, one order, while all connections are cut."""
    count = 40
    async with servers(redis.url) as both:
        urls = [server.ws_url for server in both]
        kept = [Client(urls[n % 2], "h:room") for n in range(500)]
        plain = [Client(urls[n % 2], "room") for n in range(400)]
        others = [Client(urls[n % 2], "h:other") for n in range(100)]
        publishers = [Client(url, "h:nobody") for url in urls]
        async with clients(*kept, *plain, *others, *publishers):
            for number in range(count):
                if number == count // 4:
                    await redis.cut("pubsub")
                if number == count // 2:
                    await redis.cut("normal")
                one = publishers[number % 2]
                answer = await one.ask("publish", topic="h:room", **message(number))
                assert answer == f"id{number}"
                await one.ask("publish", topic="room", **message(number))
            for client in kept:
                await client.has(count)
                assert numbers(client) == list(range(count))
            for client in plain:  # in the order of each publisher
                for parity in (0, 1):
                    own = [number for number in numbers(client) if number % 2 == parity]
                    assert own == sorted(set(own))
            assert not any(client.got for client in (*others, *publishers))
            assert not any(client.codes for client in (*kept, *plain, *others))
            async with asyncio.timeout(PATIENCE):
                while await publishers[0].ask("count", topic="h:room") != len(kept):
                    await pause(0.02)


async def test_plain_messages_arrive_once_and_in_order(redis: RedisServer) -> None:
    async with servers(redis.url) as (one, other):
        here, there = Client(one.ws_url, "room"), Client(other.ws_url, "room")
        async with clients(here, there):
            for number in range(200):
                await here.ask("publish", topic="room", **message(number))
            await there.has(200)
            assert numbers(there) == numbers(here) == list(range(200))


async def test_the_loss_of_a_history_closes_its_sockets_only(redis: RedisServer) -> None:
    async with servers(redis.url) as (one, other):
        kept = [Client(url, "h:room") for url in (one.ws_url, other.ws_url)]
        plain = Client(other.ws_url, "room")
        async with clients(*kept, plain):
            await plain.ask("publish", topic="h:room", **message(1))
            for client in kept:
                await client.has(1)
            await redis.kill()
            await redis.start()
            async with asyncio.timeout(PATIENCE):
                while not all(client.codes and client.incomplete for client in kept):
                    await pause(0.02)
            await plain.ask("publish", topic="h:room", **message(2))
            for client in kept:
                await client.has(2)
                assert numbers(client) == [1, 2]
                assert client.codes == [1012]
            assert not plain.codes


async def test_while_redis_is_gone_servers_start_and_plain_topics_work(redis: RedisServer) -> None:
    await redis.kill()
    async with servers(redis.url) as (one, other):
        here, there = Client(one.ws_url, "room"), Client(other.ws_url, "room")
        async with clients(here, there):
            await here.ask("publish", topic="room", **message(1))
            await here.has(1)
            assert await here.ask("publish", topic="h:room", **message(2)) == "Unavailable"
            await redis.start()
            async with Publisher(redis.url, timeout=PATIENCE) as publisher:
                async with asyncio.timeout(PATIENCE):
                    while not there.got:
                        await publisher.publish("room", **message(3))
                        await pause(0.02)
            await one.logged("Redis .* is back")
            assert not here.codes
            assert not there.codes


async def members_are(client: Client, expected: dict[str, int]) -> None:
    """Wait until the members of the room are these."""
    async with asyncio.timeout(PATIENCE):
        while await client.ask("members", topic="room") != expected:
            await pause(0.02)


async def test_members_of_both_servers(redis: RedisServer) -> None:
    async with servers(redis.url) as (one, other):
        here = Client(one.ws_url, "room", member="ada")
        there = Client(other.ws_url, "room", member="ada")
        async with clients(here, there):
            await members_are(there, {"ada": 2})
            await here.stop()
            await members_are(there, {"ada": 1})
            stats = await there.ask("stats")
            assert Counter(stats["dropped"]).total() == 0


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://me:secret@cache:x", "--topics: malformed address"),
        ("nonsense", "--topics must be memory:, local:, "),
    ],
)
async def test_a_malformed_url_is_one_line(url: str, text: str) -> None:
    async with started(APP, "--port", "0", "--topics", url) as server:
        assert await server.ended() != 0
        assert len(server.log) == 1
        assert text in server.log[0]
        assert "secret" not in server.text
