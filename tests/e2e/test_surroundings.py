"""The server in other environments: strict interpreters, runners, threads, pytest plugins."""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

import pytest
import uvloop
from websockets.asyncio.client import connect

import wsgate.testing
from tests.apps.echo import app
from tests.harness.processes import ROOT, START

RUNNERS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def echoes(url: str) -> None:
    async with connect(url) as websocket:
        for text in ("hi", "\u65e5\u672c" * 20_000):
            await websocket.send(text)
            assert await websocket.recv() == text


class Threaded:
    """A server in a thread, run by `asyncio.Runner`."""

    def __init__(self, factory: Any) -> None:
        self._factory = factory
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(START)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._factory) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with wsgate.testing.serve(app) as server:
            self.port = server.port
            self._started.set()
            await self._stop.wait()


@pytest.mark.parametrize("name", RUNNERS)
async def test_servers_in_threads_of_one_process(name: str) -> None:
    with Threaded(RUNNERS[name]) as one, Threaded(RUNNERS[name]) as other:
        async with asyncio.timeout(START):
            await asyncio.gather(*(echoes(f"ws://127.0.0.1:{s.port}") for s in (one, other)))


STRICT = {
    "development mode": (("-X", "dev", "-W", "error"), {}),
    "asyncio's debug mode": (("-W", "error"), {"PYTHONASYNCIODEBUG": "1"}),
}


@pytest.mark.parametrize("mode", STRICT)
async def test_a_strict_interpreter_reports_no_warning(mode: str, loop_name: str) -> None:
    arguments, environment = STRICT[mode]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments, "-m", "wsgate", "tests.apps.echo:app"),
        *("--port", "0", "--loop", loop_name),
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")} | environment,
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert process.stderr is not None
    async with asyncio.timeout(2 * START):
        lines: list[bytes] = []
        while b"running on" not in (line := await process.stderr.readline()):
            assert line, lines
            lines.append(line)
        port = line.split(b"127.0.0.1:")[1].split()[0].decode()
        await echoes(f"ws://127.0.0.1:{port}")
        process.terminate()
        lines += (await process.stderr.read()).splitlines()
        assert await process.wait() == 0
    assert all(line.startswith(b"INFO:") for line in lines), lines


ANYIO = """
import pytest, websockets, wsgate.testing
from tests.apps.echo import app

pytestmark = pytest.mark.anyio

@pytest.fixture(params=[{"use_uvloop": False}, {"use_uvloop": True}, {"debug": True}])
def anyio_backend(request):
    return "asyncio", request.param

@pytest.fixture
async def server(anyio_backend):
    async with wsgate.testing.serve(app) as server:
        yield server

@pytest.mark.parametrize("text", ["one", "two"])
async def test_an_echo(server, text):
    async with websockets.connect(server.ws_url) as websocket:
        await websocket.send(text)
        assert await websocket.recv() == text
"""


def test_the_live_server_works_with_anyio_s_plugin(tmp_path: Path) -> None:
    (tmp_path / "test_anyio.py").write_text(ANYIO)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:asyncio"),
            *("-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)),
        ],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith(("COVERAGE_", "PYTEST_"))}
        | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=4 * START,
        check=False,
    )
    assert "6 passed" in done.stdout, done.stdout + done.stderr
