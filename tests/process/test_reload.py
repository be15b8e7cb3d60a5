"""--reload with real processes: what happens when a file is saved."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.harness.processes import ROOT, ServerProcess, program
from tests.harness.waiting import pause, start_task

PATIENCE = 60.0  # seconds for anything that other processes do on a loaded machine

APP = """
import os, pathlib, time

VERSION = {version!r}

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        await receive()
        await send({{"type": "websocket.accept"}})
        await send({{"type": "websocket.send", "text": VERSION}})
        await receive()
    elif scope["path"] == "/exit":
        os._exit(5)
    elif scope["path"] == "/block":
        while not pathlib.Path("go").exists():
            time.sleep(0.01)
        await send({{"type": "http.response.start", "status": 200}})
        await send({{"type": "http.response.body", "body": VERSION.encode()}})
    else:
        await send({{"type": "http.response.start", "status": 200}})
        await send({{"type": "http.response.body", "body": VERSION.encode()}})
"""
WAITS = """
while not pathlib.Path("go").exists():
    time.sleep(0.01)
"""


def save(folder: Path, version: str, *, more: str = "") -> None:
    """Write the app as an editor does: into another file, which takes its place."""
    (folder / "main.py.tmp~").write_text(APP.format(version=version) + more)
    (folder / "main.py.tmp~").replace(folder / "main.py")


class Reloading(ServerProcess):
    """A server that reloads."""

    async def get(self, path: str = "/") -> str:
        """Return the body of a response, however long it takes."""
        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE) as client:
            return (await client.get(path)).raise_for_status().text

    async def serves_version(self, version: str) -> None:
        """Wait until the app of this version answers; none of the requests may fail."""
        async with asyncio.timeout(PATIENCE):
            while await self.get() != version:
                await pause(0.02)

    def connect(self) -> connect:
        """Open a WebSocket."""
        return connect(self.ws_url, ping_interval=None, open_timeout=PATIENCE, proxy=None)


@contextlib.asynccontextmanager
async def started(folder: Path, *options: str, path: Path = ROOT) -> AsyncIterator[Reloading]:
    """Run the command with --reload in a folder."""
    command = ("-m", "wsgate", "main:app", "--port", "0", "--reload", "--no-access-log", *options)
    variables = {"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    async with program(*command, cwd=folder, variables=variables, kind=Reloading) as server:
        assert isinstance(server, Reloading)
        yield server


@contextlib.asynccontextmanager
async def reloading(folder: Path, *options: str) -> AsyncIterator[Reloading]:
    """Run it until it serves version one and notices changes."""
    save(folder, "one")
    async with started(folder, *options) as server:
        await server.logged("Watching for changes in ")
        await server.serves()
        assert await server.get() == "one"
        await save_until_noticed(server, folder, "one")
        await settled(server)
        yield server


async def save_until_noticed(server: Reloading, folder: Path, version: str) -> None:
    """Save until a change is noticed: the watch may begin later than its line in the log."""
    async with asyncio.timeout(PATIENCE):
        while not count(server, "main.py changed"):
            save(folder, version)
            with contextlib.suppress(AssertionError):
                await server.logged("main.py changed", 2)


async def settled(server: Reloading) -> None:
    """Wait until each reload that was logged is complete."""
    async with asyncio.timeout(PATIENCE):
        while count(server, "changed: reloading") != count(server, "Restarted 1 worker"):
            await pause(0.05)


def count(server: Reloading, text: str) -> int:
    return sum(text in line for line in server.log)


async def close_code(websocket: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(websocket.recv(), PATIENCE)
    return websocket.close_code


# -- a change --------------------------------------------------------------------------------------


async def test_new_code_is_served_and_websockets_get_1012(tmp_path: Path) -> None:
    async with reloading(tmp_path) as server:
        async with server.connect() as websocket:
            assert await websocket.recv() == "one"
            save(tmp_path, "two")
            assert await close_code(websocket) == 1012
        await server.serves_version("two")
        save(tmp_path, "three")
        await server.serves_version("three")
        async with server.connect() as websocket:
            assert await websocket.recv() == "three"
            server.signal()
            assert await close_code(websocket) == 1012
        assert await server.ended() == 0
        assert not [line for line in server.log if line.startswith(("ERROR", "WARN"))]


async def test_a_request_during_a_reload_waits_and_is_answered(tmp_path: Path) -> None:
    async with reloading(tmp_path) as server:
        async with server.connect() as websocket:
            await websocket.recv()
            save(tmp_path, "two", more=WAITS)
            assert await close_code(websocket) == 1012
        requests = [start_task(server.get()) for _ in range(5)]
        done, _ = await asyncio.wait(requests, timeout=0.3)
        assert not done
        (tmp_path / "go").touch()
        assert await asyncio.gather(*requests) == ["two"] * 5


async def test_a_syntax_error_is_shown_and_the_next_change_is_served(tmp_path: Path) -> None:
    async with reloading(tmp_path) as server:
        save(tmp_path, "two", more="\nthis is no Python\n")
        await server.logged(r"could not start: .*SyntaxError: invalid syntax.*main\.py", PATIENCE)
        await server.logged("Waiting for a change", PATIENCE)
        request = start_task(server.get())
        done, _ = await asyncio.wait([request], timeout=0.3)
        assert not done
        save(tmp_path, "three")
        assert await request == "three"


async def test_it_may_begin_with_an_error(tmp_path: Path) -> None:
    save(tmp_path, "zero", more="raise LookupError('not yet')\n")
    async with started(tmp_path) as server:
        await server.logged("could not start: .*LookupError: not yet", PATIENCE)
        await server.logged("Waiting for a change", PATIENCE)
        await save_until_noticed(server, tmp_path, "one")
        await server.serves()
        assert await server.get() == "one"


async def test_a_worker_that_ends_is_not_started_before_a_change(tmp_path: Path) -> None:
    async with reloading(tmp_path) as server:
        with pytest.raises(httpx.HTTPError):
            await server.get("/exit")
        await server.logged(r"Worker \d+ has ended with status 5")
        await server.logged("Waiting for a change")
        save(tmp_path, "two")
        await server.serves_version("two")


async def test_a_change_while_the_new_worker_starts(tmp_path: Path) -> None:
    async with reloading(tmp_path) as server:
        reloads = count(server, "changed: reloading")
        save(tmp_path, "two", more=WAITS)
        await server.logged("changed: reloading", PATIENCE, times=reloads + 1)
        save(tmp_path, "three")
        await server.serves_version("three")
        assert not [line for line in server.log if line.startswith("ERROR")]


async def test_a_stop_while_the_new_worker_starts(tmp_path: Path) -> None:
    async with reloading(tmp_path) as server:
        reloads = count(server, "changed: reloading")
        save(tmp_path, "two", more=WAITS)
        await server.logged("changed: reloading", PATIENCE, times=reloads + 1)
        server.signal(signal.SIGINT)
        assert await server.ended() == 0
        assert not [line for line in server.log if line.startswith("ERROR")]


# -- which files -----------------------------------------------------------------------------------


async def test_only_the_files_that_are_asked_for(tmp_path: Path) -> None:
    for name in ("templates", "tests", "outside"):
        (tmp_path / name).mkdir()
    options = ("--reload-dir", ".", "--reload-include", "*.html", "--reload-exclude", "tests")
    async with reloading(tmp_path, *options, "--reload-exclude", "draft*") as server:
        before = len(server.log)
        for name in ("tests/a.py", "a.txt", ".hidden.py", "templates/draft.html", "a.pyc"):
            (tmp_path / name).write_text("1")
        (tmp_path / "templates/page.html").write_text("1")
        await server.logged("changed: reloading", PATIENCE, start=before)
        await settled(server)
        changed = [line for line in server.log[before:] if "changed: reloading" in line]
        assert changed == ["INFO:     templates/page.html changed: reloading"]


async def test_another_folder(tmp_path: Path) -> None:
    folder, other = tmp_path / "app", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    async with reloading(folder, "--reload-dir", ".", "--reload-dir", str(other)) as server:
        before = len(server.log)
        (other / "library.py").write_text("1")
        await server.logged(rf"{other}/library\.py changed: reloading", PATIENCE, start=before)
        await settled(server)
        assert await server.get() == "one"


async def test_a_blocked_worker_is_left_to_its_developer(tmp_path: Path) -> None:
    async with reloading(tmp_path, "--timeout-worker-healthcheck", "0.5") as server:
        blocked = start_task(server.get("/block"))
        await server.logged(r"^ERROR: +Worker \d+ has been blocked for [\d.]+ s$", PATIENCE)
        await server.logged(r"main\.py\", line \d+ in app", PATIENCE)
        (tmp_path / "go").touch()
        assert await blocked == "one"


# -- errors of the start ---------------------------------------------------------------------------


async def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    save(tmp_path, "one")
    async with started(tmp_path, "--reload-dir", "missing") as server:
        assert await server.ended() == 1
        assert server.log == ["Error: --reload-dir missing: no such folder"]


async def test_watchfiles_that_is_not_installed_is_named(tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "watchfiles.py").write_text("raise ImportError('not installed')\n")
    save(tmp_path, "one")
    async with started(tmp_path, path=Path(f"{library}:{ROOT}")) as server:
        assert await server.ended() == 1
        assert server.log == ["Error: --reload needs watchfiles: pip install 'wsgate[reload]'"]


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
async def test_a_watch_that_fails_is_logged_and_the_server_goes_on(tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "watchfiles.py").write_text(
        "async def awatch(*_, **__):\n"
        "    raise OSError(28, 'OS file watch limit reached')\n"
        "    yield\n"
    )
    save(tmp_path, "one")
    async with started(tmp_path, path=Path(f"{library}:{ROOT}")) as server:
        await server.logged("Changes are not noticed any more: .* OS file watch limit reached")
        await server.serves()
        assert await server.get() == "one"
        server.signal()
        assert await server.ended() == 0
