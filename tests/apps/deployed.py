"""An app behind a proxy: it echoes, shows its scope, and streams when it is told to."""

import asyncio
import json
from typing import Any

SIZE = 8 * 2**20  # bytes of /large
_PIECE = bytes(range(256)) * 256
_released = asyncio.Event()  # ends the response of /stream


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve the paths of this file; a WebSocket gets the scope first, then echoes."""
    if scope["type"] == "websocket":
        await _echo(scope, receive, send)
    elif scope["type"] == "http":
        await _PATHS[scope["path"]](scope, receive, send)
    else:
        raise NotImplementedError(scope["type"])


def report(line: str) -> None:
    """Write a line to the server's output."""
    print(line, flush=True)  # noqa: T201  # tests wait for it


def describe(scope: Any) -> str:
    """Return what a scope says of the client and the URL, as JSON."""
    names = ("type", "http_version", "scheme", "path", "root_path", "client", "server")
    shown = {name: scope.get(name) for name in names}
    shown["headers"] = [[k.decode("latin-1"), v.decode("latin-1")] for k, v in scope["headers"]]
    shown["tls"] = "tls" in scope.get("extensions", {})
    return json.dumps(shown)


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    if scope["path"] == "/scope":
        await send({"type": "websocket.send", "text": describe(scope)})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    report(f"disconnected with {message['code']}")


async def _respond(send: Any, body: bytes) -> None:
    length = str(len(body)).encode()
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]}
    await send(start)
    await send({"type": "http.response.body", "body": body})


async def _healthz(scope: Any, receive: Any, send: Any) -> None:
    await _respond(send, b"ok")


async def _scope(scope: Any, receive: Any, send: Any) -> None:
    await _respond(send, describe(scope).encode())


async def _body(scope: Any, receive: Any, send: Any) -> None:
    """Send the request's body back, once it is complete."""
    body = bytearray()
    while (message := await receive()).get("more_body"):
        body += message["body"]
    await _respond(send, bytes(body + message["body"]))


async def _stream(scope: Any, receive: Any, send: Any) -> None:
    """Send the first chunk at once, the last one after a request for /release.

    The query names further headers of the response: `length`, `unbuffered`.
    """
    _released.clear()
    headers = [_STREAM_HEADERS[name] for name in scope["query_string"].split(b",") if name]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"first,", "more_body": True})
    report("first chunk sent")
    await _released.wait()
    await send({"type": "http.response.body", "body": b"last"})


_STREAM_HEADERS = {
    b"length": (b"content-length", b"10"),
    b"unbuffered": (b"x-accel-buffering", b"no"),
}


async def _release(scope: Any, receive: Any, send: Any) -> None:
    _released.set()
    await _respond(send, b"released")


async def _large(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(SIZE // len(_PIECE)):
        await send({"type": "http.response.body", "body": _PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    report("sent all")


_PATHS = {
    "/healthz": _healthz,
    "/scope": _scope,
    "/body": _body,
    "/stream": _stream,
    "/release": _release,
    "/large": _large,
}
