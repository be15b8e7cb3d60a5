"""An app that refuses every WebSocket."""

from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Refuse a WebSocket after its connect."""
    if scope["type"] != "websocket":
        raise NotImplementedError(scope["type"])
    await receive()
    await send({"type": "websocket.close"})
