"""A FastAPI site whose handlers never end and do not handle disconnects."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.responses import Response, StreamingResponse

site = FastAPI()


async def endless() -> AsyncIterator[bytes]:
    """Yield data forever."""
    while True:
        yield b"x" * 1_000
        await asyncio.sleep(0)


@site.get("/stream")
async def stream() -> StreamingResponse:
    """Stream forever."""
    return StreamingResponse(endless())


@site.post("/upload")
async def upload(request: Request) -> int:
    """Read a body that may be cut short."""
    return len(await request.body())


@site.websocket("/talk")
async def talk(websocket: WebSocket) -> None:
    """Send forever."""
    await websocket.accept()
    while True:
        await websocket.send_text("x" * 1_000)
        await asyncio.sleep(0)


@site.websocket("/listen")
async def listen(websocket: WebSocket) -> None:
    """Receive forever."""
    await websocket.accept()
    while True:
        await websocket.receive_text()


@site.websocket("/both")
async def both(websocket: WebSocket) -> None:
    """Send and receive forever, in tasks of one group."""
    await websocket.accept()

    async def sends() -> None:
        while True:
            await websocket.send_text("x")
            await asyncio.sleep(0)

    async def receives() -> None:
        while True:
            await websocket.receive_text()

    async with asyncio.TaskGroup() as group:
        group.create_task(sends())
        group.create_task(receives())


class PassingOn(BaseHTTPMiddleware):
    """A middleware that changes nothing."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Pass the request on."""
        return await call_next(request)


app: Any = site
app_with_middleware: Any = PassingOn(site)
