"""TLS that goes through nginx and HAProxy to the server, and the PROXY protocol of both."""

import os
from collections.abc import Callable

import httpx
import pytest

from tests.deploy.stack import CLIENT, Certificates, check_echo, proxied
from tests.harness.proxies import Changes, Site, haproxy_passthrough, nginx_passthrough

WITHOUT_PROXY_PROTOCOL = [
    pytest.param(nginx_passthrough, {"proxy_protocol on;": "proxy_protocol off;"}, id="nginx"),
    pytest.param(haproxy_passthrough, {" send-proxy-v2": ""}, id="haproxy"),
]
PROXY_PROTOCOL = [
    pytest.param(nginx_passthrough, {}, id="nginx-v1"),
    pytest.param(haproxy_passthrough, {"send-proxy-v2": "send-proxy"}, id="haproxy-v1"),
    pytest.param(haproxy_passthrough, {}, id="haproxy-v2"),
]
Command = Callable[[Site], list[str]]


def tls_options(certificates: Certificates) -> tuple[str, ...]:
    """Return the options of a server that has the certificate."""
    certificate, key = str(certificates.certificate), str(certificates.key)
    return "--ssl-certfile", certificate, "--ssl-keyfile", key


@pytest.mark.parametrize(("command", "changes"), WITHOUT_PROXY_PROTOCOL)
async def test_tls_goes_through_to_the_server(
    certificates: Certificates, command: Command, changes: Changes
) -> None:
    options = tls_options(certificates)
    async with proxied(command, certificates, *options, changes=changes, passthrough=True) as stack:
        async with stack.entrance.connect("wss") as websocket:
            await check_echo(websocket, "hi", os.urandom(2**20))
        scope = await stack.entrance.scope("https")
        assert (scope["scheme"], scope["tls"]) == ("https", True)
        assert scope["client"][0] == "127.0.0.1"  # the proxy's
        await stack.stop()


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize(("command", "changes"), PROXY_PROTOCOL)
async def test_the_proxy_protocol_without_tls(
    certificates: Certificates, command: Command, changes: Changes, scheme: str
) -> None:
    options = ("--proxy-protocol",)
    async with proxied(command, certificates, *options, changes=changes, passthrough=True) as stack:
        scope = await stack.entrance.scope(scheme)
        assert (scope["client"][0], scope["scheme"]) == (CLIENT, scheme)
        assert (scope["server"][0], scope["server"][1]) == (
            "127.0.0.1",
            stack.entrance.port(scheme),
        )


@pytest.mark.parametrize("scheme", ["https", "wss"])
@pytest.mark.parametrize(("command", "changes"), PROXY_PROTOCOL)
async def test_the_proxy_protocol_before_tls(
    certificates: Certificates, command: Command, changes: Changes, scheme: str
) -> None:
    options = ("--proxy-protocol", *tls_options(certificates))
    async with proxied(command, certificates, *options, changes=changes, passthrough=True) as stack:
        async with stack.entrance.connect("wss") as websocket:
            await check_echo(websocket, "hi", os.urandom(2**20))
        scope = await stack.entrance.scope(scheme)
        assert (scope["client"][0], scope["scheme"], scope["tls"]) == (CLIENT, scheme, True)


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
async def test_health_checks_with_the_proxy_protocol_leave_no_warning(
    certificates: Certificates, version: str
) -> None:
    changes = {"inter 2s": "inter 100ms", "send-proxy-v2": version}
    async with proxied(
        haproxy_passthrough, certificates, "--proxy-protocol", changes=changes, passthrough=True
    ) as stack:
        for _ in range(5):
            assert (await stack.entrance.scope("http"))["client"][0] == CLIENT
        assert "is DOWN" not in stack.proxy.log
        await stack.stop()
        assert not [line for line in stack.servers[0].log if "WARNING" in line or "ERROR" in line]


@pytest.mark.parametrize("command", [nginx_passthrough, haproxy_passthrough])
async def test_an_unexpected_proxy_header_is_a_bad_request(
    certificates: Certificates, command: Command
) -> None:
    async with (
        proxied(command, certificates, passthrough=True) as stack,
        stack.entrance.client("http") as client,
    ):
        assert (await client.get("/healthz")).status_code == 400
        await stack.servers[0].logged("Invalid HTTP request received: 400")


# What the operator finds in the log.
MISTAKES = [
    pytest.param({" send-proxy-v2": ""}, (), "it does not begin with a PROXY header", id="missing"),
    pytest.param(
        {},
        ("--proxy-allow-from", "10.0.0.1"),
        "--proxy-allow-from does not list the peer",
        id="not allowed",
    ),
]


@pytest.mark.parametrize(("changes", "options", "reason"), MISTAKES)
async def test_a_connection_without_a_valid_proxy_header_is_closed(
    certificates: Certificates, changes: Changes, options: tuple[str, ...], reason: str
) -> None:
    options = ("--proxy-protocol", *options)
    async with (
        proxied(
            haproxy_passthrough, certificates, *options, changes=changes, passthrough=True
        ) as stack,
        stack.entrance.client("http") as client,
    ):
        with pytest.raises(httpx.TransportError):
            await client.get("/healthz")
        await stack.servers[0].logged(rf"Connection from 127\.0\.0\.1:\d+ closed: {reason}")
