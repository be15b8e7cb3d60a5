"""A client of the example chat, over a WebSocket of the library websockets."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.harness.waiting import soon

PATIENCE = 20.0  # seconds until a test that waits fails
Message = dict[str, Any]


class ChatClient:
    """One connection to the chat."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket

    async def send(self, **message: Any) -> None:
        """Send a message of the chat."""
        await self.websocket.send(json.dumps(message))

    async def message(self) -> Message:
        """Return the next message."""
        # Not asyncio.wait_for: on Python 3.11 a cancellation is lost when a message has arrived.
        message: Message = json.loads(await soon(self.websocket.recv(), PATIENCE))
        return message

    async def read(self, kind: str) -> Message:
        """Return the next message of a type; skip messages of other types."""
        while (message := await self.message())["type"] != kind:
            pass
        return message

    async def read_until(self, kind: str) -> list[Message]:
        """Return all messages up to the next one of a type, and this one."""
        found = [await self.message()]
        while found[-1]["type"] != kind:
            found.append(await self.message())
        return found

    async def texts(self, count: int) -> list[str]:
        """Return the texts of the next messages that people have said."""
        return [(await self.read("said"))["text"] for _ in range(count)]

    async def error(self) -> str:
        """Return the code of the next error."""
        code: str = (await self.read("error"))["code"]
        return code

    async def join(self, name: str, room: str = "Lobby", **more: str) -> Message:
        """Join a room and return the welcome."""
        await self.send(type="join", room=room, name=name, **more)
        return await self.read("welcome")

    async def say(self, text: str, ref: str = "") -> str:
        """Say something, and return its id when it is confirmed."""
        await self.send(type="say", text=text, **({"ref": ref} if ref else {}))
        return str((await self.read("sent"))["id"])

    async def members(self) -> list[str]:
        """Ask who is in the room."""
        await self.send(type="people")
        members: list[str] = (await self.read("people"))["members"]
        return members

    async def close_code(self) -> int | None:
        """Wait for the end, and return its code."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.message()
        return self.websocket.close_code


@contextlib.asynccontextmanager
async def chatting(ws_url: str) -> AsyncIterator[ChatClient]:
    """Connect a client; it leaves at the end."""
    async with connect(
        f"{ws_url}/ws", close_timeout=PATIENCE, open_timeout=PATIENCE, proxy=None
    ) as websocket:
        yield ChatClient(websocket)
