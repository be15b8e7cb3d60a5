"""Several workers, as real processes: start, failures, restarts, scaling, evenness, stop."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect as tcp_connect, unix_connect
from websockets.exceptions import ConnectionClosed

from tests.harness.processes import started
from tests.harness.tls import Files, options_of
from tests.harness.waiting import pause, start_task
from tests.harness.workers import (
    APP,
    PATIENCE,
    Supervised,
    close_code,
    gone,
    is_running,
    pid_of,
    request,
    workers,
)

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


# -- start and stop --------------------------------------------------------------------------------


async def test_each_worker_serves_and_all_stop(launch: tuple[str, ...]) -> None:
    async with workers(3, *launch) as server:
        assert server.log == [
            f"INFO:     wsgate running on {server.url} with 3 workers (Press CTRL+C to quit)"
        ]
        pids = await server.process_ids(3)
        async with server.connect() as websocket:
            await pid_of(websocket)
            server.signal()
            assert await close_code(websocket) == 1012
        assert await server.ended() == 0
        assert server.log[1:] == ["INFO:     Shutting down 3 workers", "INFO:     Stopped"]
        await gone(pids)


async def test_the_backlog_is_served_at_the_stop(launch: tuple[str, ...]) -> None:
    # Both workers are stopped by SIGSTOP, so that the connections wait in the backlog.
    async with workers(2, *launch) as server:
        pids = await server.process_ids(2)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        requests = [start_task(server.get()) for _ in range(8)]
        await asyncio.wait(requests, timeout=0.1)
        server.signal()
        await server.logged("Shutting down")
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        answers = await asyncio.gather(*requests)
        assert {int(answer) for answer in answers} <= pids
        assert await server.ended() == 0


async def test_a_second_signal_ends_all_processes_at_once(launch: tuple[str, ...]) -> None:
    async with workers(2, *launch) as server:
        pids = await server.process_ids(2)
        waiting = start_task(server.get("/wait"))
        await asyncio.wait([waiting], timeout=0.1)
        server.signal()
        await server.logged("Shutting down")
        server.signal()
        assert await server.ended() == 128 + signal.SIGTERM
        await gone(pids)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await waiting


async def test_a_signal_to_all_processes_is_one_graceful_stop(launch: tuple[str, ...]) -> None:
    # As systemd does, and the terminal with SIGINT.
    for number in (signal.SIGTERM, signal.SIGINT):
        async with workers(2, *launch) as server, server.connect() as websocket:
            await pid_of(websocket)
            os.killpg(server.pid, number)
            assert await close_code(websocket) == 1012
            assert await server.ended() == 0
            assert not [line for line in server.log if "ERROR" in line or "WARN" in line]


async def test_workers_stop_when_the_supervisor_is_killed(launch: tuple[str, ...]) -> None:
    async with workers(2, *launch) as server, server.connect() as websocket:
        pids = await server.process_ids(2)
        await pid_of(websocket)
        server.signal(signal.SIGKILL)
        assert await close_code(websocket) == 1012
        await gone(pids)


@pytest.mark.parametrize(
    ("file", "status", "text"),
    [
        ("fails", 1, r'Error: could not import "tests.apps.worker": RuntimeError: the app cannot '),
        ("refuses", 3, "no database"),
        ("exits", 3, "3 processes have died at their start"),
    ],
)
async def test_a_first_start_that_fails_ends_the_server(
    launch: tuple[str, ...], tmp_path: Path, file: str, status: int, text: str
) -> None:
    (tmp_path / file).touch()
    arguments = (APP, "--port", "0", "--workers", "2", "--lifespan", "on", *launch)
    async with started(*arguments, folder=tmp_path) as server:
        assert await server.ended() == status
        assert len([line for line in server.log if re.search(text, line)]) == 1, server.log


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--workers", "65"), "--workers must be a number from 1 to 64, or auto"),
        (("--workers", "many"), "--workers must be a number from 1 to 64, or auto"),
        (("--workers", "4", "--reload"), "--reload and --workers cannot be used together"),
    ],
)
async def test_bad_numbers_of_workers(options: tuple[str, ...], text: str) -> None:
    async with started(APP, *options) as server:
        assert await server.ended() == 1
        assert server.log == [f"Error: {text}"]


async def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        async with started(APP, "--port", str(port), "--workers", "2") as server:
            assert await server.ended() == 1
            assert server.log == [
                f"Error: cannot listen on 127.0.0.1:{port}: Address already in use"
            ]


async def test_unix_sockets_and_inherited_ones(tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        fd = inherited.fileno()
        async with started(APP, "--fd", str(fd), "--workers", "2", pass_fds=[fd]) as server:
            await server.serves()
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            assert int(await request(reader, writer)) != server.pid
            writer.close()
    async with started(APP, "--uds", path, "--workers", "2") as server:
        await server.logged("running on unix socket")
        reader, writer = await asyncio.open_unix_connection(path)
        assert int(await request(reader, writer)) != server.pid
        writer.close()
        server.signal()
        assert await server.ended() == 0
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240  # a folder in memory


# -- workers that fail -----------------------------------------------------------------------------


async def test_a_killed_worker_is_replaced_and_others_notice_nothing(
    launch: tuple[str, ...],
) -> None:
    async with workers(2, *launch) as server, contextlib.AsyncExitStack() as opened:
        pids = await server.process_ids(2)
        clients = [await opened.enter_async_context(server.connect()) for _ in range(20)]
        served = [(await pid_of(client), client) for client in clients]
        victim = served[0][0]
        os.kill(victim, signal.SIGKILL)
        await server.logged(f"Worker {victim} was ended by SIGKILL")
        survivors = [client for pid, client in served if pid != victim]
        assert survivors
        for client in survivors:
            await client.send("still there")
            assert await asyncio.wait_for(client.recv(), PATIENCE) == "still there"
        assert int(await server.get())  # nobody is refused meanwhile
        assert victim not in await server.process_ids(2)
        assert len(pids) == 2


async def test_an_app_that_exits_takes_only_its_worker(launch: tuple[str, ...]) -> None:
    async with workers(2, *launch) as server:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await server.get("/exit")
        await server.logged(r"Worker \d+ has ended with status 5")
        await server.process_ids(2)


async def test_a_blocked_worker_is_replaced_and_its_stack_logged(launch: tuple[str, ...]) -> None:
    async with workers(2, *launch, "--timeout-worker-healthcheck", "1") as server:
        pids = await server.process_ids(2)
        blocked = start_task(server.get("/block"))
        found = await server.logged(r"Worker (\d+) has been blocked for ", PATIENCE)
        await server.logged(r"worker\.py\", line \d+ in _block", PATIENCE)
        await server.logged(f"Worker {found[1]} is still blocked: it is killed", PATIENCE)
        await server.logged(f"Worker {found[1]} was ended by SIGKILL", PATIENCE)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await blocked
        assert int(found[1]) in pids
        assert int(found[1]) not in await server.process_ids(2)


async def test_a_stopped_worker_is_replaced() -> None:
    async with workers(2, "--timeout-worker-healthcheck", "1") as server:
        pid = min(await server.process_ids(2))
        os.kill(pid, signal.SIGSTOP)
        answers = await asyncio.gather(*(server.get() for _ in range(20)))
        assert str(pid) not in answers  # the other one serves what the stopped one would have
        await server.logged(f"Worker {pid} was ended by SIGKILL", PATIENCE)
        await server.process_ids(2)


# -- restarts --------------------------------------------------------------------------------------


class Load:
    """Clients that send handshakes and keep-alive requests one after the other.

    errors: what went wrong, with how often. done: how many handshakes and requests were answered.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.errors: Counter[str] = Counter()
        self.done: Counter[str] = Counter()

    async def run(self) -> None:
        """Send until it is cancelled."""
        await asyncio.gather(*(self._repeat(self._handshake) for _ in range(4)), self._requests())

    async def _repeat(self, step: object) -> None:
        assert callable(step)
        while True:
            try:
                await step()
            except (OSError, EOFError, AssertionError) as error:
                self.errors[repr(error)] += 1

    async def _handshake(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(HANDSHAKE)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101"), head
            self.done["handshakes"] += 1
        finally:
            writer.close()

    async def _requests(self) -> None:
        await asyncio.gather(*(self._repeat(self._keep_alive) for _ in range(4)))

    async def _keep_alive(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            while not writer.is_closing():
                await request(reader, writer)
                self.done["requests"] += 1
        finally:
            writer.close()


@pytest.mark.parametrize("options", [(), ("--restart-parallel",)])
async def test_restarts_refuse_nobody(launch: tuple[str, ...], options: tuple[str, ...]) -> None:
    async with workers(2, *launch, *options) as server:
        before = await server.process_ids(2)
        load = Load(server.port)
        running = start_task(load.run())
        for times in range(1, 6):
            server.signal(signal.SIGHUP)
            await server.logged("Restarted 2 workers", PATIENCE, times=times)
        running.cancel()
        await asyncio.wait([running])
        assert load.errors == {}
        assert min(load.done["handshakes"], load.done["requests"]) > 100
        assert not before & await server.process_ids(2)


@pytest.mark.parametrize("kind", ["tcp", "uds", "tls"])
@pytest.mark.parametrize("order", [(), ("--restart-parallel",)], ids=["rolling", "parallel"])
async def test_a_restart_closes_busy_websockets_with_1012_and_loses_no_message(
    launch: tuple[str, ...], order: tuple[str, ...], kind: str, tmp_path: Path
) -> None:
    files = Files(tmp_path)
    options = {"tls": options_of(files.issue("server")), "uds": ["--uds", f"{tmp_path}/app.sock"]}
    arguments = (APP, "--port", "0", "--workers", "2", *launch, *order, *options.get(kind, ()))
    async with (
        started(*arguments, "--no-access-log", kind=Supervised) as server,
        contextlib.AsyncExitStack() as opened,
    ):
        await server.logged("wsgate running on ")
        if kind == "uds":
            connect = partial(unix_connect, f"{tmp_path}/app.sock")
        else:
            await server.serves()
            context = files.client_context() if kind == "tls" else None
            connect = partial(tcp_connect, server.ws_url, ssl=context, proxy=None)
        clients = [
            await opened.enter_async_context(connect(ping_interval=None, open_timeout=PATIENCE))
            for _ in range(50)
        ]
        talks = [start_task(talk(client)) for client in clients]
        await asyncio.wait(talks, timeout=0.2)
        server.signal(signal.SIGHUP)
        await server.logged("Restarted 2 workers", PATIENCE)
        for code, sent, received in await asyncio.gather(*talks):
            assert code == 1012
            assert received == list(range(len(received)))  # none is lost or out of order
            assert len(sent) - len(received) <= 1  # one was sent after the server's Close


async def talk(client: ClientConnection) -> tuple[int | None, list[int], list[int]]:
    """Echo numbers until the server closes; return the code, and what was sent and received."""
    sent: list[int] = []
    received: list[int] = []
    await client.recv()
    with contextlib.suppress(ConnectionClosed):
        while True:
            sent.append(len(sent))
            await client.send(str(sent[-1]))
            received.append(int(await asyncio.wait_for(client.recv(), PATIENCE)))
    return client.close_code, sent, received


async def test_a_restart_that_fails_keeps_the_old_workers(
    launch: tuple[str, ...], tmp_path: Path
) -> None:
    async with workers(2, *launch, folder=tmp_path) as server, server.connect() as websocket:
        before = await server.process_ids(2)
        await pid_of(websocket)
        (tmp_path / "fails").touch()
        server.signal(signal.SIGHUP)
        await server.logged("The restart has failed: .* old workers that stay: 2", PATIENCE)
        await websocket.send("still there")
        assert await asyncio.wait_for(websocket.recv(), PATIENCE) == "still there"
        assert await server.process_ids(2) == before
        (tmp_path / "fails").unlink()
        server.signal(signal.SIGHUP)
        await server.logged("Restarted 2 workers", PATIENCE)
        assert not before & await server.process_ids(2)


async def test_log_files_are_reopened_in_all_processes(
    launch: tuple[str, ...], tmp_path: Path
) -> None:
    log, moved = tmp_path / "server.log", tmp_path / "server.log.1"
    handler = {"class": "logging.FileHandler", "filename": str(log)}
    set_up = {
        "version": 1,
        "handlers": {"file": handler, "stderr": {"class": "logging.StreamHandler"}},
        "loggers": {"wsgate": {"handlers": ["file", "stderr"], "level": "DEBUG"}},
    }
    (tmp_path / "log.json").write_text(json.dumps(set_up))
    options = (*launch, "--log-config", str(tmp_path / "log.json"))
    async with workers(2, *options) as server, server.connect() as websocket:
        pids = await server.process_ids(2)
        log.rename(moved)
        server.signal(signal.SIGUSR1)
        await server.logged("Log files reopened: 1", PATIENCE, times=3)
        for pid in pids:  # as `systemctl kill` does
            os.kill(pid, signal.SIGUSR1)
        await server.logged("Log files reopened: 0", PATIENCE, times=2)
        await pid_of(websocket)
        await websocket.send("still there")
        assert await asyncio.wait_for(websocket.recv(), PATIENCE) == "still there"
        victim = min(pids - {int(await server.get())} or pids)
        os.kill(victim, signal.SIGKILL)
        await server.logged(f"Worker {victim} was ended", PATIENCE)
        (added, *_) = await server.process_ids(2) - pids
        server.signal()
        assert await server.ended() == 0
        assert f"Worker {added}: stopped" in log.read_text(), "it was forked after the rotation"
        assert "stopped" not in moved.read_text()


async def test_the_log_names_the_worker_that_stops_and_no_files(launch: tuple[str, ...]) -> None:
    async with workers(2, *launch) as server:
        pids = await server.process_ids(2)
        server.signal(signal.SIGHUP)
        await server.logged("Restarted 2 workers", PATIENCE)
        for pid in pids:
            line = f"INFO:     Worker {pid} stops: a new one serves in its place"
            assert server.log.count(line) == 1
        assert "Log files reopened" not in server.text


async def test_a_second_restart_begins_anew(launch: tuple[str, ...]) -> None:
    async with workers(2, *launch) as server:
        before = await server.process_ids(2)
        server.signal(signal.SIGHUP)
        await server.logged("Restarting 2 workers")
        server.signal(signal.SIGHUP)
        await server.logged("Restarting 2 workers", times=2)
        await server.logged("Restarted 2 workers", PATIENCE)
        assert not before & await server.process_ids(2)
        assert not [line for line in server.log if line.startswith("ERROR")]


async def test_a_stop_during_a_restart(launch: tuple[str, ...]) -> None:
    async with workers(2, *launch) as server:
        server.signal(signal.SIGHUP)
        await server.logged("Restarting 2 workers")
        server.signal()
        assert await server.ended() == 0
        assert not [line for line in server.log if line.startswith("ERROR")]


async def test_more_and_fewer_workers() -> None:
    async with workers(1, "--worker-max-lifetime", "3600") as server:
        server.signal(signal.SIGTTIN)
        await server.logged("2 workers instead of 1")
        pids = await server.process_ids(2)
        server.signal(signal.SIGTTOU)
        await server.logged("1 worker instead of 2")
        async with asyncio.timeout(PATIENCE):
            while sum(map(is_running, pids)) > 1:
                await pause(0.02)
        server.signal(signal.SIGTTOU)
        assert len(await server.process_ids(1)) == 1
        server.signal()
        assert await server.ended() == 0


@pytest.mark.parametrize(
    ("options", "path", "reason"),
    [
        (("--limit-max-requests", "20"), "/", "has served --limit-max-requests"),
        (("--worker-max-rss", "200"), "/grow", "has reached --worker-max-rss"),
        (("--worker-max-lifetime", "1"), "/", "has reached --worker-max-lifetime"),
    ],
)
async def test_an_expired_worker_is_replaced(
    options: tuple[str, ...], path: str, reason: str
) -> None:
    async with workers(2, *options) as server:
        before = await server.process_ids(2)
        asking = start_task(repeat(server, path))
        found = await server.logged(rf"Worker (\d+) {reason}: it is replaced", PATIENCE)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking  # none has failed
        assert int(found[1]) in before
        await gone({int(found[1])})
        await server.process_ids(2)


async def repeat(server: Supervised, path: str) -> None:
    while True:
        await server.get(path)
        await pause(0.01)


# -- evenness and limits ---------------------------------------------------------------------------


async def spread(server: Supervised, clients: list[ClientConnection]) -> Counter[int]:
    return Counter([await pid_of(client) for client in clients])


async def test_connections_are_spread_evenly() -> None:
    async with workers(4) as server, contextlib.AsyncExitStack() as opened:
        clients = await asyncio.gather(
            *(opened.enter_async_context(server.connect()) for _ in range(400))
        )
        counts = await spread(server, clients)
        assert len(counts) == 4
        assert max(counts.values()) - min(counts.values()) <= 40


async def test_a_new_worker_gets_the_new_connections() -> None:
    async with workers(2) as server, contextlib.AsyncExitStack() as opened:
        await server.process_ids(2)
        old = [await opened.enter_async_context(server.connect()) for _ in range(100)]
        victim = max((await spread(server, old)).items(), key=lambda item: item[1])[0]
        os.kill(victim, signal.SIGKILL)
        await server.logged(f"Worker {victim} was ended by SIGKILL")
        (new,) = await server.process_ids(2) - set(older_workers(server, victim))
        fresh = [await opened.enter_async_context(server.connect()) for _ in range(30)]
        counts = await spread(server, fresh)
        assert counts[new] > counts.total() / 2


def older_workers(server: Supervised, victim: int) -> list[int]:
    """Return the children of the supervisor that are older than its newest one."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return sorted(int(child) for child in children if int(child) != victim)[:-1]


async def test_the_limit_of_connections_holds_over_all_workers() -> None:
    async with workers(2, "--limit-connections", "20") as server:
        async with contextlib.AsyncExitStack() as opened:
            for _ in range(20):
                await opened.enter_async_context(server.connect())
            with pytest.raises(AssertionError, match="503"):
                await server.get()
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(AssertionError):
                    await server.get()
                    break


async def test_the_limit_of_an_address_holds_over_all_workers() -> None:
    async with (
        workers(2, "--limit-connections-per-ip", "10") as server,
        contextlib.AsyncExitStack() as opened,
    ):
        for _ in range(10):
            await opened.enter_async_context(server.connect())
        with pytest.raises(AssertionError, match="503"):
            await server.get()


async def test_the_limit_of_concurrency_holds_over_all_workers() -> None:
    async with workers(2, "--limit-concurrency", "8") as server:
        waiting = [start_task(server.get("/wait")) for _ in range(8)]
        await asyncio.wait(waiting, timeout=0.3)
        assert not any(task.done() for task in waiting)
        with pytest.raises(AssertionError, match="503"):
            await server.get()
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
