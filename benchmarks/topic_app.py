"""The app of the loads of topics: a WebSocket of the path /NAME subscribes the topic NAME.

It gets one message when it is subscribed, and what it sends is published to the topic.
"""

from benchmarks.app import Message, Receive, Send, app as common_app
from wsgate import topics


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Serve one WebSocket; everything else is that of the other loads."""
    if scope["type"] != "websocket":
        await common_app(scope, receive, send)
        return
    topic = scope["path"].strip("/")
    mine = topics.of(scope)
    await receive()
    await send({"type": "websocket.accept"})
    await mine.subscribe(topic)
    await send({"type": "websocket.send", "text": "subscribed"})
    while (message := await receive())["type"] == "websocket.receive":
        data = message.get("bytes")
        await mine.publish(topic, message["text"] if data is None else data)
