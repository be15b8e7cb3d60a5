"""A real server behind what proxies send: forwarded headers, and the PROXY protocol."""

import asyncio
import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from tests.harness.processes import ROOT, running, started
from tests.harness.tcp import TcpClient, connect_tcp
from tests.harness.waiting import pause

APP = "tests.apps.outside:app"
ALL = ("--forwarded-values", "for,proto,host,port,prefix")
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
ENDS = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!HH", 56324, 443)
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V2_TLS = SIGNATURE + b"\x21\x11\0\x14" + ENDS + b"\x20\0\x05\x01\0\0\0\0"
LOCAL = SIGNATURE + b"\x20\0\0\0"


def get(*headers: str) -> bytes:
    return "\r\n".join(["GET /a HTTP/1.1", "Host: inner", *headers, "", ""]).encode()


async def view(client: TcpClient, data: bytes) -> dict[str, Any]:
    """Send a request and return what the app sees of it."""
    response = await client.ask(data)
    assert response.status == 200, response
    seen: dict[str, Any] = json.loads(response.body)
    return seen


# -- headers ---------------------------------------------------------------------------------------


async def test_a_browser_behind_a_proxy(loop_name: str) -> None:
    headers = {
        "X-Forwarded-For": "203.0.113.9, 192.0.2.7, 10.0.0.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "example.com",
        "X-Forwarded-Prefix": "/app",
    }
    options = ("--loop", loop_name, "--forwarded-allow-ips", "127.0.0.1,10.0.0.0/8", *ALL)
    async with running(APP, *options) as server:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
            for _ in range(2):  # on one connection, with the head cached the second time
                seen = (await client.get("/a", headers=headers)).json()
                assert seen["client"] == ["192.0.2.7", 0]
                assert (seen["scheme"], seen["host"]) == ("https", "example.com")
                assert (seen["root_path"], seen["path"]) == ("/app", "/app/a")
                assert seen["server"] == ["127.0.0.1", server.port]
        async with websockets.connect(server.ws_url, additional_headers=headers) as ws:
            seen = json.loads(await ws.recv())
            assert seen["client"] == ["192.0.2.7", 0]
            assert (seen["scheme"], seen["host"]) == ("wss", "example.com")
            await ws.send("hello")
            assert await ws.recv() == "hello"
        await server.logged(r'192\.0\.2\.7:0 - "GET /a HTTP/1\.1" 200 OK')
        await server.logged(r'192\.0\.2\.7:0 - "WebSocket /" \[closed\] 1000')


async def test_links_lead_to_the_outside() -> None:
    headers = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "example.com",
        "X-Forwarded-Port": "8443",
        "X-Forwarded-Prefix": "/app",
    }
    url = "https://example.com:8443/app/page"
    async with (
        running("tests.apps.links:app", *ALL) as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as client,
    ):
        seen = (await client.get("/page?a=b", headers=headers)).json()
        assert seen == {"url": f"{url}?a=b", "url_for": url}
        redirect = await client.get("/page/", headers=headers)
        assert redirect.headers["location"] == url


async def test_forged_headers(loop_name: str) -> None:
    forged = (
        "X-Forwarded-For: 192.0.2.7",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Prefix: /evil",
        "Forwarded: for=192.0.2.7;proto=https;host=evil.example",
    )
    options = ("--loop", loop_name, "--forwarded-allow-ips", "192.0.2.1", *ALL)
    async with running(APP, *options) as server, connect_tcp(server.port) as client:
        seen = await view(client, get(*forged))
        assert seen["client"][0] == "127.0.0.1"
        assert seen["client"][1] != 0
        assert (seen["scheme"], seen["host"], seen["root_path"]) == ("http", "inner", "")
        options = {"additional_headers": [h.split(": ") for h in forged]}  # type: ignore[assignment]
        async with websockets.connect(server.ws_url, **options) as ws:  # type: ignore[arg-type]
            seen = json.loads(await ws.recv())
            assert (seen["client"][0], seen["scheme"]) == ("127.0.0.1", "ws")


async def test_a_connection_that_clients_share(loop_name: str) -> None:
    many = ", ".join(["9.9.9.9"] * 1_000 + ["192.0.2.3"] + ["127.0.0.1"] * 500)
    requests = [
        ("X-Forwarded-For: 192.0.2.1", ["192.0.2.1", 0]),
        ("X-Forwarded-For: [2001:db8::1]:99", ["2001:db8::1", 99]),
        (f"X-Forwarded-For: {many}", ["192.0.2.3", 0]),
        ('Forwarded: for="[2001:db8::2]:7";proto=http', ["2001:db8::2", 7]),
        ("X-Forwarded-For: 999.1.1.1", None),
        ("X-Forwarded-For: 1.2.3.4\xe9, ,", None),
        ("X-Own: 1", None),
        ("Forwarded: for=", None),
    ]
    async with running(APP, "--loop", loop_name) as server, connect_tcp(server.port) as client:
        for header, address in requests:
            seen = await view(client, get(header))
            if address is None:
                assert seen["client"][0] == "127.0.0.1"
            else:
                assert seen["client"] == address
        # By default a Host that a client may have made up is not read.
        seen = await view(client, get("X-Forwarded-Host: evil", "X-Forwarded-Prefix: /evil"))
        assert (seen["host"], seen["root_path"]) == ("inner", "")


async def test_clients_of_a_proxy_have_their_own_limits(loop_name: str) -> None:
    options = ("--loop", loop_name, "--limit-connections-per-ip", "1")
    async with running(APP, *options) as server, connect_tcp(server.port) as proxy:
        url, one = server.ws_url, {"X-Forwarded-For": "192.0.2.1"}
        async with websockets.connect(url, additional_headers=one) as first:
            async with websockets.connect(url, additional_headers={"X-Forwarded-For": "192.0.2.2"}):
                with pytest.raises(websockets.InvalidStatus) as refused:
                    await websockets.connect(url, additional_headers=one)
                assert refused.value.response.status_code == 503
            data = get("X-Forwarded-For: 192.0.2.1")
            assert (await proxy.ask(data)).status == 503
            assert (await view(proxy, get("X-Forwarded-For: 192.0.2.3")))["client"][
                0
            ] == "192.0.2.3"
            await first.send("still here")
            assert [await first.recv() for _ in range(2)][1] == "still here"
        async with asyncio.timeout(30):
            while (await proxy.ask(data)).status == 503:  # until the call of the first has ended
                await pause(0.01)


@pytest.mark.parametrize("name", ["{path}", "unix:{path}", "unix:", "*"])
async def test_a_proxy_on_a_unix_socket(loop_name: str, tmp_path: Path, name: str) -> None:
    path = str(tmp_path / "app.sock")
    options = ("--uds", path, "--loop", loop_name, "--forwarded-allow-ips", name.format(path=path))
    async with started(APP, *options) as server:
        await server.logged("running on unix socket")
        transport = httpx.AsyncHTTPTransport(uds=path)
        headers = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
        async with httpx.AsyncClient(transport=transport, base_url="http://inner") as client:
            seen = (await client.get("/a", headers=headers)).json()
        assert (seen["client"], seen["scheme"]) == (["192.0.2.7", 0], "https")
        await server.logged(r'192\.0\.2\.7:0 - "GET /a HTTP/1\.1" 200 OK')


async def test_another_spelling_of_the_path_of_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    entry = f"unix:./{relative_to_root(tmp_path)}//app.sock"
    async with started(APP, "--uds", path, "--forwarded-allow-ips", entry) as server:
        await server.logged("running on unix socket")
        assert await client_seen_on(path) == ["192.0.2.7", 0]
        assert not [line for line in server.log if line.startswith("WARNING")]


def relative_to_root(path: Path) -> str:
    """Return a path relative to the working directory of servers under test."""
    return os.path.relpath(path, ROOT)


async def client_seen_on(path: str) -> list[Any] | None:
    """Return the client that an app sees of a request over a Unix socket, which names another."""
    transport = httpx.AsyncHTTPTransport(uds=path)
    async with httpx.AsyncClient(transport=transport, base_url="http://inner") as client:
        seen = (await client.get("/a", headers={"X-Forwarded-For": "192.0.2.7"})).json()
    found: list[Any] | None = seen["client"]
    return found


async def test_another_unix_socket_is_not_trusted(tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    async with started(
        APP, "--uds", path, "--forwarded-allow-ips", "/run/other,127.0.0.1"
    ) as server:
        await server.logged("running on unix socket")
        assert await client_seen_on(path) is None
        (line,) = (line for line in server.log if line.startswith("WARNING"))
        assert "'/run/other' is no Unix socket that this server listens on" in line


# -- settings --------------------------------------------------------------------------------------


async def client_with(monkeypatch: pytest.MonkeyPatch, *options: str, **variables: str) -> str:
    """Return the client that a server with these options and variables takes from a header."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    async with running(APP, *options) as server, connect_tcp(server.port) as client:
        seen = await view(client, get("X-Forwarded-For: 192.0.2.7"))
        return str(seen["client"][0])


@pytest.mark.parametrize(
    ("options", "variables", "client"),
    [
        ([], {}, "192.0.2.7"),
        (["--no-proxy-headers"], {}, "127.0.0.1"),
        ([], {"FORWARDED_ALLOW_IPS": "192.0.2.1"}, "127.0.0.1"),
        ([], {"FORWARDED_ALLOW_IPS": "192.0.2.1, 127.0.0.0/8"}, "192.0.2.7"),
        ([], {"FORWARDED_ALLOW_IPS": ""}, "127.0.0.1"),
        ([], {"FORWARDED_ALLOW_IPS": "*", "WSGATE_FORWARDED_ALLOW_IPS": "::1"}, "127.0.0.1"),
        (["--forwarded-allow-ips", "*"], {"FORWARDED_ALLOW_IPS": "::1"}, "192.0.2.7"),
    ],
)
async def test_where_the_trusted_proxies_come_from(
    monkeypatch: pytest.MonkeyPatch, options: list[str], variables: dict[str, str], client: str
) -> None:
    assert await client_with(monkeypatch, *options, **variables) == client


async def test_a_probable_typing_error_is_logged() -> None:
    options = ("--forwarded-allow-ips", "10.0.0.1/8", "--proxy-protocol")
    async with running(APP, *options, "--proxy-allow-from", "unix:,locahost") as server:
        wanted = [("--forwarded-allow-ips", "10.0.0.1/8"), ("--proxy-allow-from", "locahost")]
        assert [line for line in server.log if line.startswith("WARNING")] == [
            f"WARNING:  {option}: '{entry}' is neither an address nor a network; it trusts nobody"
            for option, entry in wanted
        ]


# -- the PROXY protocol ----------------------------------------------------------------------------


async def test_a_proxy_header(loop_name: str) -> None:
    async with running(APP, "--loop", loop_name, "--proxy-protocol") as server:
        own = ["127.0.0.1", server.port]
        for header, client_host, address, scheme in (
            (V1, "192.0.2.7", ["198.51.100.1", 443], "http"),
            (V2_TLS, "192.0.2.7", ["198.51.100.1", 443], "https"),
            (b"PROXY TCP6 2001:db8::1 ::2 1 2\r\n", "2001:db8::1", ["::2", 2], "http"),
            (LOCAL, "127.0.0.1", own, "http"),
            (b"PROXY UNKNOWN\r\n", "127.0.0.1", own, "http"),
        ):
            async with connect_tcp(server.port) as client:
                client.send(header + get())  # in one segment, and pipelined
                for data in (get(), b""):
                    seen = await view(client, data)
                    assert (seen["client"][0], seen["scheme"]) == (client_host, scheme)
                    assert seen["server"] == address
        await server.logged(r'192\.0\.2\.7:56324 - "GET /a HTTP/1\.1" 200 OK')
        assert not [line for line in server.log if line.startswith("WARNING")]


@pytest.mark.parametrize("header", [V1, V2_TLS])
async def test_a_proxy_header_in_single_bytes(loop_name: str, header: bytes) -> None:
    options = ("--loop", loop_name, "--proxy-protocol")
    async with running(APP, *options) as server, connect_tcp(server.port) as client:
        for byte in header + get():
            client.send(bytes([byte]))
            await client.drain()
            await pause(0.001)  # so that most bytes are a segment of their own
        assert (await view(client, b""))["client"] == ["192.0.2.7", 56324]
        client.send(get())
        assert (await view(client, b""))["client"] == ["192.0.2.7", 56324]


async def test_a_websocket_after_a_proxy_header(loop_name: str) -> None:
    async with running(APP, "--loop", loop_name, "--proxy-protocol") as server:
        sock = socket.create_connection(("127.0.0.1", server.port))
        sock.sendall(V2_TLS)
        sock.setblocking(False)
        async with websockets.connect(server.ws_url, sock=sock) as ws:
            seen = json.loads(await ws.recv())
            assert (seen["client"][0], seen["scheme"]) == ("192.0.2.7", "wss")
            await ws.send("hello" * 50_000)
            assert await ws.recv() == "hello" * 50_000


@pytest.mark.parametrize(
    "data",
    [
        get(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PROXY TCP4 " + b"1" * 500,
        SIGNATURE + b"\x21\x11\xff\xff" + b"\0" * 500,
        SIGNATURE + b"\x21\x11\0\x01" + ENDS,
        b"\0" * 100_000,
    ],
    ids=["HTTP", "TLS", "no end", "too long", "too short", "zeros"],
)
async def test_a_bad_proxy_header_closes_the_connection(loop_name: str, data: bytes) -> None:
    options = ("--loop", loop_name, "--proxy-protocol")
    async with running(APP, *options) as server:
        async with connect_tcp(server.port) as good:
            seen = await view(good, V1 + get())
            async with connect_tcp(server.port) as bad:
                bad.send(data)
                assert await bad.read_rest_or_reset() == b""
            await server.logged(r"^WARNING: .*Connection from 127\.0\.0\.1:\d+ closed: ")
            assert await view(good, get()) == seen
        server.signal()
        assert await server.ended() == 0
    assert sum(line.startswith("WARNING") for line in server.log) == 1
    assert not [line for line in server.log if "Traceback" in line]


async def test_a_peer_that_may_send_no_proxy_header(loop_name: str) -> None:
    options = ("--loop", loop_name, "--proxy-protocol", "--proxy-allow-from", "192.0.2.1")
    async with running(APP, *options) as server, connect_tcp(server.port) as client:
        client.send(V1 + get())
        assert await client.read_rest_or_reset() == b""
        await server.logged("--proxy-allow-from does not list the peer")


async def test_a_stop_does_not_wait_for_a_proxy_header(loop_name: str) -> None:
    options = ("--loop", loop_name, "--proxy-protocol", "--timeout-graceful-shutdown", "60")
    async with (
        running(APP, *options) as server,
        connect_tcp(server.port) as client,
        connect_tcp(server.port) as other,
    ):
        client.send(V1[:-1])
        assert (await view(other, V1 + get()))["client"][0] == "192.0.2.7"
        server.signal()
        assert await client.read_rest_or_reset() == b""
        assert await server.ended() == 0


async def test_a_late_proxy_header(loop_name: str) -> None:
    options = ("--loop", loop_name, "--proxy-protocol", "--ws-handshake-timeout", "0.3")
    async with running(APP, *options) as server, connect_tcp(server.port) as client:
        client.send(V1[:-1])
        assert await client.read_rest_or_reset() == b""
        await server.logged("its PROXY header did not arrive in time")


async def test_a_proxy_header_on_a_unix_socket(loop_name: str, tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    options = ("--uds", path, "--loop", loop_name, "--proxy-protocol", "--proxy-allow-from", path)
    async with started(APP, *options) as server:
        await server.logged("running on unix socket")
        client = TcpClient(*await asyncio.open_unix_connection(path))
        assert (await view(client, V1 + get()))["client"] == ["192.0.2.7", 56324]
        client.writer.close()
