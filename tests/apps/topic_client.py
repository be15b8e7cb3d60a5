"""An app whose clients subscribe and publish with messages of JSON.

It answers each message with a text that begins with `{"re": `; what is published are other texts.
"""

import json
from typing import Any

from wsgate import topics
from wsgate.types import Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve WebSockets, and the lifespan."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        answer = await answer_to(topics.of(scope), json.loads(message["text"]))
        await send({"type": "websocket.send", "text": json.dumps({"re": answer})})


async def answer_to(t: topics.Topics, command: dict[str, Any]) -> Any:
    """Carry out a command, and return the answer."""
    kind = command.pop("do")
    try:
        if kind == "subscribe":
            recovered = await t.subscribe(**command)
            return [recovered.complete, recovered.count]
        if kind == "publish":
            return await t.publish(**command)
        if kind == "count":
            return await t.count(**command)
        if kind == "members":
            return await t.members(**command)
        return topics.stats()
    except topics.TopicsError as error:
        return type(error).__name__
