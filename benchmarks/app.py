"""The app that every server runs: WebSockets, and a short response to HTTP requests.

A WebSocket of the path / is an echo. One of /work takes WORK_SECONDS of processor time for each
message before it sends the message back. One of /fan sends it to all that are open, one of /fan/32
does so 32 times: by a topic if the server has them, else by a loop. One of /pid sends the id of its
process first, and an HTTP request of /pid is answered with it. One of /topics does what
topic_latency.py asks for.
"""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

WORK_SECONDS = 0.0002
BODY = b"Hello, World!"


def response_start(size: int) -> Message:
    """Return the start of a response with a body of `size` bytes."""
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % size)]
    return {"type": "http.response.start", "status": 200, "headers": headers}


START = response_start(len(BODY))


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Serve one request, WebSocket or lifespan."""
    if scope["type"] == "websocket":
        if scope["path"].startswith("/fan"):
            await fan_out(scope, receive, send)
        elif scope["path"] == "/topics":
            await publish_or_listen(scope, receive, send)
        else:
            await WEBSOCKETS.get(scope["path"], echo)(receive, send)
    elif scope["type"] == "http":
        if scope["path"] == "/pid":
            await respond_with_pid(send)
            return
        await send(START)
        await send({"type": "http.response.body", "body": BODY})
    elif scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


async def echo(receive: Receive, send: Send) -> None:
    """Accept the WebSocket and send each message back unchanged."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        data = message.get("bytes")
        if data is not None:
            await send({"type": "websocket.send", "bytes": data})
        else:
            await send({"type": "websocket.send", "text": message["text"]})


async def work_and_echo(receive: Receive, send: Send) -> None:
    """Like `echo`, but keep the processor busy for each message."""

    async def receive_and_work() -> Message:
        message = await receive()
        work()
        return message

    await echo(receive_and_work, send)


def work() -> None:
    """Use WORK_SECONDS of processor time.

    The clock of the thread counts only the time in which the thread runs. So the work is the same
    however many other processes want the processor.
    """
    end = time.thread_time() + WORK_SECONDS
    while time.thread_time() < end:
        pass


async def fan_out(scope: Message, receive: Receive, send: Send) -> None:
    """Send each message to all WebSockets, as often as the path says."""
    times = int(scope["path"].rpartition("/")[2].removeprefix("fan") or 1)
    await receive()
    await send({"type": "websocket.accept"})
    if "wsgate.topics" in scope.get("extensions", {}):
        await by_topic(scope, receive, times)
    else:
        await by_loop(receive, send, times)


async def by_topic(scope: Message, receive: Receive, times: int) -> None:
    """Send by a topic of wsgate."""
    from wsgate import topics  # noqa: PLC0415  # the other servers have none

    mine = topics.of(scope)
    await mine.subscribe("fan")
    while (message := await receive())["type"] == "websocket.receive":
        data = message.get("bytes")
        for _ in range(times):
            await mine.publish("fan", message["text"] if data is None else data)


async def publish_or_listen(scope: Message, receive: Receive, send: Send) -> None:
    """Send the id of this process; then publish the time to a topic, or report the delays."""
    from wsgate import topics  # noqa: PLC0415  # the other servers have none

    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": str(os.getpid())})
    mine = topics.of(scope)
    while (message := await receive())["type"] == "websocket.receive":
        command, count, *pause = message["text"].split()
        if command == "publish":
            for _ in range(int(count)):
                await mine.publish("delay", str(time.monotonic_ns()))
                await asyncio.sleep(float(*pause))
            continue
        delays: list[int] = []
        async with mine.listen("delay") as messages:
            await send({"type": "websocket.send", "text": "listening"})
            async for one in messages:
                delays.append(time.monotonic_ns() - int(one.data))
                if len(delays) == int(count):
                    break
        await send({"type": "websocket.send", "text": json.dumps(delays)})


async def by_loop(receive: Receive, send: Send, times: int) -> None:
    """Send by a loop over all clients, as every chat has it."""
    CLIENTS.add(send)
    try:
        while (message := await receive())["type"] == "websocket.receive":
            kind = "text" if message.get("bytes") is None else "bytes"
            answer = {"type": "websocket.send", kind: message[kind]}
            for _ in range(times):
                for client in list(CLIENTS):
                    await client(answer)
    finally:
        CLIENTS.discard(send)


CLIENTS: set[Send] = set()


async def send_pid(receive: Receive, send: Send) -> None:
    """Accept the WebSocket, send the id of this process, and ignore what the client sends."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": str(os.getpid())})
    while (await receive())["type"] == "websocket.receive":
        pass


async def respond_with_pid(send: Send) -> None:
    """Answer an HTTP request with the id of this process."""
    body = b"%d" % os.getpid()
    await send(response_start(len(body)))
    await send({"type": "http.response.body", "body": body})


WEBSOCKETS = {"/work": work_and_echo, "/pid": send_pid}
