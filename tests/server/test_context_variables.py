"""Context variables that one call of the app sets are invisible to other calls and the server."""

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests import frames
from tests.harness import loops
from tests.harness.client import handshake, text_frame
from wsgate.testing import LiveServer, serve

LOOPS = loops.LOOPS
PATIENCE = 30.0
LARGE = 3_000_000  # bytes: reading and writing pause

user = contextvars.ContextVar("user", default="nobody")
database = contextvars.ContextVar("database", default="none")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with what the call finds in its variables, and leave a user in them."""
    if scope["type"] == "lifespan":
        database.set("opened by the lifespan")
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    seen = f"{user.get()}, {database.get()}"
    user.set(scope["path"])
    database.set("changed by a call")
    await (converse if scope["type"] == "websocket" else answer)(scope, receive, send, seen)


async def answer(scope: Any, receive: Any, send: Any, seen: str) -> None:
    if scope["method"] == "POST":
        await receive_body(receive)
    body = seen.encode() + b"\n"
    if scope["path"] == "/large":
        body += b"x" * LARGE
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def receive_body(receive: Any) -> None:
    while (await receive())["more_body"]:
        pass  # reading was paused before, and is resumed here


async def converse(scope: Any, receive: Any, send: Any, seen: str) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": seen})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


FRESH = "nobody, opened by the lifespan"


class Answers:
    """A raw HTTP client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *requests: bytes) -> None:
        self.writer.write(b"".join(requests))

    async def seen(self) -> str:
        """Return what the next answer's call has found."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        return (await self.reader.readexactly(length)).decode().partition("\n")[0]


@contextlib.asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[tuple[LiveServer, Answers]]:
    async with asyncio.timeout(PATIENCE), serve(app, **options) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        yield server, Answers(reader, writer)
        writer.close()


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def post(path: str, size: int) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + b"x" * size


# -- consecutive calls -----------------------------------------------------------------------------


@pytest.mark.parametrize("http", ["fast", "h11"])
async def test_a_request_after_one_that_had_paused_reading(http: str) -> None:
    async with connected(http=http) as (_, client):
        client.send(post("/upload", LARGE))
        assert await client.seen() == FRESH
        client.send(get("/"))
        assert await client.seen() == FRESH


async def test_a_request_after_one_that_had_paused_writing() -> None:
    async with connected() as (_, client):
        client.send(get("/large"))
        assert await client.seen() == FRESH
        client.send(get("/"))
        assert await client.seen() == FRESH


@pytest.mark.parametrize("http", ["fast", "h11"])
@pytest.mark.parametrize("first", [get("/first"), post("/first", 10)])
async def test_requests_that_are_pipelined(http: str, first: bytes) -> None:
    async with connected(http=http) as (_, client):
        client.send(first, get("/second"), post("/third", 10), get("/fourth"))
        assert [await client.seen() for _ in range(4)] == [FRESH] * 4


async def test_a_thousand_requests_that_are_pipelined() -> None:
    async with connected(access_log=False) as (_, client):
        client.send(get("/") * 1_000)
        assert {await client.seen() for _ in range(1_000)} == {FRESH}


async def test_a_websocket_after_a_request() -> None:
    async with connected() as (_, client):
        client.send(get("/first"), handshake(target="/chat"))
        assert await client.seen() == FRESH
        await client.reader.readuntil(b"\r\n\r\n")
        assert await text(client.reader) == FRESH
        client.writer.write(frames.close(1000))
        await client.reader.read()


async def text(reader: asyncio.StreamReader) -> str:
    head = await reader.readexactly(2)
    return (await reader.readexactly(head[1])).decode()


# -- the initial context of a call -----------------------------------------------------------------


async def test_a_call_may_start_with_an_empty_context() -> None:
    async with connected(reset_contextvars=True) as (_, client):
        client.send(get("/first"), get("/second"))
        assert [await client.seen() for _ in range(2)] == ["nobody, none"] * 2


async def test_without_a_lifespan_a_call_has_the_variables_of_the_program() -> None:
    def set_and_serve() -> Any:
        database.set("opened by the program")
        return asyncio.ensure_future(ask())

    async def ask() -> str:
        async with connected(lifespan="off") as (_, client):
            client.send(get("/"))
            return await client.seen()

    # In a separate context, so that other tests do not see it.
    assert await contextvars.copy_context().run(set_and_serve) == "nobody, opened by the program"


async def test_the_variables_of_the_program_do_not_change() -> None:
    async with connected() as (_, client):
        client.send(get("/first"))
        await client.seen()
        assert (user.get(), database.get()) == ("nobody", "none")


# -- callbacks of the server -----------------------------------------------------------------------


class Users(logging.Handler):
    """Who is in the variables when a line is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.getMessage(), user.get()))


@pytest.fixture
def log() -> Iterator[Users]:
    users, logger = Users(), logging.getLogger("wsgate.access")
    level = logger.level
    logger.addHandler(users)
    logger.setLevel(logging.INFO)
    yield users
    logger.removeHandler(users)
    logger.setLevel(level)


async def test_the_end_of_a_websocket_is_logged_outside_any_call(log: Users) -> None:
    async with connected() as (server, client):
        client.send(handshake(target="/chat"))
        await client.reader.readuntil(b"\r\n\r\n")
        await text(client.reader)
        # More than the queue holds: what is left is parsed in callbacks that `receive` asks for.
        client.send(text_frame("x") * 100)
        assert [await text(client.reader) for _ in range(100)] == ["x"] * 100
        client.writer.transport.abort()
        await server.settled()
        (closed,) = [line for line in log.lines if "[closed]" in line[0]]
        assert closed[1] == "nobody"


async def test_a_malformed_pipelined_request_is_refused_outside_any_call() -> None:
    seen: list[str] = []

    class Errors(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(user.get())

    handler, logger = Errors(logging.WARNING), logging.getLogger("wsgate.error")
    logger.addHandler(handler)
    try:
        async with connected() as (_, client):
            client.send(get("/first"), b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
            assert await client.seen() == FRESH
            await client.reader.read()
    finally:
        logger.removeHandler(handler)
    assert seen == ["nobody"]
