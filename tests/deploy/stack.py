"""Clients, a proxy and servers, connected as in docs/deploy."""

import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trustme
from websockets.asyncio.client import ClientConnection, connect

from tests.harness.processes import ServerProcess, started
from tests.harness.proxies import (
    HOST,
    Changes,
    Proxy,
    Site,
    caddy,
    haproxy,
    nginx,
    reserved_ports,
    short_folder,
    started_proxy,
)

APP = "tests.apps.deployed:app"
# The address of clients. No server trusts it; the proxies connect from 127.0.0.1.
CLIENT = "127.0.0.2"
PATIENCE = 60.0  # seconds for anything that other processes do on a loaded machine
COMMANDS: dict[str, Callable[[Site], list[str]]] = {
    "nginx": nginx,
    "haproxy": haproxy,
    "caddy": caddy,
}


@dataclass(frozen=True)
class Certificates:
    """A server certificate for HOST as files in PEM, and a client's context that accepts it."""

    certificate: Path
    key: Path
    context: ssl.SSLContext


def issue_certificates(folder: Path) -> Certificates:
    """Write a certificate for HOST, issued by a new authority."""
    authority = trustme.CA()
    issued = authority.issue_cert(HOST)
    certificate, key = folder / "fullchain.pem", folder / "privkey.pem"
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(str(certificate), append=number > 0)
    issued.private_key_pem.write_to_path(str(key))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return Certificates(certificate, key, context)


class Entrance:
    """Where clients enter: the ports of a proxy, for names as in its configuration."""

    def __init__(self, http: int, https: int, context: ssl.SSLContext) -> None:
        self._ports = {"http": http, "ws": http, "https": https, "wss": https}
        self._context = context

    def port(self, scheme: str) -> int:
        """Return the port of a scheme."""
        return self._ports[scheme]

    def connect(self, scheme: str, path: str = "/", **options: Any) -> connect:
        """Connect a WebSocket client, which gives up after PATIENCE."""
        if scheme == "wss":
            options["ssl"] = self._context
        return connect(
            f"{scheme}://{HOST}{path}",
            host="127.0.0.1",
            port=self.port(scheme),
            local_addr=(CLIENT, 0),
            open_timeout=PATIENCE,
            close_timeout=PATIENCE,
            ping_interval=None,
            max_size=None,
            proxy=None,
            **options,
        )

    @contextlib.asynccontextmanager
    async def client(self, scheme: str) -> AsyncIterator[httpx.AsyncClient]:
        """Return an HTTP client; the paths of its requests are relative."""
        transport = httpx.AsyncHTTPTransport(verify=self._context, local_address=CLIENT)
        async with httpx.AsyncClient(
            transport=_Named(transport),
            base_url=f"{scheme}://127.0.0.1:{self.port(scheme)}",
            headers={"Host": HOST},
            timeout=PATIENCE,
        ) as client:
            yield client

    async def scope(self, scheme: str, *headers: tuple[str, str]) -> dict[str, Any]:
        """Return the scope that the app gets for a request or a WebSocket with these headers."""
        if scheme in ("ws", "wss"):
            async with self.connect(scheme, "/scope", additional_headers=headers) as websocket:
                return dict(json.loads(await websocket.recv()))
        async with self.client(scheme) as client:
            response = await client.get("/scope", headers=list(headers))
            assert response.status_code == 200, response
            return dict(response.json())


class _Named(httpx.AsyncBaseTransport):
    """A transport whose TLS connections ask for HOST."""

    def __init__(self, transport: httpx.AsyncHTTPTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = HOST
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self._transport.aclose()


async def check_echo(websocket: ClientConnection, *messages: str | bytes) -> None:
    """Check that the WebSocket sends messages back."""
    for message in messages or ("hello",):
        await websocket.send(message)
        assert await websocket.recv() == message


@dataclass
class Stack:
    """A proxy and its servers.

    addresses: those of the servers, as in Site. entrance: where clients enter.
    """

    entrance: Entrance
    proxy: Proxy
    addresses: Sequence[str]
    servers: Sequence[ServerProcess]

    async def stop(self, number: int = 0) -> None:
        """Stop a server with SIGTERM and wait until it has ended."""
        self.servers[number].signal()
        assert await self.servers[number].ended() == 0


@contextlib.asynccontextmanager
async def running_at(address: str, *options: str, app: str = APP) -> AsyncIterator[ServerProcess]:
    """Run a server at "127.0.0.1:8000" or at the path of a Unix socket; wait until it listens."""
    at = ("--uds", address) if address.startswith("/") else ("--port", address.split(":")[1])
    async with started(app, *at, *options) as server:
        await server.logged("running on")
        yield server


@contextlib.asynccontextmanager
async def proxied(
    command: Callable[[Site], list[str]],
    certificates: Certificates,
    *options: str,
    servers: int = 1,
    changes: Changes | None = None,
    app: str = APP,
    unix: bool = False,
    passthrough: bool = False,
) -> AsyncIterator[Stack]:
    """Run servers with these options, and a proxy in front of them.

    Args:
        changes: Substitutions in the proxy's configuration, beside those that every test needs.
        app: What the servers run.
        unix: The servers listen on Unix sockets.
        passthrough: The proxy has one port, for whatever protocol the servers speak.
    """
    async with contextlib.AsyncExitStack() as opened:
        folder = opened.enter_context(short_folder())
        http, https, *ports = opened.enter_context(reserved_ports(2 + servers))
        addresses = [str(folder / f"{p}.sock") if unix else f"127.0.0.1:{p}" for p in ports]
        site = Site(
            folder=folder,
            http=http,
            https=https,
            backends=addresses,
            certificate=certificates.certificate,
            key=certificates.key,
            changes=changes or {},
        )
        arguments = command(site)  # skips the test before anything is started
        # HAProxy takes a server out of service that does not answer when HAProxy starts.
        running = [
            await opened.enter_async_context(running_at(address, *options, app=app))
            for address in addresses
        ]
        proxy = await opened.enter_async_context(started_proxy(arguments, site))
        entrance = Entrance(https if passthrough else http, https, certificates.context)
        yield Stack(entrance, proxy, addresses, running)
