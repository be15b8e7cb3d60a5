"""An app that a test plays itself, and what such tests need beside it."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

START = {"type": "http.response.start", "status": 200}
END = {"type": "http.response.body"}


def piece(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


class Call:
    """One call of the app, which the test plays."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        self.receive: Callable[[], Awaitable[Any]] = receive
        self.send: Callable[[Any], Awaitable[None]] = send
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def answer(self, body: bytes = b"", status: int = 200, *headers: Any) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send(piece(body, more=False))

    async def refused(self, message: Any, error: type[Exception], match: str) -> None:
        with pytest.raises(error, match=match):
            await self.send(message)

    def returns(self) -> None:
        self.end.set_result(None)

    def raises(self, error: BaseException) -> None:
        self.end.set_exception(error)


class Puppet:
    """An app whose calls the test plays itself."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[Call] = asyncio.Queue()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        call = Call(scope, receive, send)
        self.calls.put_nowait(call)
        await call.end

    async def called(self) -> Call:
        async with asyncio.timeout(5):
            return await self.calls.get()


class Lines(logging.Handler):
    """What is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def access(self) -> list[str]:
        return [r.getMessage() for r in self.records if r.name == "wsgate.access"]

    def at(self, level: int) -> list[str]:
        own = [r for r in self.records if r.name == "wsgate.error" and r.levelno == level]
        return [r.getMessage() for r in own]

    @property
    def errors(self) -> list[str]:
        return self.at(logging.ERROR)

    @property
    def warnings(self) -> list[str]:
        return self.at(logging.WARNING)


async def turns(count: int = 20) -> None:
    """Let everything run that can."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(holds: Callable[[], object]) -> None:
    """Let the loop run until something holds."""
    async with asyncio.timeout(10):
        while not holds():
            await turns(1)


async def waits(task: "asyncio.Task[Any]") -> bool:
    await turns()
    return not task.done()


def task_of(awaitable: Awaitable[Any]) -> "asyncio.Task[Any]":
    async def run() -> Any:
        return await awaitable

    return asyncio.create_task(run())


@contextlib.contextmanager
def logged() -> Iterator[Lines]:
    """Keep what is logged, whatever an earlier test has made of the loggers."""
    lines = Lines()
    loggers = [logging.getLogger(name) for name in ("wsgate.error", "wsgate.access")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(lines)
        logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(lines)
            logger.setLevel(level)


@contextlib.asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """See that no task is left behind, and that none failed without anyone's knowing."""
    troubles: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not troubles
