"""An app whose WebSockets do with topics what their clients ask for, as objects of JSON."""

import json
import os
from typing import Any

from wsgate import topics
from wsgate.types import Message, Receive, Scope, Send

topics.configure("room*", history=10_000, history_seconds=600)
topics.configure("short*", history=3, history_seconds=600)


def announce(topic: str, member: str, joined: bool) -> str:
    return json.dumps({"topic": topic, "member": member, "joined": joined, "by": os.getpid()})


topics.configure("present*", history=100, announce=announce)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer HTTP requests with the process id, WebSockets with the result of each command."""
    if scope["type"] == "http":
        body = str(os.getpid()).encode()
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await _serve(topics.of(scope), receive, send)
    else:
        raise ValueError(f"the app has no {scope['type']}")


async def _serve(own: topics.Topics, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.send", "text": json.dumps({"pid": os.getpid()})})
    while (event := await receive())["type"] == "websocket.receive":
        command = json.loads(event["text"])
        number = command.pop("number")
        try:
            answer = await _execute(own, command.pop("command"), command)
        except topics.TopicsError as error:
            answer = {"error": type(error).__name__}
        message: Message = {
            "type": "websocket.send",
            "text": json.dumps({"number": number, "answer": answer}),
        }
        await send(message)


async def _execute(own: topics.Topics, name: str, values: dict[str, Any]) -> Any:
    if name == "subscribe":
        back = await own.subscribe(values.pop("topic"), **values)
        return {"complete": back.complete, "count": back.count}
    if name == "publish":
        exclude = own if values.pop("exclude", False) else None
        data = json.dumps({"topic": values["topic"], "data": values.pop("data")})
        return await own.publish(values.pop("topic"), data, exclude=exclude, **values)
    if name == "unsubscribe":
        return await own.unsubscribe(values["topic"])
    if name == "count":
        return await own.count(values["topic"])
    if name == "members":
        return await own.members(values["topic"])
    assert name == "stats"
    return topics.stats()
