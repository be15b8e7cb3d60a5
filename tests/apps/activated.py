"""An app that shows what its child processes inherit, and that can block the event loop."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

# What a child has that inherits all descriptors that are not close-on-exec.
CHILD = """
import os

def is_socket(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
    except OSError:  # the descriptor of the listing itself
        return False

variables = [name for name in os.environ if name.startswith("LISTEN_")]
sockets = [fd for fd in os.listdir("/proc/self/fd") if is_socket(fd)]
print(f"variables: {variables}, descriptors: {sockets}", end="")
"""


def _block() -> None:
    sys.stdout.write("blocked\n")
    sys.stdout.flush()
    Path("go-on").read_bytes()  # it waits until the test has written to the FIFO


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Respond with what a child inherits; on /block wait for the FIFO `go-on`, blocking."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    body = b""
    if scope["path"] == "/block":
        _block()
    else:
        child = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", CHILD],
            close_fds=False,
            check=True,
            capture_output=True,
            env=os.environ,
        )
        body = child.stdout
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})
