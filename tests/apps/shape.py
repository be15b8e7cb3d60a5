"""An app that responds with properties of the request: method, size of the target, headers."""

import json
from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Respond to a request, or accept a WebSocket and send one message."""
    if scope["type"] == "lifespan":
        raise NotImplementedError(scope["type"])
    target = scope["raw_path"] + b"?" * bool(scope["query_string"]) + scope["query_string"]
    shape = {
        "method": scope.get("method"),
        "target": len(target),
        "headers": len(scope["headers"]),
    }
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": json.dumps(shape)})
        await send({"type": "websocket.close"})
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": json.dumps(shape).encode()})
