"""Adapters that make ASGI 3 apps of ASGI 2 and WSGI apps."""

from collections.abc import Callable
from typing import Any

from wsgate.errors import ClientDisconnected, ConfigError
from wsgate.types import App, Message, Receive, Scope, Send


def adapt_asgi2(app: Callable[..., Any]) -> App:
    """Return an ASGI 2 app as an ASGI 3 app.

    ASGI specification 2.0: the app is called with the scope, and what it returns is awaited with
    `receive` and `send`.
    """

    async def asgi3(scope: Scope, receive: Receive, send: Send) -> None:
        versions: Any = {**scope["asgi"], "version": "2.0"}
        scope["asgi"] = versions
        await app(scope)(receive, send)

    return asgi3


def adapt_wsgi(app: Callable[..., Any]) -> App:
    """Return a WSGI app as an ASGI 3 app, which calls it in threads.

    Raises:
        ConfigError: a2wsgi is not installed.
    """
    try:
        from a2wsgi import WSGIMiddleware  # noqa: PLC0415  # it is optional
    except ImportError:
        missing = "--interface wsgi: a2wsgi is missing: pip install 'wsgate[wsgi]'"
        raise ConfigError(missing, setting="interface") from None
    middleware: Any = WSGIMiddleware(app)

    async def asgi3(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_if_connected(message: Message) -> None:
            # a2wsgi stops sending at the first exception, and then the app's thread would wait for
            # its next part to be sent, for ever. WSGI has no way to notify the app.
            try:
                await send(message)
            except ClientDisconnected:
                return

        await middleware(scope, receive, send_if_connected)

    return asgi3
