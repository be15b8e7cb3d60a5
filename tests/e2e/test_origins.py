"""Which pages may open a WebSocket of a real server, with a client that sends their Origin."""

from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.harness.processes import ServerProcess, running, started

APP = "tests.apps.echo:app"
WARNING = "cross-site WebSocket hijacking"
COOKIE = {"Cookie": "session=1"}


async def status(
    server: ServerProcess, origin: str | None, host: str | None = None, **headers: str
) -> int:
    """Return the status of a handshake: 101 if the WebSocket opened and echoes."""
    options: dict[str, Any] = {"origin": origin, "additional_headers": headers, "proxy": None}
    url = f"ws://{host or '127.0.0.1'}:{server.port}/"
    try:
        async with connect(url, host="127.0.0.1", **options) as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"
    except InvalidStatus as refused:
        return refused.response.status_code
    return 101


async def test_same_is_the_origin_of_the_page_around_the_websocket(loop_name: str) -> None:
    async with running(APP, "--loop", loop_name, "--ws-origins", "same") as server:
        port = server.port
        for _ in range(2):  # the second time the result is cached
            assert await status(server, f"http://127.0.0.1:{port}") == 101
            assert await status(server, f"http://localhost:{port}", "localhost") == 101
            assert await status(server, f"http://chat.example:{port}", "chat.example") == 101
            assert await status(server, f"http://CHAT.example:{port}", "chat.example") == 101
            for origin in (
                f"http://127.0.0.1:{port + 1}",
                "http://127.0.0.1",
                f"https://127.0.0.1:{port}",
                f"http://localhost:{port}",
                f"http://evil.example:{port}",
                f"http://127.0.0.1:{port}@evil.example",
                "null",
                None,
            ):
                assert await status(server, origin) == 403, origin
        assert not [line for line in server.log if WARNING in line]


async def test_same_may_stand_beside_the_list(loop_name: str) -> None:
    origins = "same, https://other.example, none"
    async with running(APP, "--loop", loop_name, "--ws-origins", origins) as server:
        for origin in (f"http://127.0.0.1:{server.port}", "https://other.example", None):
            assert await status(server, origin, **COOKIE) == 101
        assert await status(server, "https://evil.example", **COOKIE) == 403
        assert not [line for line in server.log if WARNING in line]


async def test_a_foreign_page_with_cookies_is_named_once(loop_name: str) -> None:
    async with running(APP, "--loop", loop_name) as server:
        own = f"http://127.0.0.1:{server.port}"
        for origin, headers in ((own, COOKIE), (None, COOKIE), ("https://evil.example", {})):
            assert await status(server, origin, **headers) == 101
        assert not [line for line in server.log if WARNING in line]
        for origin in ("https://evil.example", "https://evil.example", "null"):
            assert await status(server, origin, **COOKIE) == 101
        await server.logged(
            rf"^WARNING:  A page of https://evil\.example opened a WebSocket to "
            rf"127\.0\.0\.1:{server.port} .*\({WARNING}\).* --ws-origins "
        )
        server.signal()
        assert await server.ended() == 0
        assert len([line for line in server.log if WARNING in line]) == 1


async def test_a_websocket_that_the_app_refuses_is_not_named() -> None:
    async with running("tests.apps.refusing:app", "--loop", "asyncio") as server:
        assert await status(server, "https://evil.example", **COOKIE) == 403
        server.signal()
        assert await server.ended() == 0
        assert not [line for line in server.log if WARNING in line]


async def test_a_list_silences_the_warning_for_the_pages_in_it() -> None:
    options = ("--loop", "asyncio", "--ws-origins", "https://friend.example")
    async with running(APP, *options) as server:
        assert await status(server, "https://friend.example", **COOKIE) == 101
        assert not [line for line in server.log if WARNING in line]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("sme", "'sme' is not an origin such as https://sme"),
        ("same,,a.example", "'a.example' is not an origin such as https://a.example"),
        ("*", "'*' is not an origin; without the option, all may connect"),
    ],
)
async def test_a_misspelt_origin_is_one_line(value: str, shown: str) -> None:
    async with started(APP, "--port", "0", "--ws-origins", value) as server:
        assert await server.ended() == 1
        assert server.log == [f"Error: --ws-origins: {shown}"]
