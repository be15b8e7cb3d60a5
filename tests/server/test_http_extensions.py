"""The ASGI extensions http.response.trailers and http.response.early_hint, over a connection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.harness.app import START, AppCall, ScriptedApp, piece
from tests.harness.log import LogCapture, capture_log
from tests.harness.waiting import is_waiting, nothing_left, start_task
from wsgate.errors import IllegalMessage, InvalidMessage
from wsgate.server.connection import HIGH_WATER
from wsgate.testing import MemoryClient, connect

GET = b"GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n\r\n"
HINT = {"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload; as=style"]}
HINTED = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload; as=style\r\n\r\n"
EXPECT = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"


def trailers(*headers: tuple[bytes, bytes], more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.trailers", "headers": headers, "more_trailers": more}


@pytest.fixture(params=["h11", "fast"])
def parser(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def log() -> Iterator[LogCapture]:
    with capture_log() as lines:
        yield lines


@contextlib.asynccontextmanager
async def played(parser: str, data: bytes = GET) -> AsyncIterator[tuple[MemoryClient, AppCall]]:
    """Send a request, and give the app's call to play."""
    app = ScriptedApp()
    async with nothing_left(), asyncio.timeout(30), connect(app, http=parser) as client:
        client.send(data)
        yield client, await app.called()


# -- trailers --------------------------------------------------------------------------------------


async def test_trailers_follow_a_chunked_body_and_the_connection_goes_on(
    parser: str, log: LogCapture
) -> None:
    async with played(parser, GET + b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n") as (client, call):
        assert "http.response.trailers" in call.scope["extensions"]
        await call.send({**START, "trailers": True})
        await call.send(piece(b"hello", more=False))
        assert log.access == []
        await call.send(trailers((b"X-Sum", b"1"), more=True))
        await call.send(trailers((b"server-timing", b"db;dur=53")))
        head = await client.until(b"\r\n\r\n")
        assert b"\r\ntransfer-encoding: chunked\r\n" in head.lower()
        assert b"content-length" not in head.lower()
        assert await client.until(b"53\r\n\r\n") == (
            b"5\r\nhello\r\n0\r\nx-sum: 1\r\nserver-timing: db;dur=53\r\n\r\n"
        )
        assert len(log.access) == 1
        call.finish()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"HEAD / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n\r\n", 200),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (GET, 204),
    ],
)
async def test_trailers_that_cannot_be_sent_are_dropped(
    parser: str, request_: bytes, status: int, log: LogCapture
) -> None:
    async with played(parser, request_) as (client, call):
        await call.send({**START, "status": status, "trailers": True})
        await call.send(piece(b"hello", more=False))
        await call.send(trailers((b"x-sum", b"1")))
        assert b"x-sum" not in await client.until(b"\r\n\r\n")
        if request_.endswith(b"1.0\r\n\r\n"):
            assert await client.ended() == b"hello"
        assert len(log.access) == 1
        call.finish()


async def test_a_forbidden_trailer_is_an_error_of_the_app(parser: str) -> None:
    async with played(parser) as (client, call):
        await call.send({**START, "trailers": True})
        await call.send(piece(b"a", more=False))
        await call.send_raises(trailers((b"content-type", b"a/b")), InvalidMessage, "be a trailer")
        await call.send(trailers((b"x-sum", b"1")))
        assert (await client.until(b"x-sum: 1\r\n\r\n")).endswith(b"0\r\nx-sum: 1\r\n\r\n")
        call.finish()


async def test_a_response_without_announced_trailers_is_incomplete(
    parser: str, log: LogCapture
) -> None:
    async with played(parser) as (client, call):
        await call.send({**START, "trailers": True})
        await call.send(piece(b"a", more=False))
        call.finish()
        assert (await client.ended()).endswith(b"\r\n\r\n1\r\na\r\n")  # without its last chunk
    assert log.errors == ["ASGI callable returned without completing its response"]


async def test_trailers_wait_for_a_client_that_does_not_read(parser: str) -> None:
    async with played(parser) as (client, call):
        client.stall()
        await call.send({**START, "trailers": True})
        body = start_task(call.send(piece(b"x" * 2 * HIGH_WATER, more=False)))
        assert await is_waiting(body)
        last = start_task(call.send(trailers((b"x-sum", b"1"))))
        assert await is_waiting(last)
        client.read_on()
        await asyncio.gather(body, last)
        assert (await client.until(b"x-sum: 1\r\n\r\n")).endswith(b"\r\n0\r\nx-sum: 1\r\n\r\n")
        call.finish()


# -- early hints -----------------------------------------------------------------------------------


async def test_early_hints_are_sent_at_once_and_the_response_follows(
    parser: str, log: LogCapture
) -> None:
    async with played(parser) as (client, call):
        assert "http.response.early_hint" in call.scope["extensions"]
        await call.send(HINT)
        assert await client.until(b"\r\n\r\n") == HINTED
        await call.send(HINT)
        assert log.access == []
        await call.respond(b"hello")
        assert await client.until(b"\r\n\r\n") == HINTED
        assert (await client.until(b"\r\n\r\nhello")).startswith(b"HTTP/1.1 200 OK\r\n")
        await call.send_raises(HINT, IllegalMessage, "response complete")
        call.finish()


async def test_http_1_0_clients_get_no_early_hints(parser: str) -> None:
    async with played(parser, b"GET / HTTP/1.0\r\n\r\n") as (client, call):
        await call.send(HINT)
        await call.respond(b"hello")
        assert (await client.ended()).startswith(b"HTTP/1.1 200 OK\r\n")
        call.finish()


async def test_an_early_hint_is_not_the_100_that_a_client_waits_for(parser: str) -> None:
    async with played(parser, EXPECT) as (client, call):
        await call.send(HINT)
        assert await client.until(b"\r\n\r\n") == HINTED
        body = call.start_receive()
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert (await body)["body"] == b"hello"
        await call.respond()
        assert b"connection: close" not in (await client.until(b"\r\n\r\n")).lower()
        call.finish()


async def test_an_app_may_still_fail_with_a_500_after_an_early_hint(
    parser: str, log: LogCapture
) -> None:
    async with played(parser) as (client, call):
        await call.send(HINT)
        call.finish(LookupError("no"))
        assert await client.until(b"\r\n\r\n") == HINTED
        assert (await client.ended()).startswith(b"HTTP/1.1 500 ")
    assert log.errors == ["Exception in ASGI application"]


async def test_a_link_with_a_line_break_is_refused(parser: str) -> None:
    async with played(parser) as (client, call):
        invalid = {**HINT, "links": [b"</a>\r\nset-cookie: a=b"]}
        await call.send_raises(invalid, InvalidMessage, "control character")
        await call.respond()
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        call.finish()
