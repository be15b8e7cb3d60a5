"""The app of the examples, alone and behind proxies, and the nginx of the Compose file."""

import re

import httpx
import pytest

from tests.deploy.conftest import Start
from tests.deploy.stack import CLIENT, PATIENCE, Certificates, check_echo, proxied
from tests.harness.processes import running
from tests.harness.proxies import HOST, nginx_of_compose
from tests.harness.tcp import connect_tcp

APP = "docs.deploy.examples.main:app"


async def test_the_app_answers_alone() -> None:
    async with running(APP) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            assert (await client.get("/healthz")).text == "ok\n"
            page = (await client.get("/a")).text
        assert re.fullmatch(
            rf"client \('127\.0\.0\.1', \d+\)\nurl http://127\.0\.0\.1:{server.port}/a\n", page
        )
        async with connect_tcp(server.port) as websocket:
            await websocket.open()
            await websocket.echoes()
        server.signal()
        assert await server.ended() == 0
    assert not [line for line in server.log if not line.startswith("INFO")]


async def test_the_app_shows_the_client_and_the_url_behind_a_proxy(start: Start) -> None:
    async with start(app=APP) as stack, stack.entrance.client("https") as client:
        page = (await client.get("/")).text
    assert re.fullmatch(
        rf"client \('{re.escape(CLIENT)}', \d+\)\nurl https://{re.escape(HOST)}/\n", page
    )


async def test_the_nginx_of_compose_forwards_requests_and_websockets(
    certificates: Certificates,
) -> None:
    async with (
        proxied(nginx_of_compose, certificates, app=APP, passthrough=True) as stack,
        stack.entrance.client("http") as client,
        stack.entrance.connect("ws") as websocket,
    ):
        assert (await client.get("/healthz")).text == "ok\n"
        await check_echo(websocket, "hi", b"x" * 2**20)


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_the_nginx_of_compose_names_the_client(
    certificates: Certificates, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WSGATE_FORWARDED_ALLOW_IPS", "*")  # as in compose.yaml
    async with proxied(nginx_of_compose, certificates, passthrough=True) as stack:
        scope = await stack.entrance.scope(scheme, ("X-Forwarded-For", "203.0.113.6"))
    assert (scope["client"][0], scope["scheme"]) == (CLIENT, scheme)
