"""An app that blocks the event loop until the test writes a line to its stdin."""

import sys
from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Respond; on /block wait for a line on stdin first."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    if scope["path"] == "/block":
        sys.stdout.write("blocked\n")
        sys.stdout.flush()
        sys.stdin.readline()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
