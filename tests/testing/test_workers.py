"""The live server with workers, in processes of its own."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.harness.processes import ROOT
from tests.harness.waiting import soon, until
from wsgate.errors import ConfigError, StartupFailed
from wsgate.testing import WorkersServer, workers
from wsgate.testing.process import ServerProcess
from wsgate.testing.workers import arguments_of

APP = "tests.apps.worker:app"
PATIENCE = 120.0


@pytest.fixture(autouse=True)
def _no_coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the servers without coverage, which makes them slow and changes their exit status."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
async def _no_tasks_left() -> AsyncIterator[None]:
    async with asyncio.timeout(PATIENCE):
        yield
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def pid_of(server: WorkersServer) -> int:
    async with httpx.AsyncClient(base_url=server.url) as client:
        return int((await client.get("/")).text)


def is_running(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def test_workers_serve_while_the_context_lasts() -> None:
    async with workers(APP, app_dir=ROOT, access_log=False) as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert server.ws_url == f"ws://127.0.0.1:{server.port}"
        assert await pid_of(server) != server.pid
        async with connect(f"{server.ws_url}/", proxy=None) as websocket:
            before = int(await websocket.recv())
            await server.restart()
            await soon(websocket.wait_closed())
            assert websocket.close_code == 1012
        assert await pid_of(server) != before
    assert server.log[-2:] == ["INFO:     Shutting down 2 workers", "INFO:     Stopped"]
    assert not is_running(server.pid)


async def test_a_stop_within_the_context() -> None:
    async with workers(APP, 3, app_dir=ROOT) as server:
        assert any("with 3 workers" in line for line in server.log)
        assert await server.stop() == 0
        assert await server.stop() == 0


async def test_it_stops_gracefully_when_the_test_fails() -> None:
    started: list[WorkersServer] = []

    async def fail() -> None:
        async with workers(APP, app_dir=ROOT) as server:
            started.append(server)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert started[0].log[-1] == "INFO:     Stopped"


async def test_a_server_that_dies_leaves_no_process() -> None:
    async with workers(APP, app_dir=ROOT) as server:
        worker = await pid_of(server)
        server.signal(signal.SIGKILL)
        assert await server.ended() == -signal.SIGKILL
    assert not is_running(server.pid)
    await until(lambda: not is_running(worker))  # it was killed, which takes a moment


async def test_it_leaves_the_control_socket_of_another_server_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "s"))
        other.listen()
        monkeypatch.setenv("WSGATE_CONTROL_SOCKET", str(tmp_path / "s"))
        async with workers(APP, app_dir=ROOT) as server:
            assert await pid_of(server)


async def test_an_app_that_is_no_string_is_refused() -> None:
    app: Any = lambda: None  # noqa: E731  # anything but a string
    with pytest.raises(ConfigError) as raised:
        async with workers(app):
            pytest.fail("it must not start")
    text = 'workers() needs the app as "module:attribute": each worker imports it'
    assert str(raised.value) == text


async def test_the_log_is_in_the_error_of_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "refuses").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        StartupFailed, match=r"^the server did not start:\n[A-Z]+: (.|\n)*no database"
    ):
        async with workers(APP, app_dir=ROOT, lifespan="on"):
            pytest.fail("it must not start")


async def test_the_log_is_in_the_error_of_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with workers(APP, app_dir=ROOT) as server:
        before = await pid_of(server)
        (tmp_path / "fails").touch()
        with pytest.raises(StartupFailed, match="the app cannot be imported"):
            await server.restart()
        (tmp_path / "fails").unlink()
        assert await pid_of(server)
        await server.restart()
        assert await pid_of(server) != before


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"count": 1}, "for one there is serve"),
        ({"backlog": 0}, "--backlog must be"),
        ({"worker_max_rss": 0}, "--worker-max-rss must be"),
        ({"app_dirs": "."}, "there is no setting app_dirs"),
    ],
)
async def test_a_bad_setting_is_refused_before_anything_starts(
    options: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        async with workers(APP, **options):
            pytest.fail("it must not start")


async def test_a_line_that_does_not_come() -> None:
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", r"printf 'one\n\377\n'; exec sleep 60", stdout=asyncio.subprocess.PIPE
    )
    server = ServerProcess(process)
    assert (await server.logged(r"^\\xff")).string == r"\xff"
    with pytest.raises(AssertionError, match="'two' is not in the log:\none"):
        await server.logged("two", 0.01)
    with pytest.raises(AssertionError):
        await server.logged("one", 0.01, start=1)
    server.signal()
    assert await server.ended() == -signal.SIGTERM
    with pytest.raises(AssertionError, match="the server has ended; 'one' is not in its log:"):
        await server.logged("one", times=2)


@pytest.mark.parametrize("length", [65_535, 65_536, 65_537, 500_000])
async def test_a_long_line_is_cut_and_reading_goes_on(length: int) -> None:
    code = f"print('x' * {length}); print('next'); print('y' * {length}, end='')"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), stdout=asyncio.subprocess.PIPE
    )
    server = ServerProcess(process)
    assert await server.ended() == 0
    cut = min(length, 65_536)
    assert server.log == ["x" * cut, "next", "y" * cut]


def test_settings_as_arguments() -> None:
    options = {
        "host": ["127.0.0.1", "::1"],
        "port": 1,
        "access_log": False,
        "date_header": True,
        "ws_per_message_deflate": False,
        "ws_origins": ["same", "none"],
        "headers": [("a", "b"), ("c", "d")],
        "uds_perms": 0o660,
        "ssl_certfile": Path("a.pem"),
        "workers": 2,
        "reload_dirs": ["a", "b"],
        "app_dir": Path("x"),
        "log_level": None,
        "timeout_graceful_shutdown": 0.5,
    }
    assert arguments_of(options) == [
        *("--host=127.0.0.1", "--host=::1", "--port=1", "--no-access-log", "--date-header"),
        *("--ws-per-message-deflate=false", "--ws-origins=same,none"),
        *("--header=a:b", "--header=c:d", "--uds-perms=660", "--ssl-certfile=a.pem"),
        *("--workers=2", "--reload-dir=a", "--reload-dir=b", "--app-dir=x"),
        "--timeout-graceful-shutdown=0.5",
    ]
