"""An app that blocks the event loop for as long as the test wants."""

import sys
from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer; on /block not before a line comes on stdin."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    if scope["path"] == "/block":
        sys.stdout.write("blocked\n")
        sys.stdout.flush()
        sys.stdin.readline()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
