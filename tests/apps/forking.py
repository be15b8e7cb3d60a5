"""An app that forks; the path names how the child ends its call."""

import os
import sys
from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the child's exit status."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    child = os.fork()
    if not child:
        leave(scope["path"])
        return
    status = wait_for(child)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % status})


def wait_for(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def leave(path: str) -> None:
    if path == "/exit":
        sys.exit(3)
    if path == "/message":
        sys.exit("no more work")
    if path == "/raise":
        raise ValueError("of the child")
