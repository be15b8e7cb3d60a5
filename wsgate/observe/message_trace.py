"""Logs the calls of an app and its messages, for --log-level trace."""

import itertools
from collections.abc import Mapping
from typing import Any

from wsgate import loggers, quantities
from wsgate.loggers import TRACE
from wsgate.observe.log_format import format_address
from wsgate.types import App, Message, Receive, Scope, Send

# What may be long or secret: its type is not shown, but its size.
_SIZED = {"body": "byte", "bytes": "byte", "text": "character", "headers": "header"}


def trace(app: App) -> App:
    """Return an app that does the same and logs each call, each message and each end."""
    numbers = itertools.count(1)

    async def traced(scope: Scope, receive: Receive, send: Send) -> None:
        call = f"{format_address(scope.get('client'))} - ASGI [{next(numbers)}]"

        async def logged_receive() -> Message:
            message = await receive()
            _log("%s Receive %s", call, _shown(message))
            return message

        async def logged_send(message: Message) -> None:
            _log("%s Send %s", call, _shown(message))
            await send(message)

        _log("%s Started scope=%s", call, _shown(scope))
        try:
            await app(scope, logged_receive, logged_send)
        except BaseException as error:
            _log("%s Raised %s", call, type(error).__name__)
            raise
        _log("%s Completed", call)

    return traced


def _log(text: str, *arguments: object) -> None:
    loggers.error.log(TRACE, text, *arguments)


def _shown(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message or a scope with the sizes of what it carries instead of the content."""
    return {key: _size(_SIZED.get(key), value) for key, value in message.items()}


def _size(unit: str | None, value: Any) -> Any:
    if unit is None or not hasattr(value, "__len__"):
        return value
    return f"<{quantities.count(len(value), unit)}>"
