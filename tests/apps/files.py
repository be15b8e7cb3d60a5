"""Apps that send a file whose path is in the environment: by Starlette, and by hand."""

import os
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

PATH = os.environ.get("WSGATE_TEST_FILE", "")


async def respond(request: Request) -> FileResponse:
    """Respond with the file; Starlette uses pathsend for a whole file if the server has it."""
    assert "http.response.pathsend" in request.scope["extensions"]
    return FileResponse(PATH, filename="file.bin")


starlette_app = Starlette(routes=[Route("/", respond)])


async def plain_app(scope: Any, receive: Any, send: Any) -> None:
    """Respond 404 to everything."""
    del receive
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 404})
    await send({"type": "http.response.body", "body": b"by the app"})
