"""Topics on a live server: real clients, many of them, slow ones, and those that come and go."""

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.harness.log import capture_log
from tests.harness.topics import own_rules
from tests.harness.waiting import soon, until
from wsgate import topics
from wsgate.testing import LiveServer, serve
from wsgate.topics import Topics, presence

__all__ = ["own_rules"]
pytestmark = pytest.mark.usefixtures("own_rules")

PATIENCE = 60.0
ROOM = "room"


class App:
    """Subscribes each WebSocket as its query says, and publishes what it sends.

    A client's message is JSON: the keyword arguments of `publish`, with `exclude` as a bool. For
    HTTP it is a stream of events of the topic that the path names. The lifespan listens, too.
    """

    def __init__(self) -> None:
        self.lifespan: Topics  # from the startup on
        self.heard: list[str | bytes] = []
        self.has_ended = asyncio.Event()  # the listener of the lifespan

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        kind = {"lifespan": self.run_lifespan, "http": self.stream, "websocket": self.talk}
        await kind[scope["type"]](scope, receive, send)

    async def run_lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        self.lifespan = topics.of(scope)
        await receive()
        task = asyncio.create_task(self.hear())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await soon(task)
        await send({"type": "lifespan.shutdown.complete"})

    async def hear(self) -> None:
        async for message in self.lifespan.listen("heard"):
            self.heard.append(message.data)
        self.has_ended.set()

    async def stream(self, scope: Any, receive: Any, send: Any) -> None:
        after = dict(scope["headers"]).get(b"last-event-id", b"").decode()
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with topics.of(scope).listen(scope["path"][1:], after=after) as messages:
            body = f": complete={messages.complete}\n\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})
            async for message in messages:
                event = f"id: {message.id}\ndata: {message.data!s}\n\n".encode()
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body"})

    async def talk(self, scope: Any, receive: Any, send: Any) -> None:
        own = topics.of(scope)
        query: dict[str, Any] = dict(parse_qsl(scope["query_string"].decode()))
        await receive()
        await send({"type": "websocket.accept"})
        if "last" in query:
            query["last"] = int(query["last"])
        back = await own.subscribe(scope["path"][1:], **query)
        await send({"type": "websocket.send", "bytes": json.dumps([*_pair(back)]).encode()})
        while (event := await receive())["type"] == "websocket.receive":
            options = json.loads(event["text"])
            exclude = own if options.pop("exclude", False) else None
            await send({"type": "websocket.send", "text": "before"})
            await own.publish(scope["path"][1:], exclude=exclude, **options)
            await send({"type": "websocket.send", "text": "after"})


def _pair(back: topics.Recovered) -> tuple[bool, int]:
    return back.complete, back.count


@contextlib.asynccontextmanager
async def live(**options: Any) -> AsyncIterator[tuple[App, LiveServer]]:
    """Serve the app; check that nothing of any topic is left, and that nothing was logged."""
    app = App()
    with capture_log() as log:
        async with asyncio.timeout(3 * PATIENCE), serve(app, access_log=False, **options) as server:
            yield app, server
            await server.settled()
            service = server._server.worker.topics
            assert list(service._topics) == ["heard"]
            assert service._sockets == {}
        assert log.errors == []


class Client:
    """A subscriber: what it was told on its subscription, and the messages before and after."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.before: list[str] = []
        self.complete = False
        self.count = 0

    async def receive(self) -> str:
        return str(await soon(self.socket.recv(), PATIENCE))

    async def subscribed(self) -> None:
        """Read until the subscription is complete."""
        while isinstance(message := await soon(self.socket.recv(), PATIENCE), str):
            self.before.append(message)
        self.complete, self.count = json.loads(message)

    async def publish(self, data: str, **options: Any) -> None:
        await self.socket.send(json.dumps({"data": data, **options}))


@contextlib.asynccontextmanager
async def client(
    server: LiveServer, topic: str = ROOM, *, compression: Any = None, **query: Any
) -> AsyncIterator[Client]:
    """Connect a `websockets` client and subscribe it."""
    url = f"{server.ws_url}/{topic}?{urlencode(query)}"
    options: dict[str, Any] = {"proxy": None, "compression": compression, "ping_interval": None}
    async with connect(url, open_timeout=PATIENCE, **options) as socket:
        found = Client(socket)
        await found.subscribed()
        yield found


# -- order -----------------------------------------------------------------------------------------


async def test_the_order_of_send_and_publish_is_that_of_the_calls() -> None:
    async with live() as (_, server), client(server) as ada, client(server) as bob:
        for number in range(50):
            await ada.publish(str(number))
        expected = [text for number in range(50) for text in ("before", str(number), "after")]
        assert [await ada.receive() for _ in expected] == expected
        assert [await bob.receive() for _ in range(50)] == [str(number) for number in range(50)]


@pytest.mark.parametrize("history", [0, 1000])
async def test_a_thousand_subscribers_get_all_messages_in_order(history: int) -> None:
    topics.configure(ROOM, history=history)
    async with live() as (app, server), contextlib.AsyncExitStack() as stack:
        clients: list[Client] = []
        for _ in range(10):
            group = [stack.enter_async_context(client(server)) for _ in range(100)]
            clients += await asyncio.gather(*group)
        assert app.lifespan.subscribers(ROOM) == 1000
        expected = [str(number) for number in range(20)]
        for text in expected:
            await app.lifespan.publish(ROOM, text)
        for one in clients:
            assert [await one.receive() for _ in expected] == expected
        assert topics.stats()["delivered"] == 20_000


@pytest.mark.parametrize("takeover", [False, True])
async def test_compressed_subscribers_get_the_same(*, takeover: bool) -> None:
    async with (
        live(ws_deflate_context_takeover=takeover) as (app, server),
        client(server) as ada,
        client(server, compression="deflate") as bob,
    ):
        assert bob.socket.protocol.extensions
        for number in range(5):
            await app.lifespan.publish(ROOM, str(number) * 5000)
        for one in (ada, bob):
            assert [await one.receive() for _ in range(5)] == [str(n) * 5000 for n in range(5)]


async def test_the_publisher_may_be_left_out_and_a_message_not_kept() -> None:
    topics.configure(ROOM, history=5)
    async with live() as (_, server), client(server) as ada, client(server) as bob:
        await ada.publish("own", id="1", exclude=True)
        await ada.publish("typing", id="2", keep=False)
        await ada.publish("own again", id="1")
        expected = ["before", "after", "before", "typing", "after", "before", "after"]
        assert [await ada.receive() for _ in expected] == expected
        assert [await bob.receive() for _ in range(2)] == ["own", "typing"]
        async with client(server, last=5) as late:
            assert (late.before, late.complete, late.count) == (["own"], True, 1)


# -- recovery --------------------------------------------------------------------------------------


class Stream:
    """Publishes numbered messages until it is told to stop."""

    def __init__(self, app: App, size: int) -> None:
        self._app = app
        self._size = size
        self.count = 0
        self.total: int | None = None

    async def run(self) -> None:
        while self.total is None or self.count < self.total:
            number = self.count
            self.count += 1
            text = f"{number} {'x' * self._size}"
            await self._app.lifespan.publish(ROOM, text, id=str(number))
            await asyncio.sleep(0)


def number_of(text: str) -> int:
    return int(text.split(maxsplit=1)[0])


async def test_who_comes_back_again_and_again_misses_nothing_under_load() -> None:
    topics.configure(ROOM, history=100_000)
    choose = random.Random(14)

    async def follow(server: LiveServer, total: int) -> list[int]:
        seen: list[int] = []
        while not seen or seen[-1] < total - 1:
            after = {"after": str(seen[-1])} if seen else {"last": 100_000}
            async with client(server, **after) as one:
                assert one.complete
                seen += map(number_of, one.before)
                for _ in range(choose.randrange(30)):
                    if seen and seen[-1] == total - 1:
                        break
                    seen.append(number_of(await one.receive()))
        return seen

    async with live() as (app, server):
        stream = Stream(app, size=20)
        stream.total = 1500
        followers = [asyncio.create_task(follow(server, stream.total)) for _ in range(5)]
        await until(lambda: app.lifespan.subscribers(ROOM) == 5, PATIENCE)
        await stream.run()
        for task in followers:
            assert await soon(task, PATIENCE) == list(range(stream.total))
        assert topics.stats()["incomplete"] == 0


async def test_a_slow_reader_recovers_what_it_has_missed() -> None:
    topics.configure(ROOM, history=100_000)
    async with live(topics_max_outlet=50_000) as (app, server):
        stream = Stream(app, size=10_000)
        seen: list[int] = []
        async with client(server) as slow, client(server) as fast:
            task = asyncio.create_task(stream.run())
            # It reads nothing until the server has closed it.
            while topics.stats()["closed_slow"] == 0:
                assert await fast.receive()
            stream.total = stream.count
            await soon(task, PATIENCE)
            with contextlib.suppress(ConnectionClosed):
                while True:
                    seen.append(number_of(await slow.receive()))
        assert len(seen) < stream.total
        async with client(server, after=str(seen[-1])) as again:
            assert again.complete
            assert again.count == len(again.before) == stream.total - len(seen)
            seen += map(number_of, again.before)
        assert seen == list(range(stream.total))


async def test_a_history_that_does_not_reach_back_is_incomplete() -> None:
    topics.configure(ROOM, history=3)
    async with live() as (app, server):
        for number in range(5):
            await app.lifespan.publish(ROOM, str(number), id=str(number))
        async with client(server, after="0", last=2) as back:
            assert (back.complete, back.count, back.before) == (False, 2, ["3", "4"])
        async with client(server, after="1", last=2) as back:
            assert (back.complete, back.count, back.before) == (True, 3, ["2", "3", "4"])
        assert (topics.stats()["recovered"], topics.stats()["incomplete"]) == (1, 1)


# -- presence --------------------------------------------------------------------------------------


@pytest.fixture
def announced() -> list[tuple[str, str, bool]]:
    """Return what the app is called with; it publishes the same."""
    calls: list[tuple[str, str, bool]] = []

    def announce(topic: str, member: str, joined: bool) -> str:
        calls.append((topic, member, joined))
        return f"{member} {'joined' if joined else 'left'}"

    topics.configure(ROOM, announce=announce)
    return calls


async def test_members_are_announced_and_counted(
    announced: list[tuple[str, str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live() as (app, server), client(server) as watcher:
        async with client(server, member="ada"), client(server, member="ada"):
            assert await watcher.receive() == "ada joined"
            assert await app.lifespan.members(ROOM) == {"ada": 2}
            assert await app.lifespan.count(ROOM) == 3
            monkeypatch.setattr(presence, "GRACE", 0.0)
        assert await watcher.receive() == "ada left"
        assert await app.lifespan.members(ROOM) == {}
        assert announced == [(ROOM, "ada", True), (ROOM, "ada", False)]


async def test_a_member_who_returns_in_time_has_not_left(
    announced: list[tuple[str, str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "GRACE", 1000.0)
    async with live() as (app, server):
        for _ in range(3):
            async with client(server, member="ada"):
                assert await app.lifespan.members(ROOM) == {"ada": 1}
            await until(lambda: app.lifespan.subscribers(ROOM) == 0)
        assert announced == [(ROOM, "ada", True)]


def test_the_grace_is_three_seconds() -> None:
    assert presence.GRACE == 3.0


# -- listeners, and the end ------------------------------------------------------------------------


async def test_a_stream_of_events_recovers_and_ends_with_its_client() -> None:
    topics.configure(ROOM, history=5)
    async with live() as (app, server), httpx.AsyncClient(base_url=server.url) as http:
        for number in "12":
            await app.lifespan.publish(ROOM, number, id=number)
        headers = {"Last-Event-ID": "1"}
        async with http.stream("GET", f"/{ROOM}", headers=headers, timeout=PATIENCE) as response:
            lines = response.aiter_lines()
            found = [await soon(anext(lines)) for _ in range(5)]
            assert found == [": complete=True", "", "id: 2", "data: 2", ""]
            assert app.lifespan.subscribers(ROOM) == 1
            await app.lifespan.publish(ROOM, "3", id="3")
            assert [await soon(anext(lines)) for _ in range(2)] == ["id: 3", "data: 3"]
        await until(lambda: app.lifespan.subscribers(ROOM) == 0)
        await until(lambda: server.tasks == 0)


async def test_the_lifespan_listens_until_the_stop() -> None:
    async with live() as (app, server):
        await until(lambda: app.lifespan.subscribers("heard") == 1)
        async with client(server, "heard") as ada:
            await ada.publish("hello")
            assert [await ada.receive() for _ in range(3)] == ["before", "hello", "after"]
        assert not app.has_ended.is_set()
    assert app.heard == ["hello"]
    assert app.has_ended.is_set()


async def test_a_stop_sends_what_was_published_and_leaves_nothing() -> None:
    app = App()
    async with serve(app, access_log=False) as server:
        async with client(server) as ada:
            await app.lifespan.publish(ROOM, "last words")
            stopping = asyncio.create_task(server.stop())
            assert await ada.receive() == "last words"
            with pytest.raises(ConnectionClosed) as closed:
                await ada.receive()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        await soon(stopping, PATIENCE)


async def test_the_counters_of_a_worker() -> None:
    before = topics.stats()
    assert before["published"] == 0
    async with live() as (app, server), client(server) as ada, client(server) as bob:
        await app.lifespan.publish(ROOM, "x")
        for one in (ada, bob):
            await one.receive()
        counts = Counter({name: n for name, n in topics.stats().items() if isinstance(n, int)})
        assert counts == {
            "published": 1,
            "delivered": 2,
            "closed_slow": 0,
            "recovered": 0,
            "incomplete": 0,
        }
        assert topics.stats()["dropped"] == {}
