"""Real server processes whose standard streams are missing, broken, full or never read."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import unix_connect

from tests.harness.processes import ROOT
from tests.harness.tcp import PATIENCE
from tests.harness.waiting import pause

APP = "tests.apps.abuse:app"


class UnixServer:
    """A server's process on a Unix socket: a port would have to be read from its log."""

    def __init__(self, process: asyncio.subprocess.Process, path: Path) -> None:
        self.process = process
        self.path = path

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect as soon as the server listens."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return await asyncio.open_unix_connection(str(self.path))
            except OSError:
                assert self.process.returncode is None, self.process.returncode
                assert time.monotonic() < deadline
                await pause(0.02)

    async def get(self, *targets: str) -> None:
        """Send requests one after the other; check their responses."""
        reader, writer = await self.connect()
        async with asyncio.timeout(PATIENCE):
            for target in targets:
                writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200")
                assert await reader.readexactly(1) == b"0"
        writer.close()
        await writer.wait_closed()

    async def echo(self) -> None:
        """Check that a WebSocket echoes a message."""
        async with asyncio.timeout(PATIENCE):
            async with unix_connect(str(self.path), "ws://a/") as websocket:
                await websocket.send("hello")
                assert await websocket.recv() == "hello"

    async def stop(self) -> int:
        """Stop the server gracefully; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def serving(
    path: Path, *options: str, redirections: str = "", app: str = APP, **streams: Any
) -> AsyncIterator[UnixServer]:
    """Run a server.

    redirections: of the shell. streams: stdin, stdout and stderr of the process.
    """
    command = (sys.executable, "-m", "wsgate", app, "--uds", str(path), *options)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'exec "$@" {redirections}', "sh", *command),
        cwd=ROOT,
        env=environment,
        **streams,
    )
    try:
        yield UnixServer(process, path)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


# -- missing streams -------------------------------------------------------------------------------

MISSING = ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"]


def files_of(pid: int) -> list[bool]:
    """Return for each standard descriptor whether it is /dev/null."""
    files = (Path(f"/proc/{pid}/fd/{number}") for number in range(3))
    return [file.readlink() == Path(os.devnull) for file in files]


@pytest.mark.parametrize("redirections", MISSING)
async def test_server_runs_with_missing_streams(
    loop_name: str, redirections: str, tmp_path: Path
) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        async with serving(
            *(tmp_path / "socket", "--loop", loop_name),
            redirections=redirections,
            stdout=stdout,
            stderr=stderr,
        ) as server:
            await server.get("/one", "/two")
            await server.echo()
            files = files_of(server.process.pid)
            assert await server.stop() == 0
    assert ("2>&-" in redirections) == files[2] == (err.read_text() == "")
    assert (" >&-" in f" {redirections}") == files[1] == (out.read_text() == "")
    assert "Traceback" not in err.read_text()


@pytest.mark.parametrize("redirections", MISSING)
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--version",), 0),
        (("--help",), 0),
        (("--nonsense",), 2),
        ((), 2),
        (("nowhere.at.all:app",), 1),
        (("tests.apps.abuse:app", "--port", "-1"), 1),
        (("tests.apps.abuse:app", "--lifespan", "on", "--port", "0"), 3),
    ],
)
def test_command_runs_with_missing_streams(
    redirections: str, arguments: tuple[str, ...], status: int
) -> None:
    command = ("sh", "-c", f'exec "$@" {redirections}', "sh", sys.executable, "-m", "wsgate")
    done = subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == status, done.stderr
    if status and "2>&-" not in redirections and status != 3:
        assert "Error: " in done.stderr
    assert "AttributeError" not in done.stderr


# -- readers that leave, and a full disk -----------------------------------------------------------


@contextlib.asynccontextmanager
async def broken_pipe(path: Path, loop_name: str, **streams: Any) -> AsyncIterator[UnixServer]:
    """Run a server; close the pipes of its streams after a request, and stop it at the end.

    streams: stdout and stderr; None is replaced by the pipe.
    """
    reader, writer = os.pipe()
    files: dict[str, Any] = {
        name: writer if file is None else file for name, file in streams.items()
    }
    async with serving(path, "--loop", loop_name, **files) as server:
        os.close(writer)
        await server.get("/one")
        os.close(reader)
        yield server
        await server.echo()
        assert await server.stop() == 0


def without_info(path: Path) -> list[str]:
    """Return the lines of a log file above the level INFO."""
    return [line for line in path.read_text().splitlines() if not line.startswith("INFO: ")]


async def test_reader_of_stdout_leaves(loop_name: str, tmp_path: Path) -> None:
    path, err = tmp_path / "socket", tmp_path / "err"
    with err.open("wb") as stderr:
        async with broken_pipe(path, loop_name, stdout=None, stderr=stderr) as server:
            await server.get(*(f"/{number}" for number in range(50)))
    assert without_info(err) == ["WARNING:  The access log cannot be written: Broken pipe"]


async def test_reader_of_stderr_leaves(loop_name: str, tmp_path: Path) -> None:
    path, out = tmp_path / "socket", tmp_path / "out"
    with out.open("wb") as stdout:
        async with broken_pipe(path, loop_name, stdout=stdout, stderr=None) as server:
            reader, writer = await server.connect()
            writer.write(b"nonsense\r\n\r\n")
            await reader.read()
            writer.close()
            await server.get("/two")
    lines = out.read_text().splitlines()
    assert lines.count("WARNING:  The error log cannot be written: Broken pipe") == 1
    assert len(lines) == 2 + 2 + 1


async def test_readers_of_both_streams_leave(loop_name: str, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with broken_pipe(path, loop_name, stdout=None, stderr=None) as server:
        await server.get("/two", "/three")


async def test_full_disk(loop_name: str, tmp_path: Path) -> None:
    err = tmp_path / "err"
    with err.open("wb") as stderr, Path("/dev/full").open("wb") as stdout:  # noqa: ASYNC230
        async with serving(
            tmp_path / "socket", "--loop", loop_name, stdout=stdout, stderr=stderr
        ) as server:
            await server.get("/one", "/two", "/three")
            await server.echo()
            assert await server.stop() == 0
    error = "WARNING:  The access log cannot be written: No space left on device"
    assert without_info(err) == [error]


# -- readers that do not read ----------------------------------------------------------------------


async def test_log_that_nobody_reads_does_not_slow_the_server(
    loop_name: str, tmp_path: Path
) -> None:
    """The log's reader sleeps for a while. Afterwards the log says how many lines are missing."""
    count, target = 600, "/" + "x" * 4_000
    reader, writer = os.pipe()
    async with serving(
        tmp_path / "socket", "--loop", loop_name, stdout=writer, stderr=writer
    ) as server:
        os.close(writer)
        await server.get(*[target] * count)
        await server.echo()
        os.set_blocking(reader, False)
        log = b""
        async with asyncio.timeout(PATIENCE):
            while b"missing here" not in log:
                with contextlib.suppress(BlockingIOError):
                    log += os.read(reader, 65_536)
                    continue
                await pause(0.01)
        server.process.send_signal(signal.SIGTERM)
        os.set_blocking(reader, True)
        log += await asyncio.to_thread(_read_rest, reader)
        async with asyncio.timeout(PATIENCE):
            assert await server.process.wait() == 0
    lines = log.decode().splitlines()
    notices = [line for line in lines if "missing here" in line]
    missing = sum(int(line.split()[1]) for line in notices)
    assert all(line.startswith("WARNING:  ") for line in notices)
    assert sum(target in line for line in lines) + missing >= count
    assert 0 < missing < count
    assert lines[-1] == "INFO:     Stopped"


def _read_rest(reader: int) -> bytes:
    with open(reader, "rb") as stream:
        return stream.read()


@pytest.mark.parametrize("kind", ["pipe", "socket", "one for both"])
async def test_log_that_nobody_reads_delays_the_exit_by_a_second(
    loop_name: str, kind: str, tmp_path: Path
) -> None:
    ours, theirs = socket.socketpair()
    pipes = [os.pipe(), os.pipe()]
    streams: dict[str, dict[str, Any]] = {
        "pipe": {"stdout": pipes[0][1], "stderr": pipes[1][1]},
        "socket": {"stdout": theirs, "stderr": pipes[1][1]},
        "one for both": {"stdout": theirs, "stderr": theirs},
    }
    target = "/" + "x" * 4_000
    with ours, theirs:
        async with serving(tmp_path / "socket", "--loop", loop_name, **streams[kind]) as server:
            await server.get(*[target] * 300)
            began = time.monotonic()
            assert await server.stop() == 0
            took = time.monotonic() - began
    for pipe in pipes:
        for descriptor in pipe:
            os.close(descriptor)
    assert 0.9 < took < PATIENCE  # one second, and a loaded machine


async def test_last_lines_are_written_before_the_exit(loop_name: str, tmp_path: Path) -> None:
    async with serving(
        *(tmp_path / "socket", "--loop", loop_name, "--lifespan", "off"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as server:
        await server.get(*(f"/{number}" for number in range(100)))
        await server.echo()
        server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            out, _ = await server.process.communicate()
    lines = out.decode().splitlines()
    assert [line.split('"')[1] for line in lines if "GET" in line] == [
        f"GET /{number} HTTP/1.1" for number in range(100)
    ]
    assert lines[0].startswith("INFO:     wsgate running on")
    assert lines[-2:] == ["INFO:     Shutting down", "INFO:     Stopped"]
