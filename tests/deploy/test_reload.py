"""A reload of a proxy's configuration: nginx and HAProxy keep the WebSockets, Caddy closes them."""

import asyncio
import re
import signal

import pytest
from websockets.exceptions import ConnectionClosed

from tests.deploy.stack import COMMANDS, PATIENCE, Certificates, Stack, check_echo, proxied
from tests.harness.proxies import Changes, program
from tests.harness.waiting import pause, soon

# The reload takes this header away, so a test sees when it is complete.
MARKED: dict[str, Changes] = {
    "nginx": {"        proxy_http_version 1.1;": "proxy_http_version 1.1; add_header X-Old 1;"},
    "haproxy": {
        "    default_backend app": "http-response set-header X-Old 1\n default_backend app"
    },
}
SIGNALS = {"nginx": signal.SIGHUP, "haproxy": signal.SIGUSR2}


async def reload(name: str, stack: Stack) -> None:
    """Remove the header from the configuration and wait until a response is without it."""
    for path in stack.proxy.site.folder.iterdir():
        if path.suffix in (".conf", ".cfg"):
            text = path.read_text()
            path.write_text(re.sub(r"(add_header|http-response set-header) X-Old 1;?", "", text))
    stack.proxy.process.send_signal(SIGNALS[name])
    async with asyncio.timeout(PATIENCE), stack.entrance.client("https") as client:
        while "x-old" in (await client.get("/healthz", headers={"Connection": "close"})).headers:
            await pause(0.05)


@pytest.mark.parametrize("name", SIGNALS)
async def test_nginx_and_haproxy_keep_websockets(name: str, certificates: Certificates) -> None:
    async with (
        proxied(COMMANDS[name], certificates, changes=MARKED[name]) as stack,
        stack.entrance.connect("wss") as websocket,
    ):
        await check_echo(websocket)
        async with stack.entrance.client("https") as client:
            assert "x-old" in (await client.get("/healthz")).headers
        await reload(name, stack)
        await check_echo(websocket)


async def test_caddy_closes_websockets(certificates: Certificates) -> None:
    async with (
        proxied(COMMANDS["caddy"], certificates) as stack,
        stack.entrance.connect("wss") as websocket,
    ):
        await check_echo(websocket)
        folder = stack.proxy.site.folder
        command = [program("caddy"), "reload", "--force", "--adapter", "caddyfile"]
        options = ["--config", str(folder / "Caddyfile"), "--address", f"unix/{folder}/admin.sock"]
        done = await asyncio.create_subprocess_exec(
            *command, *options, stderr=asyncio.subprocess.DEVNULL
        )
        assert await soon(done.wait(), PATIENCE) == 0
        with pytest.raises(ConnectionClosed):
            await soon(websocket.recv(), PATIENCE)
        assert websocket.close_code in (1001, 1006)  # it does not wait until its Close is sent
        async with stack.entrance.connect("wss") as again:
            await check_echo(again)
