"""A fake ASGI server in memory: it calls the chat without a socket."""

import asyncio
import json
from types import TracebackType
from typing import Any, Self

from examples.chat.app import Chat, Event

PATIENCE = 5.0  # seconds until a test that waits fails
Message = dict[str, Any]


class Socket:
    """A WebSocket client; messages that it has not read are in `inbox`."""

    def __init__(self, app: Chat, path: str = "/ws", root_path: str = "") -> None:
        self._app = app
        self._scope = {"type": "websocket", "path": path, "root_path": root_path}
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self.inbox: asyncio.Queue[Event] = asyncio.Queue()
        self.network = asyncio.Event()  # when cleared, the app's sends wait
        self.network.set()
        self.gone = False  # when set, the app's sends fail

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self._app(self._scope, self._receive, self._send))
        self._events.put_nowait({"type": "websocket.connect"})
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.hang_up()
        await self.ended()

    async def _receive(self) -> Event:
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        return event

    async def _send(self, event: Event) -> None:
        await self.network.wait()
        if self.gone:
            raise OSError("the client has left")
        self.inbox.put_nowait(event)

    def hang_up(self) -> None:
        """Close from the client's side."""
        self._events.put_nowait({"type": "websocket.disconnect", "code": 1001})

    def break_app(self, error: Exception) -> None:
        """Make the app's next receive raise an error."""
        self._events.put_nowait(error)

    async def ended(self) -> None:
        """Wait until the app has returned."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([self.task])

    def send(self, **message: Any) -> None:
        """Send a message of the chat."""
        self.send_text(json.dumps(message))

    def send_text(self, text: str) -> None:
        """Send a text unchanged."""
        self._events.put_nowait({"type": "websocket.receive", "text": text, "bytes": None})

    def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""
        self._events.put_nowait({"type": "websocket.receive", "bytes": data})

    async def event(self) -> Event:
        """Return the app's next event."""
        async with asyncio.timeout(PATIENCE):
            return await self.inbox.get()

    async def read(self, kind: str) -> Message:
        """Return the next message of a type; skip messages of other types."""
        while True:
            event = await self.event()
            assert event["type"] in {"websocket.accept", "websocket.send"}, event
            message: Message = json.loads(event.get("text", "{}"))
            if message.get("type") == kind:
                return message

    async def code(self) -> str:
        """Return the code of the next error."""
        code: str = (await self.read("error"))["code"]
        return code

    async def join(self, name: str, room: str = "Lobby", **more: str) -> Message:
        """Join a room and return the welcome."""
        self.send(type="join", room=room, name=name, **more)
        return await self.read("welcome")


async def http(
    app: Chat, method: str, path: str, root_path: str = ""
) -> tuple[int, Message, bytes]:
    """Return the status, the headers (as text) and the body of the response to a request."""
    sent: list[Event] = []

    async def send(event: Event) -> None:
        sent.append(event)

    async def receive() -> Event:
        raise AssertionError("the page needs no request body")

    scope: Event = {"type": "http", "method": method, "path": path, "root_path": root_path}
    scope["headers"] = []
    await app(scope, receive, send)
    start, body = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, body.get("body", b"")
