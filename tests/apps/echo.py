"""An echo app for the Autobahn Testsuite and whoever else wants its messages back."""

from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Accept every WebSocket and send back each message as it came."""
    if scope["type"] != "websocket":
        raise NotImplementedError(scope["type"])
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
