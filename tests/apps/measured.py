"""An app for metrics: it echoes, counts by prometheus-client, and starts when it is told to."""

import asyncio
import os
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from wsgate import topics

ECHOES = Counter("app_echoes_total", "Messages that were echoed.", ["kind"])
LEVEL = Gauge("app_level", "The process id.")
WORK = Histogram("app_work_seconds", "Time of the work.", buckets=(0.5, 1.0))


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Echo on a WebSocket; it also takes "subscribe NAME", "publish NAME", "fail" and "who"."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "websocket":
        await _echo(scope, receive, send)
    else:
        LEVEL.set(os.getpid())
        WORK.observe(0.75)
        body = str(os.getpid()).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Any, send: Any) -> None:
    await receive()
    while Path("starting").exists():  # noqa: ASYNC110, ASYNC240  # a file of the test
        await asyncio.sleep(0.02)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    mine = topics.of(scope)
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text") or ""
        word, _, name = text.partition(" ")
        if word == "subscribe":
            await mine.subscribe(name)
        elif word == "publish":
            await mine.publish(name, "published")
        elif word == "who":
            text = scope["extensions"]["wsgate"]["connection_id"]
            await send({"type": "websocket.send", "text": text})
            continue
        elif word == "fail":
            raise RuntimeError("as it was told to")
        ECHOES.labels("text" if message.get("bytes") is None else "bytes").inc()
        await send({**message, "type": "websocket.send"})
