"""The control socket and `wsgate ctl`, with real processes: alone, and with workers."""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.harness.processes import ROOT, ServerProcess, started
from tests.harness.waiting import start_task
from wsgate import __version__

APP = "tests.apps.worker:app"
PATIENCE = 60.0  # seconds for anything that other processes do on a loaded machine
GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"


class Result(NamedTuple):
    """What a command has printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """The lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


async def ctl(path: str, *arguments: str, **variables: str) -> Result:
    """Run `wsgate ctl` with its output in a pipe."""
    words = ("-m", "wsgate", "ctl", *(("--socket", path) if path else ()), *arguments)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *words),
        cwd=ROOT,
        env=environment() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Result(process.returncode, out.decode(), err.decode())


def environment() -> dict[str, str]:
    left_out = ("COVERAGE_", "WSGATE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}


async def ctl_on_a_terminal(path: str, *arguments: str) -> str:
    """Run `wsgate ctl` with its output on a terminal; return what it shows."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    command = [sys.executable, "-m", "wsgate", "ctl", "--socket", path, *arguments]
    with subprocess.Popen(  # noqa: ASYNC220  # it is started, not waited for
        command, cwd=ROOT, env=environment(), stdin=slave, stdout=slave, stderr=slave
    ):
        os.close(slave)
        async with asyncio.timeout(PATIENCE):
            return await asyncio.to_thread(read_all, master)


def read_all(descriptor: int) -> str:
    data = b""
    with contextlib.suppress(OSError):  # EIO: the terminal was closed
        while piece := os.read(descriptor, 65_536):
            data += piece
    os.close(descriptor)
    return data.decode().replace("\r\n", "\n")


class Controlled(ServerProcess):
    """A server with a control socket. path: of the socket."""

    path: str

    async def lines(self, command: str, **arguments: Any) -> list[Any]:
        """Send a command as any program could; return the lines of the answer."""
        reader, writer = await asyncio.open_unix_connection(self.path, limit=2**22)
        try:
            writer.write(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
            lines: list[Any] = []
            async with asyncio.timeout(PATIENCE):
                while not lines or "part" in lines[-1]:
                    lines.append(json.loads(await reader.readline()))
            return lines
        finally:
            writer.close()

    async def part(self, command: str, **arguments: Any) -> Any:
        """Send a command; return the last part of its answer, which has to be whole."""
        *parts, end = await self.lines(command, **arguments)
        assert end == {"end": True}, end
        return parts[-1]["part"]

    async def error(self, command: str, **arguments: Any) -> Any:
        """Send a command that is refused; return the error."""
        return (await self.lines(command, **arguments))[-1]["error"]

    async def connections(self, **arguments: Any) -> list[Any]:
        lines = await self.lines("connections", **arguments)
        pages = [line["part"].get("connections", []) for line in lines if "part" in line]
        return [one for page in pages for one in page]

    async def workers(self) -> list[Any]:
        found: list[Any] = (await self.part("status"))["workers"]
        return found

    async def settled(self, count: int) -> list[Any]:
        """Wait until there are so many workers, all of them ready; return them."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = await self.workers()
                if [one["state"] for one in found] == ["ready"] * count:
                    return found

    def connect(self, path: str = "/") -> connect:
        """Open a WebSocket."""
        return connect(self.ws_url + path, ping_interval=None, open_timeout=PATIENCE, proxy=None)

    @contextlib.asynccontextmanager
    async def requested(self, path: str) -> AsyncIterator[asyncio.StreamReader]:
        """Send a request on a connection of its own, which stays open."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(GET % path.encode())
        try:
            yield reader
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def controlled(folder: Path, *options: str) -> AsyncIterator[Controlled]:
    """Run a server with a control socket in a folder."""
    path = str(folder / "c.sock")
    arguments = (APP, "--port", "0", "--no-access-log", "--control-socket", path, *options)
    async with started(*arguments, kind=Controlled) as server:
        assert isinstance(server, Controlled)
        server.path = path
        await server.serves()
        yield server


ALONE: tuple[str, ...] = ()
WORKERS = ("--workers", "2", "--timeout-worker-healthcheck", "600")
BOTH = pytest.mark.parametrize("options", [ALONE, WORKERS], ids=["alone", "workers"])


async def hello(websocket: ClientConnection) -> int:
    """Return the pid of the worker that serves a WebSocket."""
    return int(await asyncio.wait_for(websocket.recv(), PATIENCE))


async def close_of(websocket: ClientConnection) -> tuple[int | None, str | None]:
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(websocket.recv(), PATIENCE)
    return websocket.close_code, websocket.close_reason


# -- status ----------------------------------------------------------------------------------------


@BOTH
async def test_the_status(tmp_path: Path, options: tuple[str, ...]) -> None:
    async with controlled(tmp_path, *options) as server:
        async with server.connect() as websocket:
            pid = await hello(websocket)
            status = await server.part("status")
        about = status["server"]
        count = 2 if options else 1
        assert (about["version"], about["pid"], about["state"]) == (
            __version__,
            server.pid,
            "ready",
        )
        assert (about["target"], about["listening"]) == (count, [server.url])
        assert about["uptime"] > 0
        workers = {one["pid"]: one for one in status["workers"]}
        assert len(workers) == count
        assert workers[pid]["connections"] == 1
        assert sorted(one["number"] for one in workers.values()) == list(range(1, count + 1))
        for one in workers.values():
            assert (one["state"], one["version"]) == ("ready", __version__)
            assert one["age"] > 0
            assert 0 <= one["lag"] < PATIENCE


@BOTH
async def test_the_socket_is_open_while_the_server_stops(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    async with controlled(tmp_path, *options) as server:
        async with server.connect() as websocket:
            await hello(websocket)
            request = server.requested("/wait")
            async with request as waiting:
                server.signal()
                await server.logged("Shutting down")
                status = await server.part("status")
                assert status["server"]["state"] == "stopping"
                if options:
                    assert await server.error("restart") == "the server stops"
                    assert await server.error("scale", target=1) == "the server stops"
                server.signal()
                with contextlib.suppress(ConnectionError):
                    assert await waiting.read() == b""
        await server.ended()


async def test_a_worker_that_is_blocked_shows_its_lag(tmp_path: Path) -> None:
    async with controlled(tmp_path, *WORKERS) as server:
        pid = (await server.workers())[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        async with asyncio.timeout(PATIENCE):
            while (await server.workers())[0]["lag"] < 1:
                pass
        assert await server.part("stack", worker=pid) == {"unanswered": [pid]}
        os.kill(pid, signal.SIGCONT)


# -- the file --------------------------------------------------------------------------------------


@BOTH
async def test_the_file_belongs_to_its_owner_and_is_removed(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    async with controlled(tmp_path, *options) as server:
        assert stat.S_IMODE(os.stat(server.path).st_mode) == 0o600  # noqa: PTH116
        if options:
            os.kill((await server.workers())[0]["pid"], signal.SIGKILL)
            await server.logged("was ended by SIGKILL")
            await server.settled(2)
        server.signal()
        assert await server.ended() == 0
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240  # a folder in memory


@BOTH
async def test_a_path_that_cannot_be_used_is_one_line(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    path = tmp_path / "file"
    path.touch()
    arguments = (APP, "--port", "0", "--control-socket", str(path), *options)
    async with started(*arguments) as server:
        assert await server.ended() == 1
        line = f"Error: --control-socket {path} exists and is not a socket"
        assert server.log == [line]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/c.sock", "there is no folder {folder}/missing"),
        ("x" * 200, "the path has {size} bytes, and a socket's may have 107"),
    ],
)
async def test_a_path_that_cannot_be_created_says_why(
    tmp_path: Path, name: str, reason: str
) -> None:
    path = tmp_path / name
    async with started(APP, "--port", "0", "--control-socket", str(path)) as server:
        assert await server.ended() == 1
        text = reason.format(folder=tmp_path, size=len(str(path)))
        assert server.log == [f"Error: --control-socket {path}: {text}"]


async def test_an_empty_path_is_no_control_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with controlled(tmp_path) as server:
        monkeypatch.setenv("WSGATE_CONTROL_SOCKET", server.path)
        async with started(APP, "--port", "0", "--control-socket", "") as other:
            await other.serves()


# -- restart, scale, drain -------------------------------------------------------------------------


async def test_a_restart_that_is_waited_for(tmp_path: Path) -> None:
    async with controlled(tmp_path, *WORKERS) as server:
        before = {one["pid"] for one in await server.workers()}
        result = await ctl(server.path, "restart", "--wait")
        assert result.lines == [{"restarting": 2}, {"restarted": 2}]
        assert (result.status, result.err) == (0, "")
        assert not before & {one["pid"] for one in await server.settled(2)}


async def test_a_restart_that_is_not_waited_for(tmp_path: Path) -> None:
    async with controlled(tmp_path, *WORKERS) as server:
        assert await server.part("restart") == {"restarting": 2}
        assert (await server.part("status"))["server"]["state"] == "restarting"
        states = {one["state"] for one in await server.workers()}
        assert "outdated" in states
        await server.logged("Restarted 2 workers", PATIENCE)


async def test_a_restart_that_fails(tmp_path: Path) -> None:
    arguments = (APP, "--port", "0", "--control-socket", str(tmp_path / "c.sock"), *WORKERS)
    async with started(*arguments, folder=tmp_path, kind=Controlled) as server:
        assert isinstance(server, Controlled)
        server.path = str(tmp_path / "c.sock")
        await server.serves()
        (tmp_path / "fails").touch()
        result = await ctl(server.path, "restart", "--wait")
        assert result.lines == [{"restarting": 2}]
        assert re.fullmatch(
            r"Error: the restart has failed: Worker \d+ could not start: .*"
            r"RuntimeError: the app cannot be imported.*; old workers that stay: 2\n",
            result.err,
        )
        assert result.status == 1
        assert {one["state"] for one in await server.workers()} == {"ready"}


async def test_a_wait_has_a_deadline_and_a_stop_ends_it(tmp_path: Path) -> None:
    async with controlled(tmp_path, *WORKERS) as server:
        pids = [one["pid"] for one in await server.workers()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)  # so the first one to be replaced does not end
        late = "the restart is not complete after 1 s; it goes on"
        assert (await server.lines("restart", wait=True, timeout=1))[-1] == {"error": late}
        waiting = start_task(server.lines("restart", wait=True))
        await server.logged("Restarting 2 workers", times=2)
        server.signal()
        assert (await waiting)[-1] == {"error": "the restart has failed: the server stops"}
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert await server.ended() == 0


async def test_more_and_fewer_workers(tmp_path: Path) -> None:
    async with controlled(tmp_path, *WORKERS) as server:
        assert await server.part("scale", target=3) == {"target": 3, "before": 2}
        await server.settled(3)
        assert (await ctl(server.path, "scale", "1")).lines == [{"target": 1, "before": 3}]
        await server.settled(1)
        for target in (0, 65, "x", None):
            assert "target" in await server.error("scale", target=target)


async def test_a_worker_is_drained_by_its_pid_or_number(tmp_path: Path) -> None:
    async with controlled(tmp_path, *WORKERS) as server, server.connect() as websocket:
        pid = await hello(websocket)
        result = await ctl(server.path, "drain", str(pid))
        assert result.lines == [{"draining": pid}]
        assert await close_of(websocket) == (1012, "service restart")
        await server.logged(f"Worker {pid} is drained: a new one is started first")
        workers = await server.settled(2)
        assert pid not in {one["pid"] for one in workers}
        first = workers[0]
        assert await server.part("drain", worker=first["number"]) == {"draining": first["pid"]}
        assert await server.error("drain", worker=999_999_999) == "there is no worker 999999999"
        assert await server.error("drain") == "worker is missing"
        again = await server.settled(2)
        assert first["pid"] not in {one["pid"] for one in again}


async def test_a_worker_that_starts_is_not_drained(tmp_path: Path) -> None:
    async with controlled(tmp_path, *WORKERS) as server:
        await server.part("scale", target=3)
        async with asyncio.timeout(PATIENCE):
            while len(workers := await server.workers()) < 3:
                pass
        newest = workers[-1]["pid"]
        error = await server.error("drain", worker=newest)
        assert error == f"worker {newest} is starting"


@pytest.mark.parametrize("command", ["restart", "scale", "drain"])
async def test_what_needs_workers_is_one_line_without_them(tmp_path: Path, command: str) -> None:
    async with controlled(tmp_path) as server:
        error = await server.error(command, target=2, worker=1)
        assert error == (
            f"{command} is for workers: the server runs in one process; start it with --workers 2 "
            "or more, or auto"
        )


# -- connections -----------------------------------------------------------------------------------


@BOTH
async def test_connections_and_their_filters(tmp_path: Path, options: tuple[str, ...]) -> None:
    async with (
        controlled(tmp_path, *options) as server,
        server.connect("/chat/1?token=secret") as chat,
        server.connect("/news") as news,
        server.requested("/wait"),
        server.requested("/") as answered,
    ):
        pids = [await hello(chat), await hello(news)]
        await chat.send("hello")
        assert await chat.recv() == "hello"
        await answered.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            while sorted(one["type"] for one in await server.connections()) != [
                *("http", "idle", "websocket", "websocket")
            ]:
                pass
        (found,) = await server.connections(path="/chat/*")
        assert (found["worker"], found["path"]) == (pids[0], "/chat/1")
        host, port, *_ = chat.local_address
        assert found["address"] == f"{host}:{port}"
        assert (found["received_messages"], found["sent_messages"]) == (1, 2)
        assert found["received_bytes"] >= 11
        assert found["sent_bytes"] > 9
        assert found["age"] >= 0
        assert await server.connections(path="/chat/*") == [
            found | {"age": pytest.approx(0, abs=60)}
        ]
        assert len(await server.connections(address="127.0.0.1")) == 4
        assert len(await server.connections(address="127.0.0.0/8")) == 4
        assert await server.connections(address="10.0.0.0/8") == []
        news_worker = await server.connections(worker=pids[1])
        assert {one["worker"] for one in news_worker} == {pids[1]}
        (waiting,) = await server.connections(path="/wait")
        assert (waiting["type"], waiting["received_bytes"]) == ("http", None)
        summary = await server.part("connections", limit=3)
        assert summary == {"total": 4, "listed": 3, "unanswered": []}
        for limit in (0, None):
            whole = await server.part("connections", limit=limit)
            assert whole == {**summary, "listed": 4}
        ids = [one["id"] for one in await server.connections()]
        assert len(set(ids)) == 4
        assert sorted(ids) == sorted(one["id"] for one in await server.connections())


@BOTH
async def test_filters_that_cannot_be_used(tmp_path: Path, options: tuple[str, ...]) -> None:
    async with controlled(tmp_path, *options) as server:
        error = await server.error("connections", address="nowhere")
        assert error == "'nowhere' is neither an address nor a network"
        assert await server.error("connections", worker=999_999) == "there is no worker 999999"
        assert "limit must be a number" in await server.error("connections", limit=-1)
        assert "path must be a string" in await server.error("connections", path=7)
        result = await ctl(server.path, "connections", "--address", "nowhere")
        assert (result.status, result.out) == (1, "")
        assert result.err == "Error: 'nowhere' is neither an address nor a network\n"


@BOTH
async def test_a_long_list_comes_in_pages(tmp_path: Path, options: tuple[str, ...]) -> None:
    async with controlled(tmp_path, *options) as server, contextlib.AsyncExitStack() as opened:
        for _ in range(250):
            await opened.enter_async_context(server.requested("/wait"))
        async with asyncio.timeout(PATIENCE):
            while (await server.part("connections", path="/wait", limit=1))["total"] < 250:
                pass
        lines = await server.lines("connections")
        pages = [line["part"]["connections"] for line in lines[:-2]]
        assert max(map(len, pages)) <= 100
        found = [one["id"] for page in pages for one in page]
        assert len(set(found)) == len(found) == 250
        assert lines[-2]["part"] == {"total": 250, "listed": 250, "unanswered": []}
        result = await ctl(server.path, "connections", "--limit", "120")
        assert len(result.lines) == 121
        assert result.lines[-1] == {"total": 250, "listed": 120, "unanswered": []}


async def test_a_blocked_worker_makes_the_list_incomplete(tmp_path: Path) -> None:
    async with controlled(tmp_path, *WORKERS) as server, contextlib.AsyncExitStack() as opened:
        sockets = [await opened.enter_async_context(server.connect()) for _ in range(20)]
        pids = {await hello(one) for one in sockets}
        blocked, other = sorted(pids)
        (first, *_) = await server.connections(worker=blocked)
        os.kill(blocked, signal.SIGSTOP)
        result = await ctl(server.path, "connections", "--limit", "0")
        assert result.status == 1
        assert {one["worker"] for one in result.lines[:-1]} == {other}
        assert result.lines[-1]["unanswered"] == [blocked]
        line = f"Error: the answer is not complete: no answer from worker {blocked}\n"
        assert result.err == line
        error = await server.error("close", id=first["id"])
        assert error == f"worker {blocked} does not answer"
        answer = await server.part("log-level", level="debug")
        assert answer == {"log_level": "debug", "unanswered": [blocked]}
        os.kill(blocked, signal.SIGCONT)
        assert len(await server.connections(worker=blocked)) > 0
        server.signal()
        await server.ended()
        assert f"DEBUG:    Worker {blocked}: shutting down" in server.log


# -- close -----------------------------------------------------------------------------------------


@BOTH
async def test_a_websocket_gets_the_close_frame(tmp_path: Path, options: tuple[str, ...]) -> None:
    async with controlled(tmp_path, *options) as server:
        async with server.connect("/a") as first, server.connect("/b") as second:
            await hello(first)
            await hello(second)
            (one,) = await server.connections(path="/a")
            (two,) = await server.connections(path="/b")
            result = await ctl(server.path, "close", one["id"], "1008", "abuse of the chat")
            assert result.lines == [{"closed": one["id"], "code": 1008}]
            assert await close_of(first) == (1008, "abuse of the chat")
            assert await server.part("close", id=two["id"]) == {"closed": two["id"], "code": 1012}
            assert await close_of(second) == (1012, "")
        async with asyncio.timeout(PATIENCE):
            while (
                await server.error("close", id=one["id"]) != f"there is no connection {one['id']!r}"
            ):
                pass


@BOTH
async def test_another_connection_is_aborted(tmp_path: Path, options: tuple[str, ...]) -> None:
    async with controlled(tmp_path, *options) as server, server.requested("/wait") as reader:
        async with asyncio.timeout(PATIENCE):
            while not (found := await server.connections(path="/wait")):
                pass
        name = found[0]["id"]
        assert await server.part("close", id=name) == {"closed": name, "code": None}
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""


@BOTH
async def test_what_cannot_be_closed_is_one_line(tmp_path: Path, options: tuple[str, ...]) -> None:
    async with controlled(tmp_path, *options) as server:
        for name in (
            "1-1",
            f"{server.pid}-7",
            f"{server.pid}-abcd-7",
            "x",
            "-",
            "",
            "1-",
            "7",
            "٣-٣",
            "9" * 99 + "-1",
        ):
            assert await server.error("close", id=name) == f"there is no connection {name!r}"
        pid = (await server.workers())[0]["pid"]
        unknown = await ctl(server.path, "close", f"{pid}-abcd-99")
        assert (unknown.status, unknown.out) == (1, "")
        assert unknown.err == f"Error: there is no connection '{pid}-abcd-99'\n"
        error = await server.error("close", id=f"{pid}-99", code=1006)
        assert error == "1006 is not a code that a Close frame may have"
        error = await server.error("close", id=f"{pid}-99", code=1000, reason="x" * 124)
        assert error == "the reason must be at most 123 bytes of UTF-8"
        assert await server.error("close") == "id is missing"


# -- the level of the log --------------------------------------------------------------------------


async def test_the_level_of_all_workers_also_of_later_ones(tmp_path: Path) -> None:
    async with controlled(tmp_path, *WORKERS) as server:
        await server.part("scale", target=3)  # one starts meanwhile
        answer = await server.part("log-level", level="debug")
        assert answer == {"log_level": "debug", "unanswered": []}
        await server.settled(3)
        await server.part("scale", target=4)
        workers = await server.settled(4)
        server.signal()
        assert await server.ended() == 0
        for one in workers:
            assert f"DEBUG:    Worker {one['pid']}: shutting down" in server.log


async def test_a_quieter_level(tmp_path: Path) -> None:
    async with controlled(tmp_path, *WORKERS) as server:
        assert (await ctl(server.path, "log-level", "error")).lines[0]["log_level"] == "error"
        await server.part("scale", target=1)
        await server.settled(1)
        server.signal()
        assert await server.ended() == 0
        assert len(server.log) == 1  # the line of the start


@BOTH
async def test_a_level_that_does_not_exist(tmp_path: Path, options: tuple[str, ...]) -> None:
    async with controlled(tmp_path, *options) as server:
        levels = "critical, error, warning, info, debug, trace"
        error = await server.error("log-level", level="loud")
        assert error == f"'loud' is not a level: one of {levels}"
        assert await server.error("log-level") == "level is missing"
        assert (await server.part("log-level", level="DEBUG"))["log_level"] == "debug"


# -- what the event loop does ----------------------------------------------------------------------


@BOTH
async def test_the_stack_of_a_loop_that_runs_and_of_its_tasks(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    async with controlled(tmp_path, *options) as server, server.connect() as websocket:
        pid = await hello(websocket)
        *lines, end = await server.lines("stack", worker=pid, tasks=True)
        first, *tasks, last = [line["part"] for line in lines]
        assert (end, last) == ({"end": True}, {"unanswered": []})
        assert (first["worker"], first["blocked"], first["tasks"]) == (pid, False, len(tasks))
        assert any(" in _serve" in call for call in first["stack"])
        (echo,) = [one for one in tasks if any(" in _echo" in call for call in one["stack"])]
        assert (echo["worker"], echo["task"]) == (pid, "wsgate app")
        assert await server.error("stack", worker=2**30) == f"there is no worker {2**30}"
        shown = await ctl(server.path, "stack", "--table")
        assert shown.out.count(" is here:\n") == (2 if options else 1)


@BOTH
async def test_the_stack_of_a_loop_that_is_blocked(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    async with controlled(tmp_path, *options) as server, server.requested("/block"):
        await server.logged("The event loop has been blocked")
        *lines, end = await server.lines("stack")
        *found, last = [line["part"] for line in lines]
        assert (end, last) == ({"end": True}, {"unanswered": []})
        (blocked,) = [one for one in found if one["blocked"]]
        assert " in _block" in blocked["stack"][0]
        assert len(found) == (2 if options else 1)
        if not options:
            assert (await server.error("status")).startswith("the event loop is blocked")


# -- clients that misbehave ------------------------------------------------------------------------


@BOTH
async def test_garbage_and_a_client_that_never_reads_disturb_nobody(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    async with controlled(tmp_path, *options) as server, contextlib.AsyncExitStack() as opened:
        for _ in range(100):
            await opened.enter_async_context(server.requested("/wait"))
        with (
            socket.socket(socket.AF_UNIX) as silent,
            socket.socket(socket.AF_UNIX) as garbage,
            socket.socket(socket.AF_UNIX) as endless,
        ):
            for client in (silent, garbage, endless):
                client.connect(server.path)
                client.settimeout(PATIENCE)
            request = b'{"command": "connections"}\n'
            silent.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(10_000):
                    silent.send(request)
            garbage.sendall(b"\x16\x03\x01 garbage\n" * 10)
            with contextlib.suppress(ConnectionError):
                endless.sendall(b"x" * 200_000)
            for _ in range(3):
                summary = await server.part("connections", limit=5)
                assert summary["unanswered"] == []
            assert await asyncio.to_thread(garbage.recv, 10) == b'{"error": '
        async with server.connect() as websocket:
            await hello(websocket)
        assert not [line for line in server.log if line.startswith(("ERROR", "Traceback"))]


# -- the command -----------------------------------------------------------------------------------


async def test_people_see_tables_on_a_terminal(tmp_path: Path) -> None:
    async with controlled(tmp_path, *WORKERS) as server, server.connect("/chat") as websocket:
        await hello(websocket)
        shown = await ctl_on_a_terminal(server.path, "status")
        assert f"wsgate {__version__}, pid {server.pid}, ready, for " in shown
        assert f"\nlistening on {server.url}\n" in shown
        assert re.search(r"\n1 +\d+ +ready +\d+ s +\d +[\d.]+ ms +[\d.]+\n", shown)
        shown = await ctl_on_a_terminal(server.path, "connections")
        assert re.search(
            r"\n\d+-\w{4}-1 +websocket +127\.0\.0\.1:\d+ +\d+ s +0 / 0 B +1 / .*/chat\n", shown
        )
        assert shown.endswith("\n1 connection\n")
        shown = await ctl_on_a_terminal(server.path, "top", "--once", "--path", "/ch*")
        assert re.match(
            r"1 connection, [\d.]+ messages/s, \d+ B/s\nworkers: 1 \(pid \d+\) \d", shown
        )
        row = r"\n\d+-\w{4}-1 +websocket .* (-|[\d.]+ ms) +/chat\n$"  # there may have been a Ping
        assert re.search(row, shown)
        shown = await ctl_on_a_terminal(server.path, "status", "--json")
        assert json.loads(shown)["server"]["pid"] == server.pid
        assert await ctl_on_a_terminal(server.path, "close", "7-7") == (
            "Error: there is no connection '7-7'\n"
        )


async def test_the_environment_names_the_socket_of_both(tmp_path: Path) -> None:
    async with controlled(tmp_path) as server:
        result = await ctl("", "status", WSGATE_CONTROL_SOCKET=server.path)
        assert result.lines[0]["server"]["pid"] == server.pid
        unknown = await ctl("", "status", WSGATE_CONTROL_SOCKET=server.path + "x")
        assert unknown.err.startswith(f"Error: control socket {server.path}x: no such file")
        assert (unknown.status, unknown.out, unknown.err.count("\n")) == (1, "", 1)


async def test_a_command_that_the_server_does_not_know(tmp_path: Path) -> None:
    async with controlled(tmp_path) as server:
        assert await server.error("explode") == "there is no command 'explode'"
