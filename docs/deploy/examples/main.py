"""An app to try a deployment with: a health check, a page with what the app sees, an echo."""

from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Echo WebSockets; answer `/healthz` with ok, and other requests with client and URL."""
    if scope["type"] == "websocket":
        await echo(receive, send)
    elif scope["type"] == "http":
        await respond(send, "ok\n" if scope["path"] == "/healthz" else page(scope))
    else:
        raise NotImplementedError(scope["type"])  # there is no lifespan


def page(scope: Any) -> str:
    """Return what the app knows of the client and of the URL."""
    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    return f"client {scope['client']}\nurl {scope['scheme']}://{host}{scope['path']}\n"


async def respond(send: Any, text: str) -> None:
    """Send a response of plain text."""
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


async def echo(receive: Any, send: Any) -> None:
    """Accept a WebSocket and send each message back."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
