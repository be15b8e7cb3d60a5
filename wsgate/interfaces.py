"""Adapters that make ASGI 3 apps of ASGI 2 and WSGI apps."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
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

    After the client has left, the app's response is closed. PEP 3333: `close` is called "whether
    the request was completed normally, or terminated early due to [...] an early disconnect of the
    browser".

    Raises:
        ConfigError: a2wsgi is not installed.
    """
    try:
        from a2wsgi import WSGIMiddleware  # noqa: PLC0415  # it is optional
    except ImportError:
        missing = "--interface wsgi: a2wsgi is missing: pip install 'wsgate[wsgi]'"
        raise ConfigError(missing, setting="interface") from None

    def wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
        return _parts_until(_has_left.get(), app(environ, start_response))

    middleware: Any = WSGIMiddleware(wsgi)

    async def asgi3(scope: Scope, receive: Receive, send: Send) -> None:
        has_left = threading.Event()
        _has_left.set(has_left)  # a2wsgi calls the app with a copy of this context

        async def send_if_connected(message: Message) -> None:
            # a2wsgi stops sending at the first exception, and then the app's thread would wait for
            # its next part to be sent, for ever.
            try:
                await send(message)
            except ClientDisconnected:
                has_left.set()

        await middleware(scope, receive, send_if_connected)

    return asgi3


_has_left: ContextVar[threading.Event] = ContextVar("wsgate_has_left")  # of the call's client


def _parts_until(has_left: threading.Event, parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the parts of a WSGI response until its client has left, then close it.

    An endless response would otherwise keep one of a2wsgi's ten threads for ever.
    """
    try:
        for part in parts:
            if has_left.is_set():
                return
            yield part
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()
