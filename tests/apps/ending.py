"""An app that echoes, and ends a WebSocket in the way that the client asks for."""

from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve a WebSocket; it has no lifespan and no requests."""
    if scope["type"] != "websocket":
        raise NotImplementedError(scope["type"])
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text = message["text"]
        if text == "fail":
            raise RuntimeError("asked to fail")
        if text == "return":
            return
        if text.startswith("close "):
            _, code, reason = text.split(maxsplit=2)
            await send({"type": "websocket.close", "code": int(code), "reason": reason})
            return
        await send({"type": "websocket.send", "text": text})
