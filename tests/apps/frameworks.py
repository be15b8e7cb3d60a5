"""The same small site in Starlette and in FastAPI, with the features that their users need."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request as FastRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect


@contextlib.asynccontextmanager
async def lifespan(_: object) -> AsyncIterator[dict[str, str]]:
    """Set a state that every request and WebSocket reads."""
    yield {"greeting": "hello from the lifespan"}


async def state(request: Request) -> JSONResponse:
    """Respond with the state of the lifespan."""
    return JSONResponse({"greeting": request.state.greeting})


async def stream(_: Request) -> StreamingResponse:
    """Stream numbers, a line each."""

    async def lines() -> AsyncIterator[str]:
        for number in range(1_000):
            yield f"{number}\n"

    return StreamingResponse(lines(), media_type="text/plain")


async def upload(request: Request) -> JSONResponse:
    """Count a body as it streams in."""
    return JSONResponse({"size": sum([len(chunk) async for chunk in request.stream()])})


async def talk(websocket: WebSocket) -> None:
    """Accept with a subprotocol and answer until the client disconnects."""
    await websocket.accept(subprotocol="chat.v2", headers=[(b"x-app", b"framework")])
    await websocket.send_text(websocket.state.greeting)
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await websocket.send_json({"got": await websocket.receive_json()})


async def refuse(websocket: WebSocket) -> None:
    """Refuse before the accept."""
    await websocket.close(code=1008)


async def deny(websocket: WebSocket) -> None:
    """Refuse with a denial response."""
    await websocket.send_denial_response(JSONResponse({"why": "no ticket"}, status_code=401))


starlette_app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/state", state),
        Route("/stream", stream),
        Route("/upload", upload, methods=["POST"]),
        WebSocketRoute("/talk", talk),
        WebSocketRoute("/refuse", refuse),
        WebSocketRoute("/deny", deny),
    ],
)

fastapi_app = FastAPI(lifespan=lifespan)
fastapi_app.websocket("/talk")(talk)
fastapi_app.websocket("/refuse")(refuse)
fastapi_app.websocket("/deny")(deny)


@fastapi_app.get("/state")
async def fast_state(request: FastRequest) -> dict[str, str]:
    """Respond with the state of the lifespan."""
    return {"greeting": request.state.greeting}


@fastapi_app.get("/stream")
async def fast_stream(request: FastRequest) -> StreamingResponse:
    """Stream numbers, a line each."""
    return await stream(request)


@fastapi_app.post("/upload")
async def fast_upload(request: FastRequest) -> dict[str, int]:
    """Count a body as it streams in."""
    return {"size": sum([len(chunk) async for chunk in request.stream()])}
