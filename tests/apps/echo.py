"""An echo app, for the Autobahn Testsuite and other tests."""

from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Accept every WebSocket and send each message back."""
    if scope["type"] != "websocket":
        raise NotImplementedError(scope["type"])
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
