"""An app whose calls are controlled by the test: it receives, sends and ends on demand."""

import asyncio
from typing import Any

import pytest

from tests.harness.waiting import soon
from wsgate.types import Message, Receive, Scope, Send

START: Message = {"type": "http.response.start", "status": 200}
END: Message = {"type": "http.response.body"}
DENIAL = "websocket.http.response"  # the ASGI extension


def piece(body: bytes, *, more: bool = True) -> Message:
    """Return the message that sends a part of a response's body."""
    return {"type": "http.response.body", "body": body, "more_body": more}


def text(payload: str) -> Message:
    """Return the message that sends a WebSocket text message."""
    return {"type": "websocket.send", "text": payload}


def close(code: int = 1000, **fields: Any) -> Message:
    """Return the message that closes a WebSocket, or refuses it."""
    return {"type": "websocket.close", "code": code, **fields}


def denial(status: int = 401, **fields: Any) -> Message:
    """Return the message that starts a denial response."""
    return {"type": f"{DENIAL}.start", "status": status, **fields}


def denial_body(body: bytes = b"", **fields: Any) -> Message:
    """Return the message that sends a part of a denial response's body."""
    return {"type": f"{DENIAL}.body", "body": body, **fields}


class AppCall:
    """One call of the app, controlled by the test."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self.send = send
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def receive(self) -> Any:
        """Receive a message; fail if none arrives within PATIENCE."""
        return await soon(self._receive())

    def start_receive(self) -> "asyncio.Task[Any]":
        """Receive in a task."""
        return asyncio.create_task(self.receive())

    def start_send(self, message: Message) -> "asyncio.Task[None]":
        """Send in a task."""

        async def send() -> None:
            await self.send(message)

        return asyncio.create_task(send())

    async def send_raises(self, message: Any, error: type[Exception], match: str) -> None:
        """Check that sending this message raises this error."""
        with pytest.raises(error, match=match):
            await self.send(message)

    async def respond(self, body: bytes = b"", status: int = 200, *headers: Any) -> None:
        """Send a whole HTTP response."""
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send(piece(body, more=False))

    async def accept(self, **fields: Any) -> None:
        """Receive the connect event of a WebSocket and accept it."""
        assert await self.receive() == {"type": "websocket.connect"}
        await self.send({"type": "websocket.accept", **fields})

    async def receive_payloads(self, count: int) -> list[Any]:
        """Receive so many WebSocket messages and return their payloads."""
        events = [await self.receive() for _ in range(count)]
        return [event["text"] if "text" in event else event["bytes"] for event in events]

    def finish(self, error: BaseException | None = None) -> None:
        """End the call: with the error, or by returning."""
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)


class ScriptedApp:
    """An app for HTTP and WebSocket whose calls do nothing except what the test does with them."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[AppCall] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = AppCall(scope, receive, send)
        self.calls.put_nowait(call)
        await call.ended

    async def called(self) -> AppCall:
        """Wait for the server's next call of the app and return it."""
        return await soon(self.calls.get())


async def echo_request(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the method, the path and the body."""
    body, more = b"", True
    while more:
        message: Any = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        more = message["more_body"]
    await send(START)
    await send(piece(f"{scope['method']} {scope['path']} ".encode() + body, more=False))


async def respond_path(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the path, without reading the body."""
    await send(START)
    await send(piece(scope["path"].encode(), more=False))
