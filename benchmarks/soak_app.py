"""The app of the soak: each WebSocket is in a room; texts are echoed, or published to the room."""

from urllib.parse import parse_qs

from benchmarks.app import Message, Receive, Send, app as other
from wsgate import topics

PUBLISH = "publish "


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Serve a WebSocket of /soak?room=NAME; all else is that of app.py."""
    if scope["type"] != "websocket" or scope["path"] != "/soak":
        await other(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    mine = topics.of(scope)
    room = parse_qs(scope["query_string"].decode())["room"][0]
    await mine.subscribe(room)
    await send({"type": "websocket.send", "text": "subscribed"})
    while (message := await receive())["type"] == "websocket.receive":
        if message["text"].startswith(PUBLISH):
            await mine.publish(room, message["text"])
        else:
            await send({"type": "websocket.send", "text": message["text"]})
