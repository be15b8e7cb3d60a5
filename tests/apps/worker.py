"""An app for workers: it says which process serves, and fails, blocks or grows when told to."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

_held: list[bytes] = []  # what /grow has allocated

_FILES = {path.name for path in Path.cwd().iterdir()}  # a test creates some

if "fails" in _FILES:
    raise RuntimeError("the app cannot be imported")
if "exits" in _FILES:
    os._exit(7)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve the paths of this file; a WebSocket gets the process id first, then echoes."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "websocket":
        await _echo(receive, send)
    else:
        body = await _answer(scope["path"])
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Any, send: Any) -> None:
    await receive()
    if "refuses" in _FILES:
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        return
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def _echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": str(os.getpid())})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def _answer(path: str) -> bytes:
    if path == "/block":
        _block()
    elif path == "/exit":
        os._exit(5)
    elif path == "/grow":
        _held.append(b"x" * 2**26)
    elif path == "/ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif path.startswith("/block/"):
        _block(float(path.removeprefix("/block/")))
    elif path == "/program":
        return _start_program()
    elif path == "/orphan":
        return _start_orphan()
    elif path == "/wait":
        await asyncio.sleep(3600)
    return str(os.getpid()).encode()


def _start_orphan() -> bytes:
    """Start a process whose parent ends at once, so that it becomes a child of process 1."""
    subprocess.run(["sh", "-c", "sleep 0.1 &"], check=True)
    return b"started"


def _start_program() -> bytes:
    """Start a program that inherits all that it may, and return its process id."""
    null = subprocess.DEVNULL
    program = subprocess.Popen(["sleep", "600"], close_fds=False, stdout=null, stderr=null)
    return str(program.pid).encode()


def _block(seconds: float = 3600) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        time.sleep(seconds)
