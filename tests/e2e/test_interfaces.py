"""Apps of other interfaces, and servers that stop by themselves, with clients of others."""

import asyncio
from pathlib import Path

import httpx
import pytest
import websockets

from tests.harness.processes import program, running

APPS = """
def asgi2(scope):
    async def instance(receive, send):
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
            return
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await send({"type": "http.response.start", "status": 200})
        body = scope["asgi"]["version"].encode()
        await send({"type": "http.response.body", "body": body})
    return instance

def wsgi(environ, start_response):
    start_response("200 OK", [])
    yield environ["PATH_INFO"].encode()
    if environ["PATH_INFO"] == "/long":
        for _ in range(200):
            yield b"x" * 65536
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "apps.py").write_text(APPS)
    return tmp_path


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("interface", ["auto", "asgi2"])
async def test_an_asgi2_app_serves_requests_and_websockets(
    folder: Path, interface: str, loop: str
) -> None:
    options = ("--app-dir", str(folder), "--interface", interface, "--loop", loop)
    async with running("apps:asgi2", *options) as server, httpx.AsyncClient() as client:
        assert (await client.get(server.url)).text == "2.0"
        async with websockets.connect(server.ws_url) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
        server.signal()
        assert await server.ended() == 0


async def test_a_wsgi_app_outlives_clients_that_leave(folder: Path) -> None:
    options = ("--app-dir", str(folder), "--interface", "wsgi", "--timeout-graceful-shutdown", "1")
    async with running("apps:wsgi", *options) as server, httpx.AsyncClient() as client:
        for _ in range(12):  # a2wsgi has ten threads: none of them may be left waiting
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /long HTTP/1.1\r\nhost: a\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()
        assert (await client.get(f"{server.url}/a")).text == "/a"
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(f"{server.ws_url}/b")
        assert refused.value.response.status_code == 200
        server.signal()
        assert await server.ended() == 0
    assert "Traceback" not in "\n".join(server.log)


async def test_with_ws_none_the_app_answers_a_handshake_as_a_request() -> None:
    async with running("tests.apps.echo:app", "--ws", "none") as server:
        with pytest.raises(websockets.InvalidStatus):
            await websockets.connect(server.ws_url)
        await server.logged(r'"GET / HTTP/1\.1" \d+')


async def test_a_server_stops_after_its_last_request() -> None:
    options = ("--limit-max-requests", "3")
    async with running("tests.apps.echo:app", *options) as server:
        async with websockets.connect(server.ws_url) as websocket:
            async with httpx.AsyncClient() as client:
                await client.get(server.url)
            await websocket.send("still here")
            assert await websocket.recv() == "still here"
        async with websockets.connect(server.ws_url) as websocket:
            await websocket.send("last")
            assert await websocket.recv() == "last"
        assert await server.ended() == 0
        await server.logged("The limit of requests is reached")
        await server.logged("Stopped")


async def test_a_program_for_uvicorn_changes_one_word(folder: Path) -> None:
    (folder / "log.json").write_text(
        """{"version": 1, "disable_existing_loggers": false,
        "formatters": {"a": {"()": "uvicorn.logging.AccessFormatter",
                             "fmt": "access: %(client_addr)s %(request_line)s %(status_code)s"},
                       "b": {"()": "uvicorn.logging.DefaultFormatter"}},
        "handlers": {"a": {"class": "logging.StreamHandler", "formatter": "a"},
                     "b": {"class": "logging.StreamHandler", "formatter": "b"}},
        "loggers": {"uvicorn": {"handlers": ["b"], "level": "INFO"},
                    "uvicorn.access": {"handlers": ["a"], "level": "INFO", "propagate": false}}}"""
    )
    (folder / "main.py").write_text(
        "import wsgate\n"
        "wsgate.run('apps:asgi2', host='127.0.0.1', port=0, reload=False, workers=1,\n"
        "    log_config='log.json', log_level=None, ws='websockets', http='httptools',\n"
        "    limit_concurrency=None, headers=None, timeout_keep_alive=5, ws_ping_timeout=None,\n"
        "    timeout_graceful_shutdown=None, app_dir=None, factory=False, use_colors=None,\n"
        "    h11_max_incomplete_event_size=None, timeout_worker_healthcheck=5)\n"
    )
    async with program(str(folder / "main.py"), cwd=folder) as server:
        await server.serves()
        async with websockets.connect(server.ws_url) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
        await server.logged(r"^access: 127\.0\.0\.1:\d+ WebSocket / \[accepted\]$")
        await server.logged(r"^access: 127\.0\.0\.1:\d+ WebSocket / \[closed\] 1000 after ")
        server.signal()
        assert await server.ended() == 0
    assert sum("names loggers of uvicorn" in line for line in server.log) == 1
