"""The app of the load "jitter": a room with history, and whoever publishes to it.

A WebSocket of /join subscribes: `?after=` names the last message that the client has, and without
it the last message of the history is sent. COMPLETE or INCOMPLETE follows what was missed. One of
/publish publishes each text under itself as its id, and answers with OK or UNAVAILABLE. All other
requests are those of app.py.
"""

from urllib.parse import parse_qs

from benchmarks.app import Message, Receive, Send, app as other
from benchmarks.jitter import COMPLETE, INCOMPLETE, OK, UNAVAILABLE
from wsgate import topics

ROOM = "jitter:room"
TRY_AGAIN_LATER = 1013

topics.configure("jitter:*", history=200, history_seconds=300)


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Serve one connection, request or lifespan."""
    if scope["type"] == "websocket" and scope["path"] in HANDLERS:
        await receive()
        await send({"type": "websocket.accept"})
        await HANDLERS[scope["path"]](scope, receive, send)
    else:
        await other(scope, receive, send)


async def join(scope: Message, receive: Receive, send: Send) -> None:
    """Send what the client has missed, then what is published, until it leaves."""
    after = parse_qs(scope["query_string"].decode()).get("after", [""])[0]
    try:
        back = await topics.of(scope).subscribe(ROOM, after=after, last=50 if after else 1)
    except topics.Unavailable:
        await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
        return
    await send({"type": "websocket.send", "text": COMPLETE if back.complete else INCOMPLETE})
    while (await receive())["type"] == "websocket.receive":
        pass


async def publish(scope: Message, receive: Receive, send: Send) -> None:
    """Publish what the client sends."""
    while (message := await receive())["type"] == "websocket.receive":
        text = message["text"]
        try:
            await topics.of(scope).publish(ROOM, text, id=text)
        except topics.Unavailable:
            await send({"type": "websocket.send", "text": UNAVAILABLE})
        else:
            await send({"type": "websocket.send", "text": OK})


HANDLERS = {"/join": join, "/publish": publish}
