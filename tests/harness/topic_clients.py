"""Clients of the app `tests.apps.topics`, whose server runs in processes of its own."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.harness.processes import started
from tests.harness.waiting import pause
from tests.harness.workers import PATIENCE, Supervised

APP = "tests.apps.topics:app"
OPTIONS = (
    "--lifespan",
    "off",
    "--topics-publish-timeout",
    "30",
    "--timeout-graceful-shutdown",
    "5",
)


class Gone(Exception):
    """The server has closed the WebSocket."""


class Client:
    """A WebSocket of the app.

    Attributes:
        pid: The process that serves it.
        messages: The data of what was published, in the order of arrival.
        close_code: Of its end, None while it is open.
    """

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self.pid = 0
        self.messages: list[Any] = []
        self.close_code: int | None = None
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._grown = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for text in self.websocket:
                await self._take(json.loads(text))
        except ConnectionClosed:
            pass
        async with self._grown:
            self.close_code = self.websocket.close_code
            self._grown.notify_all()
        for answer in self._answers.values():
            answer.set_exception(Gone())
            answer.exception()  # retrieved, in case nobody waits for it

    async def _take(self, message: Any) -> None:
        if "number" in message:
            self._answers.pop(message["number"]).set_result(message["answer"])
            return
        async with self._grown:
            if "pid" in message:
                self.pid = message["pid"]
            else:
                self.messages.append(message.get("data", message))
            self._grown.notify_all()

    async def until(self, condition: Any, seconds: float = PATIENCE) -> None:
        """Wait until a condition of what has arrived is true."""
        async with asyncio.timeout(seconds), self._grown:
            await self._grown.wait_for(condition)

    async def received(self, count: int) -> list[Any]:
        """Wait for so many messages in all, and return them."""
        await self.until(lambda: len(self.messages) >= count or self.close_code is not None)
        return self.messages

    async def closed(self) -> int | None:
        """Wait for the end, and return its code."""
        await self.until(lambda: self.close_code is not None)
        return self.close_code

    async def ask(self, command: str, topic: str = "room", **values: Any) -> Any:
        """Have the app execute a command; return its answer. Raises Gone after the end."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        values |= {"number": number, "command": command, "topic": topic}
        try:
            await self.websocket.send(json.dumps(values))
        except ConnectionClosed:
            raise Gone from None
        async with asyncio.timeout(PATIENCE):
            return await answer

    async def subscribe(self, topic: str = "room", **values: Any) -> Any:
        """Subscribe to a topic."""
        return await self.ask("subscribe", topic, **values)

    async def publish(self, data: Any, topic: str = "room", **values: Any) -> Any:
        """Publish to a topic."""
        return await self.ask("publish", topic, data=data, **values)

    async def close(self) -> None:
        """Leave."""
        await self.websocket.close()
        await self._reading

    async def drop(self) -> None:
        """Leave without a word."""
        self.websocket.transport.abort()
        await self._reading


class TopicsServer(Supervised):
    """A server with the app. connected: all clients that have connected."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__(process)
        self.connected: list[Client] = []

    async def client(self) -> Client:
        """Connect a client."""
        client = Client(await self.connect())
        self.connected.append(client)
        await client.until(lambda: client.pid)
        return client

    async def clients(self, pids: set[int]) -> dict[int, Client]:
        """Connect a client to each of these processes."""
        found: dict[int, Client] = {}
        async with asyncio.timeout(PATIENCE):
            while set(found) != pids:
                client = await self.client()
                if client.pid in found or client.pid not in pids:
                    await client.close()
                else:
                    found[client.pid] = client
        return found

    async def client_of_other_worker(self, *than: Client) -> Client:
        """Connect a client to a worker that serves none of these, as soon as there is one."""
        known = {client.pid for client in than}
        async with asyncio.timeout(PATIENCE):
            while (client := await self.client()).pid in known:
                await client.close()
        return client

    async def pair(self) -> tuple[Client, Client]:
        """Connect two clients to two workers."""
        first, second, *_ = (await self.clients(await self.process_ids(2))).values()
        return first, second

    def hub(self) -> int:
        """Return the process id of the hub, 0 if there is none."""
        return next(iter(hubs_of(self.pid)), 0)

    async def other_hub(self, than: int) -> int:
        """Wait for another hub, and return its process id."""
        async with asyncio.timeout(PATIENCE):
            while (found := self.hub()) in (0, than):
                await pause(0.02)
        return found


def hubs_of(parent: int) -> list[int]:
    """Return the process ids of the hubs that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = (path / "stat").read_text().rpartition(")")[2].split()
            command = (path / "cmdline").read_text().split("\0")
            if int(status[1]) == parent and "topics-hub" in command and status[0] != "Z":
                found.append(int(path.name))
    return found


@contextlib.asynccontextmanager
async def topics_server(count: int, *options: str) -> AsyncIterator[TopicsServer]:
    """Run the app with so many workers; one runs without a supervisor."""
    arguments = (APP, "--port", "0", "--workers", str(count), "--no-access-log", *OPTIONS)
    async with started(*arguments, *options, kind=TopicsServer) as server:
        assert isinstance(server, TopicsServer)
        await server.serves()
        try:
            yield server
        finally:
            await asyncio.gather(*[client.drop() for client in server.connected])
