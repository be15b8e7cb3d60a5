"""Servers that listen on Unix sockets behind nginx, HAProxy and Caddy."""

import os

import pytest

from tests.deploy.conftest import Start
from tests.deploy.stack import CLIENT, check_echo


async def test_messages_and_requests_go_through_a_unix_socket(start: Start) -> None:
    async with start("--uds-perms", "660", unix=True) as stack:
        for scheme in ("ws", "wss"):
            async with stack.entrance.connect(scheme) as websocket:
                await check_echo(websocket, "hi", os.urandom(2**20))
        async with stack.entrance.client("https") as client:
            body = os.urandom(100_000)
            assert (await client.post("/body", content=body)).content == body


@pytest.mark.parametrize("scheme", ["http", "https", "ws", "wss"])
async def test_the_app_sees_the_client_through_a_trusted_unix_socket(
    start: Start, scheme: str
) -> None:
    async with start("--forwarded-allow-ips", "unix:", unix=True) as stack:
        scope = await stack.entrance.scope(scheme)
        assert (scope["client"][0], scope["scheme"]) == (CLIENT, scheme)


async def test_a_unix_socket_is_not_trusted_unless_it_is_named(start: Start) -> None:
    async with start(unix=True) as stack:
        scope = await stack.entrance.scope("https")
        assert (scope["client"], scope["scheme"]) == (None, "http")
