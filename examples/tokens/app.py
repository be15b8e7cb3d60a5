"""Token streaming: one answer, read over server-sent events, over WebSockets, or both.

    wsgate --app-dir examples/tokens app:app

A POST to /answers starts an answer and returns its id. Its tokens are published to a topic with
history, one message each, whether anybody reads them or not. So a reader may come late, lose its
network, or be on another worker: it names the last token that it has, and gets the rest.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from wsgate import topics
from wsgate.static import StaticFiles

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

MAX_QUESTION = 10_000  # bytes
MAX_TOKENS = 2_000
END = "end"  # the id of the message after the last token
PAGE = StaticFiles(Path(__file__).with_name("static"))

topics.configure("answer:*", history=MAX_TOKENS + 1, history_seconds=600)


async def think(question: str) -> AsyncIterator[str]:
    """Yield the tokens of an answer. Your model is called here."""
    for word in f"You asked: {question} I would say that it depends.".split()[:MAX_TOKENS]:
        await asyncio.sleep(0.05)
        yield word + " "


class Answers:
    """The answers that are being written."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, t: topics.Topics, question: str) -> str:
        """Begin an answer, and return its id."""
        answer = secrets.token_urlsafe(12)
        task = asyncio.create_task(self._write(t, f"answer:{answer}", question))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return answer

    async def _write(self, t: topics.Topics, topic: str, question: str) -> None:
        number = 0
        try:
            async for token in think(question):
                number += 1
                await t.publish(topic, token, id=str(number))
        finally:
            await t.publish(topic, "", id=END)

    async def stop(self) -> None:
        """End the answers that are not complete."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def tokens_of(t: topics.Topics, answer: str, after: str) -> AsyncIterator[topics.Message]:
    """Yield the tokens of an answer after the one with this id, as they are written."""
    async with t.listen(f"answer:{answer}", after=after, last=MAX_TOKENS) as messages:
        async for message in messages:
            if message.id == END:
                return
            yield message


answers = Answers()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one connection, request or lifespan."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await stream_over_websocket(scope, receive, send)
    elif scope["path"] == "/answers" and scope["method"] == "POST":
        await ask(scope, receive, send)
    elif scope["path"].startswith("/answers/"):
        await stream_over_http(scope, send)
    else:
        await PAGE(scope, receive, send)


async def ask(scope: Scope, receive: Receive, send: Send) -> None:
    """Start an answer to the question in the body."""
    body = b""
    while len(body) <= MAX_QUESTION:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    if len(body) > MAX_QUESTION:
        await respond(send, 413, b"The question is too long.\n", b"text/plain")
        return
    answer = answers.start(topics.of(scope), body.decode(errors="replace"))
    await respond(send, 201, json.dumps({"id": answer}).encode(), b"application/json")


async def stream_over_http(scope: Scope, send: Send) -> None:
    """Send the tokens as server-sent events; the browser reconnects with Last-Event-ID."""
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send_part(send, b": the first token may take a while\n\n")
    last_seen = dict(scope["headers"]).get(b"last-event-id", b"").decode("latin-1")
    if last_seen != END:
        async for token in tokens_of(topics.of(scope), answer_of(scope), last_seen):
            event = f"id: {token.id}\ndata: {json.dumps(token.data)}\n\n"
            await send_part(send, event.encode())
    await send_part(send, b"id: end\nevent: end\ndata:\n\n", more=False)


async def stream_over_websocket(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the tokens as messages; a client that comes back names the last one: ?after=7."""
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    after = parse_qs(scope["query_string"].decode("latin-1")).get("after", [""])[0]
    async for token in tokens_of(topics.of(scope), answer_of(scope), after):
        text = json.dumps({"id": token.id, "token": token.data})
        await send({"type": "websocket.send", "text": text})
    await send({"type": "websocket.close", "code": 1000, "reason": END})


def answer_of(scope: Scope) -> str:
    """Return the id of the answer in a path."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")).removeprefix("/answers/")[:100]


async def send_part(send: Send, body: bytes, *, more: bool = True) -> None:
    """Send a part of a response's body."""
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def respond(send: Send, status: int, body: bytes, kind: bytes) -> None:
    """Send a whole response."""
    headers = [(b"content-type", kind)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send_part(send, body, more=False)


async def lifespan(receive: Receive, send: Send) -> None:
    """End the answers with the server."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await answers.stop()
    await send({"type": "lifespan.shutdown.complete"})
