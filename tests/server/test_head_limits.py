"""Limits of a request's head, in server processes with both loops and both HTTP parsers."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.harness.client import KEY
from tests.harness.processes import ServerProcess, running

APP = "tests.apps.shape:app"
LONG = 150_000
# The access log would have lines longer than the test's reader takes.
LARGE = ("--h11-max-incomplete-event-size", "200000", "--no-access-log")
PATIENCE = 30.0
UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: %b\r\n" % KEY.encode()
)


@pytest.fixture(params=["fast", "h11"])
def http(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def get(target: bytes = b"/", fields: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (target, fields)


def with_fields(count: int) -> bytes:
    """Return a request with so many header fields, each another."""
    return get(fields=b"".join(b"X-%d: a\r\n" % number for number in range(count - 1)))


def with_trailers(count: int) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"1\r\na\r\n0\r\n" + b"A: b\r\n" * count + b"\r\n"


@contextlib.asynccontextmanager
async def connected(
    server: ServerProcess,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


async def answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    """Return the status and the body of the next response."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None
    body = await reader.readexactly(int(length[1]))
    status = int(head[9:12])
    return status, json.loads(body) if status == 200 else body.decode()


async def asked(server: ServerProcess, *requests: bytes) -> list[tuple[int, Any]]:
    """Return the answers to requests that are sent at once on one connection."""
    async with connected(server) as (reader, writer):
        writer.write(b"".join(requests))
        return [await answer(reader) for _ in requests]


async def test_a_larger_head_may_hold_a_long_target(loop_name: str, http: str) -> None:
    options = (*LARGE, "--loop", loop_name, "--http", http)
    async with running(APP, *options) as server:
        path, query = b"/" + b"a" * (LONG - 1), b"/?" + b"b" * (LONG - 2)
        said = await asked(server, get(path), get(query), get(path))
        assert [(status, shape["target"]) for status, shape in said] == [(200, LONG)] * 3
        said = await asked(server, with_fields(1_000), with_fields(101), with_fields(3_125))
        assert [(status, shape["headers"]) for status, shape in said] == [
            (200, 1_000),
            (200, 101),
            (200, 3_125),
        ]
        assert (await asked(server, with_trailers(3_125)))[0][0] == 200
        assert (await asked(server, get(b"/" + b"a" * 200_000)))[0][0] == 414
        assert (await asked(server, with_fields(3_126)))[0][0] == 431
        assert (await asked(server, with_trailers(3_126)))[0][0] == 431


async def test_a_websocket_may_have_a_long_target(loop_name: str, http: str) -> None:
    options = (*LARGE, "--loop", loop_name, "--http", http)
    async with (
        running(APP, *options) as server,
        connected(server) as (reader, writer),
    ):
        writer.write(get(b"/?" + b"a" * (LONG - 2), UPGRADE))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        first, length = await reader.readexactly(2)
        assert first == 0x81
        assert json.loads(await reader.readexactly(length))["target"] == LONG


async def test_by_default_a_target_has_8_kib_and_a_head_100_fields(http: str) -> None:
    async with running(APP, "--http", http) as server:
        target = b"/" + b"a" * 8_191
        said = await asked(server, get(target), with_fields(100), with_trailers(100))
        assert [status for status, _ in said] == [200, 200, 200]
        for raw, status in (
            (get(target + b"a"), 414),
            (get(b"/" + b"a" * LONG), 414),
            (with_fields(101), 431),
            (with_fields(1_000), 431),
            (with_trailers(101), 431),
        ):
            assert (await asked(server, raw))[0][0] == status


async def test_both_limits_are_settings(http: str) -> None:
    limits = ("--limit-request-target", "20000", "--limit-request-fields", "1000")
    async with running(APP, *limits, "--http", http) as server:
        target = b"/" + b"a" * 19_999
        said = await asked(server, get(target), with_fields(1_000), with_trailers(1_000))
        assert [status for status, _ in said] == [200, 200, 200]
        for raw, status in (
            (get(target + b"a"), 414),
            (with_fields(1_001), 431),
            (with_trailers(1_001), 431),
        ):
            assert (await asked(server, raw))[0][0] == status
    limits = ("--limit-request-target", "10", "--limit-request-fields", "2")
    large = ("--limit-request-head", "200000")
    async with running(APP, *limits, *large, "--http", http) as server:
        said = await asked(server, get(b"/aaaaaaaaa"), with_fields(2))
        assert [status for status, _ in said] == [200, 200]
        assert (await asked(server, get(b"/aaaaaaaaaa")))[0][0] == 414
        assert (await asked(server, with_fields(3)))[0][0] == 431
