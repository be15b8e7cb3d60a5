"""TLS on real sockets and all loops, with clients that we did not write."""

import asyncio
import contextlib
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets.asyncio.client as ws
from websockets.exceptions import ConnectionClosed

from tests.harness import loops
from tests.harness.app import echo_request
from tests.harness.client import GET
from tests.harness.tcp import connect_tcp
from tests.harness.tls import Files, TlsClient
from tests.harness.waiting import soon
from wsgate.testing import LiveServer, serve

LOOPS = loops.LOOPS
PATIENCE = 30.0
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(Path(tmp_path_factory.mktemp("tls")))


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Echo requests and messages; the message "tls" is answered with the name of the client."""
    if scope["type"] == "http":
        await echo_request(scope, receive, send)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            payload = message.get("text") or message["bytes"]
            if payload == "tls":
                payload = str(scope["extensions"]["tls"]["client_cert_name"])
            kind = "text" if isinstance(payload, str) else "bytes"
            await send({"type": "websocket.send", kind: payload})


@contextlib.asynccontextmanager
async def served(files: Files, **options: Any) -> AsyncIterator[LiveServer]:
    settings = files.issue("server") if "ssl_certfile" not in options else {}
    async with (
        asyncio.timeout(120),
        serve(app, lifespan="off", **settings, **options) as server,
    ):
        yield server


def connect(files: Files, server: LiveServer, **certificate: str) -> ws.connect:
    return ws.connect(server.ws_url, ssl=files.client_context(**certificate), max_size=None)


async def test_a_websocket(files: Files) -> None:
    async with served(files) as server, connect(files, server) as client:
        assert server.ws_url.startswith("wss://")
        for size in (0, 5, 16_384, MIB):
            await client.send(b"x" * size + b".")
            assert await client.recv() == b"x" * size + b"."
        for n in range(200):
            await client.send(str(n))
        assert [await client.recv() for _ in range(200)] == [str(n) for n in range(200)]
        await client.ping()


async def test_requests(files: Files) -> None:
    async with (
        served(files) as server,
        httpx.AsyncClient(verify=files.client_context(), base_url=server.url) as client,
    ):
        answer = await client.post("/a", content=b"x" * MIB)
        assert answer.content == b"POST /a " + b"x" * MIB
        assert (await client.get("/b")).text == "GET /b "
        assert server.connections == 1


async def test_many_clients_at_once(files: Files) -> None:
    async def talk(server: LiveServer, n: int) -> None:
        async with connect(files, server) as client:
            await client.send(f"hello {n}")
            assert await client.recv() == f"hello {n}"

    async with served(files) as server:
        await asyncio.gather(*(talk(server, n) for n in range(30)))
        await server.settled()


async def test_client_certificates(files: Files) -> None:
    own = files.issue("client", "me@example.org", common_name="me")
    async with served(files, ssl_cert_reqs=1, ssl_ca_certs=files.ca) as server:
        async with connect(files, server, **own) as client:
            await client.send("tls")
            assert "CN=me" in str(await client.recv())
        async with connect(files, server) as client:
            await client.send("tls")
            assert await client.recv() == "None"
    async with served(files, ssl_cert_reqs=2, ssl_ca_certs=files.ca) as server:
        async with connect(files, server, **own) as client:
            await client.send("tls")
            assert "CN=me" in str(await client.recv())
        with pytest.raises((OSError, EOFError, ConnectionClosed, websocket_error())):
            async with connect(files, server) as client:
                await client.recv()
        await server.settled()


def websocket_error() -> type[Exception]:
    from websockets.exceptions import WebSocketException  # noqa: PLC0415

    return WebSocketException


async def test_sni(files: Files) -> None:
    pairs = [files.issue(name, f"{name}.example", "127.0.0.1") for name in ("one", "two")]
    options = {key: [pair[key] for pair in pairs] for key in pairs[0]}
    async with served(files, **options) as server:
        for name in ("one.example", "two.example"):
            client = ws.connect(
                server.ws_url, ssl=files.client_context(), server_hostname=name, proxy=None
            )
            async with client as connection:
                await connection.send("hello")
                assert await connection.recv() == "hello"


async def test_a_handshake_byte_by_byte(files: Files) -> None:
    async with served(files) as server, connect_tcp(server.port) as client:
        tls = TlsClient(files.client_context())
        while data := tls.output():
            for byte in data:
                client.send(bytes((byte,)))
                await client.drain()
            if not tls.is_open:
                tls.receive(await soon(client.reader.read(65_536), PATIENCE))
        assert tls.is_open
        client.send(tls.write(GET))
        while b"GET / " not in tls.received:
            tls.receive(await soon(client.reader.read(65_536), PATIENCE))


async def test_plain_http_on_the_tls_port(files: Files) -> None:
    async with served(files) as server:
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{server.port}/")
            assert answer.status_code == 400
            assert "https://" in answer.text
        async with connect_tcp(server.port) as garbage:
            garbage.send(b"\x00" * 50)
            assert await garbage.read_rest_or_reset() == b""
        await server.settled()


async def test_a_client_that_resets(files: Files) -> None:
    async with served(files) as server:
        async with connect_tcp(server.port) as client:
            tls = TlsClient(files.client_context())
            client.send(tls.output())
            await client.read_exactly(1)
            client.reset()
        async with connect(files, server) as other:
            await other.send("hello")
            assert await other.recv() == "hello"
            other.transport.abort()
        await server.settled()


async def test_a_client_that_does_not_read(files: Files) -> None:
    sent = 0

    async def pour(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await receive()
        await send({"type": "websocket.accept"})
        with contextlib.suppress(OSError):
            while True:
                await send({"type": "websocket.send", "bytes": b"x" * 65_536})
                sent += 1

    settings = files.issue("server")
    async with (
        asyncio.timeout(60),
        serve(pour, lifespan="off", ws_send_timeout=0.5, **settings) as server,
        connect_tcp(server.port) as client,
    ):
        tls = TlsClient(files.client_context())
        while not tls.is_open:
            client.send(tls.output())
            tls.receive(await soon(client.reader.read(65_536), PATIENCE))
        request = (
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        client.send(tls.output() + tls.write(request))
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await server.settled()  # 1013, then the connection is aborted
        assert 0 < sent < 1_000


async def test_a_stop_drains(files: Files) -> None:
    async with served(files) as server:
        async with connect(files, server) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            stop = asyncio.create_task(server.stop())
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        await stop


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl")
async def test_openssl_renegotiates_nothing_and_updates_its_keys(files: Files) -> None:
    async with served(files) as server:
        process = await asyncio.create_subprocess_exec(
            *("openssl", "s_client", "-connect", f"127.0.0.1:{server.port}"),
            *("-CAfile", str(files.ca), "-verify_return_error", "-no_ign_eof"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            await soon(process.stdout.readuntil(b"Verify return code: 0 (ok)"), PATIENCE)
            process.stdin.write(b"K\n")  # KeyUpdate, and asks for ours
            await soon(process.stdout.readuntil(b"KEYUPDATE"), PATIENCE)
            process.stdin.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await soon(process.stdout.readuntil(b"GET / "), PATIENCE)
            await soon(process.wait(), PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
async def test_curl(files: Files) -> None:
    async with served(files) as server:
        process = await asyncio.create_subprocess_exec(
            *("curl", "-sS", "--cacert", str(files.ca), "--data-binary", "@-"),
            *("--tlsv1.2", "--tls-max", "1.2", server.url + "/a"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await soon(process.communicate(b"x" * 100_000), PATIENCE)
        assert out == b"POST /a " + b"x" * 100_000


async def test_sessions_are_resumed(files: Files) -> None:
    context = files.client_context()

    async with served(files) as server:

        async def visit(session: Any = None) -> TlsClient:
            async with connect_tcp(server.port) as client:
                tls = TlsClient(context, session=session)
                client.send(tls.output())
                while not tls.is_open:
                    tls.receive(await soon(client.reader.read(65_536), PATIENCE))
                client.send(tls.output() + tls.write(GET))
                while b"GET / " not in tls.received:
                    tls.receive(await soon(client.reader.read(65_536), PATIENCE))
            return tls

        first = await visit()
        assert not first.tls.session_reused
        assert (await visit(first.tls.session)).tls.session_reused


def test_the_versions_that_clients_may_use() -> None:
    assert ssl.HAS_TLSv1_3  # the tests above would prove less without it
