"""Somebody in the example chat whose client comes back, as the page does."""

import asyncio
import contextlib
import itertools

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.examples.chat_client import PATIENCE, ChatClient, Message, chatting
from tests.harness.waiting import pause


class Visitor:
    """Somebody in a room, until `leave`.

    Its client joins after the last message that it has, and repeats what was not confirmed.

    Attributes:
        log: The messages of the room, as the page shows them.
        workers: The processes that have served it.
        is_complete: No recovery has left a gap.
    """

    def __init__(self, ws_url: str, name: str, room: str) -> None:
        self.name = name
        self.room = room
        self.log: list[Message] = []
        self.workers: list[int] = []
        self.is_complete = True
        self.client: ChatClient | None = None  # once it has joined
        self._ws_url = ws_url
        self._key = name.replace(" ", "-")
        self._shown: set[str] = set()
        self._refs = itertools.count(1)
        self._waiting: dict[str, tuple[Message, asyncio.Future[None]]] = {}
        self._people: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._changed = asyncio.Condition()
        self._task = asyncio.create_task(self._run())

    async def joined(self) -> None:
        """Wait until it has joined."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: self.client is not None)

    async def say(self, text: str) -> None:
        """Say something, and wait until it is confirmed, perhaps on another connection."""
        ref = str(next(self._refs))
        message = {"type": "say", "text": text, "ref": ref}
        confirmed = asyncio.get_running_loop().create_future()
        self._waiting[ref] = (message, confirmed)
        if self.client is not None:
            with contextlib.suppress(ConnectionClosed):
                await self.client.send(**message)
        await asyncio.wait_for(confirmed, PATIENCE)

    async def people(self) -> Message:
        """Ask who is there; the connection must not end meanwhile."""
        assert self.client is not None
        self._people = asyncio.get_running_loop().create_future()
        await self.client.send(type="people")
        return await asyncio.wait_for(self._people, PATIENCE)

    async def until(self, count: int) -> None:
        """Wait for so many messages in the log."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: len(self.log) >= count)

    async def leave(self) -> None:
        """Disconnect, and do not come back."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(ConnectionClosed, InvalidHandshake, OSError):
                async with chatting(self._ws_url) as client:
                    await self._take_part(client)
            self.client = None
            await pause(0.05)

    async def _take_part(self, client: ChatClient) -> None:
        self.workers.append((await client.read("hello"))["worker"])
        join = {"type": "join", "room": self.room, "name": self.name, "key": self._key}
        if self.log:
            join["after"] = self.log[-1]["id"]
        await client.send(**join)
        # What was missed: a connection that ends before the welcome has shown nothing of it.
        *missed, welcome = await client.read_until("welcome")
        self.is_complete &= welcome["complete"]
        self.client = client
        for message in missed:
            await self._take(message)
        for message, _ in list(self._waiting.values()):
            await client.send(**message)
        while True:
            await self._take(await client.message())

    async def _take(self, message: Message) -> None:
        if message["type"] == "said" and message["id"] not in self._shown:
            self._shown.add(message["id"])
            self.log.append(message)
        elif message["type"] == "sent" and message["ref"] in self._waiting:
            self._waiting.pop(message["ref"])[1].set_result(None)
        elif message["type"] == "people":
            self._people.set_result(message)
        async with self._changed:
            self._changed.notify_all()
