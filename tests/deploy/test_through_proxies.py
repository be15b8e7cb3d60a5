"""Messages, requests and responses through nginx, HAProxy and Caddy."""

import hashlib
import os

import pytest

from tests.apps import deployed
from tests.deploy.stack import (
    CLIENT,
    PATIENCE,
    Certificates,
    Stack,
    check_echo,
    proxied,
)
from tests.harness.proxies import HOST, caddy_redirecting, nginx
from tests.harness.tcp import connect_tcp
from tests.harness.waiting import soon, start_task

pytestmark = pytest.mark.asyncio(loop_scope="module")
SCHEMES = {"ws": "http", "wss": "https"}
BUFFERING = {"proxy_buffering off;": "proxy_buffering on;"}
# What a client may claim; no proxy may pass it on.
FORGED = (
    ("X-Forwarded-For", "203.0.113.6"),
    ("X-Forwarded-Proto", "gopher"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Port", "666"),
    ("X-Forwarded-Prefix", "/evil"),
    ("Forwarded", "for=203.0.113.6;proto=gopher;host=evil.example"),
)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("compression", ["deflate", None])
async def test_websockets_echo(stack: Stack, scheme: str, compression: str | None) -> None:
    async with stack.entrance.connect(scheme, compression=compression) as websocket:
        extensions = [extension.name for extension in websocket.protocol.extensions]
        assert extensions == (["permessage-deflate"] if compression else [])
        mib = 2**20
        await check_echo(websocket, "hi", "\u65e5\u672c", b"\x00\xff", "x" * mib, os.urandom(mib))
        await websocket.close(4000, "bye")
    assert websocket.close_code == 4000


@pytest.mark.parametrize("scheme", SCHEMES.values())
async def test_requests_and_bodies(stack: Stack, scheme: str) -> None:
    body = os.urandom(2**20)
    async with stack.entrance.client(scheme) as client:
        for _ in range(3):
            response = await client.post("/body", content=body)
            assert (response.status_code, response.content) == (200, body)


async def test_a_client_keeps_its_connection(stack: Stack) -> None:
    async with connect_tcp(stack.entrance.port("http")) as client:
        for _ in range(3):
            response = await client.ask(f"GET /healthz HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            assert (response.status, response.body) == (200, b"ok")


@pytest.mark.parametrize("forged", [(), FORGED], ids=["plain", "forged"])
@pytest.mark.parametrize("scheme", ["http", "https", "ws", "wss"])
async def test_forwarded_headers_are_the_proxy_s(
    stack: Stack, scheme: str, forged: tuple[tuple[str, str], ...]
) -> None:
    scope = await stack.entrance.scope(scheme, *forged)
    headers = [(name, value) for name, value in scope["headers"] if "forwarded" in name]
    external = SCHEMES.get(scheme, scheme)
    wanted = [("x-forwarded-for", CLIENT), ("x-forwarded-proto", external)]
    assert sorted(h for h in headers if h[0] != "x-forwarded-host") == wanted
    assert {value for name, value in headers if name == "x-forwarded-host"} <= {HOST}
    assert {value for name, value in scope["headers"] if name == "host"} <= {
        HOST,
        f"{HOST}:{stack.entrance.port(scheme)}",  # by a WebSocket client
    }


@pytest.mark.parametrize("forged", [(), FORGED], ids=["plain", "forged"])
@pytest.mark.parametrize("scheme", ["http", "https", "ws", "wss"])
async def test_the_app_sees_the_client_and_the_scheme(
    stack: Stack, scheme: str, forged: tuple[tuple[str, str], ...]
) -> None:
    scope = await stack.entrance.scope(scheme, *forged)
    assert scope["client"][0] == CLIENT
    assert scope["scheme"] == scheme
    assert scope["root_path"] == ""
    assert [value for name, value in scope["headers"] if name == "host"] == [HOST]


async def test_a_streamed_response_is_forwarded_as_it_comes(stack: Stack) -> None:
    async with (
        stack.entrance.client("https") as client,
        client.stream("GET", "/stream") as response,
    ):
        chunks = response.aiter_text()
        assert await soon(anext(chunks), PATIENCE) == "first,"
        assert (await client.get("/release")).text == "released"
        assert await soon(anext(chunks), PATIENCE) == "last"


async def test_a_slow_client_gets_a_large_response(stack: Stack) -> None:
    async with connect_tcp(stack.entrance.port("http")) as client:
        client.send(f"GET /large HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        await client.read_until(b"\r\n\r\n")
        expected = bytes(range(256)) * (deployed.SIZE // 256)
        body = bytearray()
        while piece := await soon(client.reader.read(4096), PATIENCE):
            body += piece
    assert hashlib.sha256(body).digest() == hashlib.sha256(expected).digest()


@pytest.mark.parametrize("query", ["", "length,unbuffered"])
async def test_nginx_that_buffers_forwards_chunks_or_what_it_is_told_to(
    certificates: Certificates, query: str
) -> None:
    async with (
        proxied(nginx, certificates, changes=BUFFERING) as stack,
        stack.entrance.client("http") as client,
        client.stream("GET", f"/stream?{query}") as response,
    ):
        chunks = response.aiter_text()
        assert await soon(anext(chunks), PATIENCE) == "first,"
        await client.get("/release")
        assert await soon(anext(chunks), PATIENCE) == "last"


async def test_nginx_that_buffers_holds_a_response_with_a_length(
    certificates: Certificates,
) -> None:
    async with (
        proxied(nginx, certificates, changes=BUFFERING) as stack,
        stack.entrance.client("http") as client,
    ):
        request = start_task(client.get("/stream?length"))
        await stack.servers[0].logged("first chunk sent")
        for _ in range(20):
            assert (await client.get("/healthz")).text == "ok"
        assert not request.done()  # not even the head is here
        await client.get("/release")
        assert (await soon(request, PATIENCE)).text == "first,last"


@pytest.mark.parametrize("is_buffering", [True, False])
async def test_nginx_that_buffers_takes_a_response_off_the_app(
    certificates: Certificates, is_buffering: bool
) -> None:
    changes = BUFFERING if is_buffering else {}
    async with (
        proxied(nginx, certificates, changes=changes) as stack,
        connect_tcp(stack.entrance.port("http")) as client,
    ):
        client.send(f"GET /large HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        await client.read_until(b"\r\n\r\n")
        if is_buffering:
            await stack.servers[0].logged("sent all")
        body = await client.read_rest()
        assert len(body) == deployed.SIZE
        await stack.servers[0].logged("sent all")


async def test_caddy_redirects_to_https(certificates: Certificates) -> None:
    async with (
        proxied(caddy_redirecting, certificates) as stack,
        stack.entrance.client("http") as client,
    ):
        response = await client.get("/healthz")
    assert response.status_code == 308
    assert response.headers["location"] == f"https://{HOST}/healthz"
