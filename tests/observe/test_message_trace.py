import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tests.saved_loggers import bare_loggers
from wsgate import loggers
from wsgate.loggers import TRACE
from wsgate.observe.message_trace import trace
from wsgate.types import Message, Receive, Scope, Send


@pytest.fixture
def lines() -> Iterator[list[str]]:
    collected: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert record.levelno == TRACE
            collected.append(record.getMessage())

    with bare_loggers():
        loggers.error.logger.addHandler(Collector())
        loggers.error.logger.setLevel(TRACE)
        loggers.error.logger.propagate = False
        yield collected


async def receive() -> Message:
    return {"type": "websocket.receive", "text": None, "bytes": b"secret"}


def call(app: Any, scope: Any) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    message = await receive()
    await send({"type": "websocket.send", "text": message["bytes"].decode()})


async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise LookupError("secret")


def test_each_message_is_logged_without_its_content(lines: list[str]) -> None:
    scope = {"type": "websocket", "client": ("::1", 5), "headers": [(b"cookie", b"secret")]}
    app = trace(echo)
    assert call(app, scope) == [{"type": "websocket.send", "text": "secret"}]
    assert lines == [
        f"[::1]:5 - ASGI [1] {line}"
        for line in (
            "Started scope={'type': 'websocket', 'client': ('::1', 5), 'headers': '<1 header>'}",
            "Receive {'type': 'websocket.receive', 'text': None, 'bytes': '<6 bytes>'}",
            "Send {'type': 'websocket.send', 'text': '<6 characters>'}",
            "Completed",
        )
    ]


def test_each_call_has_its_number(lines: list[str]) -> None:
    app = trace(echo)
    for _ in range(2):
        call(app, {"type": "lifespan"})
    assert [line for line in lines if "Started" in line] == [
        " - ASGI [1] Started scope={'type': 'lifespan'}",
        " - ASGI [2] Started scope={'type': 'lifespan'}",
    ]


def test_an_exception_is_logged_and_raised(lines: list[str]) -> None:
    with pytest.raises(LookupError, match="secret"):
        call(trace(fails), {"type": "lifespan"})
    assert lines[-1] == " - ASGI [1] Raised LookupError"
