"""Real processes under the protocols of systemd: passed sockets, notifications, the watchdog."""

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.processes import ServerProcess, program
from tests.harness.service_manager import NotifySocket, notify_socket, service

APP = "tests.apps.unix:app"
GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[NotifySocket]:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    name = f"@{tmp_path}" if request.param == "abstract" else str(tmp_path / "n")
    with notify_socket(name) as found:
        yield found


def tcp() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def arguments(loop: str, *options: str, app: str = APP) -> tuple[str, ...]:
    return (app, "--app-dir", str(Path(__file__).parents[2]), "--loop", loop, *options)


async def get(address: object) -> bytes:
    """Return the body of a response of a server at an address, as `getsockname` returns it."""
    async with asyncio.timeout(30):
        if isinstance(address, tuple):
            reader, writer = await asyncio.open_connection(*address[:2])
        else:
            reader, writer = await asyncio.open_unix_connection(address)  # type: ignore[arg-type]  # a name
        writer.write(GET)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    return answer.rpartition(b"\r\n")[2]


async def end(server: ServerProcess) -> None:
    server.signal()
    assert await server.ended() == 0


# -- sockets ---------------------------------------------------------------------------------------


async def test_passed_sockets_are_served(tmp_path: Path, loop_name: str) -> None:
    with tcp() as http, unix(tmp_path / "s") as local:
        inode = (tmp_path / "s").stat().st_ino
        async with service(
            *arguments(loop_name), folder=tmp_path, passed=[http, local], names="http:local"
        ) as server:
            await server.logged("Using the sockets that systemd has passed: http, local")
            await server.logged(rf"running on http://127\.0\.0\.1:{http.getsockname()[1]} ")
            await server.logged(rf"running on unix socket {tmp_path}/s ")
            for sock in (http, local):
                assert await get(sock.getsockname()) == str(server.pid).encode()
            await end(server)
        assert (tmp_path / "s").stat().st_ino == inode  # systemd owns the file


async def test_names_select_passed_sockets(tmp_path: Path, loop_name: str) -> None:
    with tcp() as http, tcp() as admin:
        options = ("--systemd-socket", "admin", "--uds", "s")
        async with service(
            *arguments(loop_name, *options),
            folder=tmp_path,
            passed=[http, admin],
            names="http:admin",
        ) as server:
            await server.logged("running on unix socket s ")
            assert await get(admin.getsockname()) == str(server.pid).encode()
            assert await get(str(tmp_path / "s")) == str(server.pid).encode()
            assert not [line for line in server.log if str(http.getsockname()[1]) in line]
            await end(server)
    assert not (tmp_path / "s").exists()


async def test_passed_sockets_that_are_not_used_are_named(tmp_path: Path, loop_name: str) -> None:
    with tcp() as http:
        options = arguments(loop_name, "--port", "0")
        async with service(*options, folder=tmp_path, passed=[http], names="http") as server:
            await server.logged("WARNING:  Sockets that systemd has passed are not used")
            await server.logged("running on http://127.0.0.1:")
            await end(server)


async def test_connections_to_a_passed_socket_survive_a_restart(
    tmp_path: Path, loop_name: str
) -> None:
    """Those that wait when a server stops are served by the next one."""
    with tcp() as http:
        async with service(*arguments(loop_name), folder=tmp_path, passed=[http]) as first:
            await first.logged("running on")
            await end(first)
        waiting = asyncio.create_task(get(http.getsockname()))
        async with service(*arguments(loop_name), folder=tmp_path, passed=[http]) as second:
            assert await waiting == str(second.pid).encode()
            await end(second)


async def test_child_processes_get_neither_variables_nor_sockets(
    tmp_path: Path, loop_name: str
) -> None:
    with tcp() as http:
        app = "tests.apps.activated:app"
        async with service(
            *arguments(loop_name, app=app), folder=tmp_path, passed=[http], names="http"
        ) as server:
            await server.logged("running on")
            assert await get(http.getsockname()) == b"variables: [], descriptors: []"
            await end(server)


@pytest.mark.parametrize(
    ("names", "options", "line"),
    [
        ("a:b", (), "LISTEN_FDNAMES='a:b' has not the 1 names of LISTEN_FDS"),
        ("a", ("--systemd-socket", "b"), "--systemd-socket b: systemd has passed only a"),
        ("a", ("--systemd-socket", "a", "--fd", "3"), "--systemd-socket must be alone, "),
    ],
)
async def test_bad_input_is_one_line(
    tmp_path: Path, names: str, options: tuple[str, ...], line: str
) -> None:
    with tcp() as http:
        async with service(
            *arguments("asyncio", *options), folder=tmp_path, passed=[http], names=names
        ) as server:
            assert await server.ended() == 1
            (only,) = server.log
            assert only.startswith(f"Error: {line}")


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="systemd is not installed")
async def test_systemd_itself_passes_sockets(tmp_path: Path, loop_name: str) -> None:
    with tcp() as http:
        port = http.getsockname()[1]
    path = shutil.which("systemd-socket-activate")
    launcher = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
    listen = ("-l", f"127.0.0.1:{port}", "-l", str(tmp_path / "s"), "--fdname", "http:local")
    command = ("-m", "wsgate", *arguments(loop_name))
    async with program("-c", launcher, str(path), *listen, sys.executable, *command) as server:
        await server.logged("Listening on .*:.* as 3")
        assert await get(("127.0.0.1", port)) == str(server.pid).encode()
        await server.logged("Using the sockets that systemd has passed: http, local")
        assert await get(str(tmp_path / "s")) == str(server.pid).encode()
        await end(server)


# -- notifications ---------------------------------------------------------------------------------


async def test_a_service_reports_its_life(
    tmp_path: Path, loop_name: str, manager: NotifySocket
) -> None:
    variables = {"NOTIFY_SOCKET": manager.name}
    options = arguments(loop_name, "--uds", "s", "--drain-seconds", "0.1")
    async with service(*options, folder=tmp_path, variables=variables) as server:
        ready = await manager.receive()
        assert ready == {"READY": "1", "STATUS": "Running on unix socket s"}
        assert await get(str(tmp_path / "s"))  # it is ready when it says so
        server.signal(signal.SIGHUP)
        assert (await manager.receive())["RELOADING"] == "1"
        assert await manager.receive() == ready
        await server.logged("Log files reopened")
        await end(server)
        stopping = await manager.receive()
        assert stopping["STOPPING"] == "1"
        assert stopping["EXTEND_TIMEOUT_USEC"] == "27100000"
        assert not manager.waiting()


async def test_a_service_that_cannot_start_is_never_ready(
    tmp_path: Path, manager: NotifySocket
) -> None:
    variables = {"NOTIFY_SOCKET": manager.name}
    options = arguments("asyncio", "--uds", "s", app="tests.apps.unix:refuses")
    async with service(*options, folder=tmp_path, variables=variables) as server:
        assert await server.ended() == 3
    assert not manager.waiting()


async def test_a_manager_that_is_gone_does_not_stop_the_server(
    tmp_path: Path, loop_name: str
) -> None:
    variables = {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "20000"}
    options = arguments(loop_name, "--uds", "s")
    async with service(*options, folder=tmp_path, variables=variables) as server:
        await server.logged("WARNING:  NOTIFY_SOCKET=.*/gone: systemd is not notified: No such")
        assert await get(str(tmp_path / "s"))
        await end(server)
        assert len([line for line in server.log if "NOTIFY_SOCKET" in line]) == 1


async def test_the_watchdog_notices_a_blocked_loop(
    tmp_path: Path, loop_name: str, manager: NotifySocket
) -> None:
    os.mkfifo(tmp_path / "go-on")
    variables = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "50000"}
    options = arguments(loop_name, "--uds", "s", app="tests.apps.activated:app")
    async with service(*options, folder=tmp_path, variables=variables) as server:
        for _ in range(3):
            await manager.receive_until("WATCHDOG=1")
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(GET.replace(b"GET /", b"GET /block"))
        await server.logged("^blocked$")
        # The loop is blocked until the app may go on: nothing more arrives after what is there.
        manager.waiting()
        await server.logged("The event loop has been blocked for")
        assert not manager.waiting()
        (tmp_path / "go-on").write_bytes(b"")
        await manager.receive_until("WATCHDOG=1")
        assert (await asyncio.wait_for(reader.read(), 30)).startswith(b"HTTP/1.1 200")
        writer.close()
        await end(server)


# -- several addresses -----------------------------------------------------------------------------


async def test_a_stop_removes_each_socket_file(tmp_path: Path, loop_name: str) -> None:
    options = ("--uds", "a", "--uds", "b", "--uds", "./a")
    hosts = ("--host", "127.0.0.1", "--host", "127.0.0.2", "--host", "127.0.0.1", "--port", "0")
    async with service(*arguments(loop_name, *options, *hosts), folder=tmp_path) as server:
        await server.logged("running on", times=4)
        ports = {(await server.logged(rf"http://127\.0\.0\.{n}:(\d+)"))[1] for n in (1, 2)}
        (port,) = ports
        for host in ("127.0.0.1", "127.0.0.2"):
            assert await get((host, int(port))) == str(server.pid).encode()
        for name in ("a", "b"):
            assert await get(str(tmp_path / name)) == str(server.pid).encode()
        (tmp_path / "b").unlink()
        with unix(tmp_path / "b"):  # a file that is not ours
            await end(server)
        assert sum("running on" in line for line in server.log) == 4
    assert names_in(tmp_path) == ["b"]


async def test_one_address_in_use_is_one_line(tmp_path: Path) -> None:
    with unix(tmp_path / "used"), tcp() as taken:
        port = taken.getsockname()[1]
        for options, line in (
            (("--uds", "new", "--uds", "used"), "Error: --uds used is in use by another server"),
            (
                ("--host", "127.0.0.2", "--host", "127.0.0.1", "--port", str(port)),
                f"Error: cannot listen on 127.0.0.1:{port}: Address already in use",
            ),
        ):
            async with service(*arguments("asyncio", *options), folder=tmp_path) as server:
                assert await server.ended() == 1
                assert server.log == [line]
            assert names_in(tmp_path) == ["used"]


async def test_a_wildcard_says_what_it_includes(tmp_path: Path) -> None:
    options = ("--host", "", "--port", "0")
    async with service(*arguments("asyncio", *options), folder=tmp_path) as server:
        await server.logged(r"running on http://0\.0\.0\.0:\d+, all addresses of IPv4 \(")
        await end(server)
