"""Unix sockets of real processes: which process owns the file, and whether it removes it."""

import asyncio
import contextlib
import signal
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.harness.processes import STOP, ServerProcess, started

RUNNING = "running on unix socket"
IN_USE = "Error: --uds s is in use by another server"


@contextlib.asynccontextmanager
async def serving(
    folder: Path, loop: str, *options: str, app: str = "app"
) -> AsyncIterator[ServerProcess]:
    """Serve on the socket `s` in a folder, or on the descriptor of --fd."""
    where = () if "--fd" in options else ("--uds", "s")
    arguments = (f"tests.apps.unix:{app}", "--loop", loop, *where, *options)
    fds = [int(options[options.index("--fd") + 1])] if "--fd" in options else []
    async with started(*arguments, folder=folder, pass_fds=fds) as server:
        yield server


async def pid_of_server(path: Path) -> int:
    """Return the id of the process that serves a Unix socket."""
    async with asyncio.timeout(STOP):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    return int(answer.rpartition(b"\r\n")[2])


async def stop(server: ServerProcess) -> int:
    """Stop a server with SIGTERM; return its exit status."""
    server.signal(signal.SIGTERM)
    return await server.ended()


@pytest.fixture
def inherited(tmp_path: Path) -> Iterator[socket.socket]:
    """Return a listening socket, as systemd passes it to a service."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        yield sock


async def test_file_of_an_inherited_socket_is_kept(
    tmp_path: Path, inherited: socket.socket, loop_name: str
) -> None:
    path = tmp_path / "s"
    inode = path.stat().st_ino
    for _ in range(2):  # the file's owner may start another server with it
        async with serving(tmp_path, loop_name, "--fd", str(inherited.fileno())) as server:
            await server.logged(RUNNING)
            assert await pid_of_server(path) == server.pid
            assert await stop(server) == 0
            assert path.stat().st_ino == inode


async def test_file_of_the_next_server_is_kept(tmp_path: Path, loop_name: str) -> None:
    path = tmp_path / "s"
    async with serving(tmp_path, loop_name) as first:
        await first.logged(RUNNING)
        path.unlink()
        async with serving(tmp_path, loop_name) as second:
            await second.logged(RUNNING)
            assert await stop(first) == 0
            assert await pid_of_server(path) == second.pid
            assert await stop(second) == 0
    assert not path.exists()


async def test_file_of_a_crashed_server_is_replaced(tmp_path: Path, loop_name: str) -> None:
    path = tmp_path / "s"
    async with serving(tmp_path, loop_name, "--uds-perms", "600") as first:
        await first.logged(RUNNING)
        first.signal(signal.SIGKILL)
        await first.ended()
    assert path.is_socket()
    async with serving(tmp_path, loop_name) as second:
        await second.logged(RUNNING)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await pid_of_server(path) == second.pid
        assert await stop(second) == 0
    assert not path.exists()


async def test_file_of_a_running_server_is_not_replaced(tmp_path: Path, loop_name: str) -> None:
    async with serving(tmp_path, loop_name) as first:
        await first.logged(RUNNING)
        async with serving(tmp_path, loop_name) as second:
            assert await second.ended() == 1
            assert second.log == [IN_USE]
        assert await pid_of_server(tmp_path / "s") == first.pid


async def test_file_is_removed_from_the_folder_where_the_server_started(
    tmp_path: Path, loop_name: str
) -> None:
    async with serving(tmp_path, loop_name, app="moves") as server:
        await server.logged(RUNNING)
        await server.logged("^the app is in /$")
        assert await stop(server) == 0
    assert not (tmp_path / "s").exists()


async def test_stop_works_if_the_file_is_missing(tmp_path: Path, loop_name: str) -> None:
    async with serving(tmp_path, loop_name) as server:
        await server.logged(RUNNING)
        (tmp_path / "s").unlink()
        assert await stop(server) == 0
        assert not [line for line in server.log if not line.startswith("INFO:")]


async def test_failed_startup_leaves_no_file(tmp_path: Path, loop_name: str) -> None:
    async with serving(tmp_path, loop_name, app="refuses") as server:
        assert await server.ended() == 3
    assert not (tmp_path / "s").exists()
