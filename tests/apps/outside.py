"""An app that responds with how the outside sees it: client, scheme, host, root path, and path."""

import json
from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Respond to a request; accept a WebSocket, send the same as text, then echo."""
    if scope["type"] == "lifespan":
        raise NotImplementedError(scope["type"])
    headers = dict(scope["headers"])
    view = {key: scope[key] for key in ("client", "server", "scheme", "root_path", "path")}
    text = json.dumps(view | {"host": headers.get(b"host", b"").decode()})
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": text.encode()})
        return
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": text})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
