"""Apps for the tests of Unix sockets: one changes the working directory, one fails to start."""

import os
from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Respond with the process id; support lifespan."""
    if scope["type"] == "lifespan":
        for stage in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{stage}.complete"})
        return
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})


async def moves(scope: Any, receive: Any, send: Any) -> None:
    """Change the working directory in the startup."""
    if scope["type"] == "lifespan":
        os.chdir("/")
        print("the app is in", os.getcwd(), flush=True)  # noqa: PTH109, T201  # for the test
    await app(scope, receive, send)


async def refuses(scope: Any, receive: Any, send: Any) -> None:
    """Fail the startup."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
