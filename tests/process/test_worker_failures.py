"""Bad days of a server with workers, as real processes."""

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.processes import ROOT, program, started
from tests.harness.proxies import reserved_ports
from tests.harness.topic_clients import hubs_of
from tests.harness.waiting import pause, start_task
from tests.harness.workers import (
    APP,
    PATIENCE,
    Supervised,
    close_code,
    gone,
    is_running,
    pid_of,
    workers,
)

NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


async def test_a_worker_that_ends_again_and_again_is_started_after_pauses(tmp_path: Path) -> None:
    async with workers(2, folder=tmp_path) as server, server.connect() as websocket:
        survivor = await pid_of(websocket)
        (victim,) = await server.process_ids(2) - {survivor}
        (tmp_path / "exits").touch()
        os.kill(victim, signal.SIGKILL)
        await server.logged(r"Worker \d+ has ended with status 7", PATIENCE, times=4)
        await websocket.send("still there")
        assert await asyncio.wait_for(websocket.recv(), PATIENCE) == "still there"
        assert await server.get() == str(survivor)
        (tmp_path / "exits").unlink()
        assert survivor in await server.process_ids(2)


async def test_a_worker_that_ignores_its_stop_is_killed() -> None:
    async with workers(1, "--worker-max-lifetime", "3600", "--timeout-graceful-shutdown", "0") as (
        server
    ):
        pid = int(await server.get("/ignore"))
        server.signal()
        assert await server.ended(PATIENCE) == 0
        assert f"ERROR:    Worker {pid} does not stop: it is killed" in server.log


async def test_an_app_that_runs_the_server_when_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "import wsgate\n"
        "async def app(scope, receive, send): ...\n"
        "wsgate.run('main:app', port=0, workers=2)\n"
    )
    async with program("main.py", cwd=tmp_path) as server:
        assert await server.ended(PATIENCE) == 1
        assert "run() was called while a worker imports the app" in "\n".join(server.log)
        assert len(server.log) < 40  # no process has started further ones


async def test_a_log_whose_reader_is_gone_ends_nothing() -> None:
    # `head` ends after the first line, and with it the only reader of the log.
    arguments = f"--app-dir . {APP} --workers 2"
    with reserved_ports(1) as (port,):
        command = f"{sys.executable} -m wsgate {arguments} --port {port} 2>&1 | head -n 1"
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", command),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        server = Supervised(process)
        server.port = port
        try:
            await server.logged("running on")
            pids = await server.process_ids(2)
            os.kill(min(pids), signal.SIGKILL)
            await gone({min(pids)})
            assert min(pids) not in await server.process_ids(2)
            os.killpg(process.pid, signal.SIGTERM)
            await gone(pids)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await server.ended()


async def test_a_restart_with_a_thousand_busy_websockets() -> None:
    async with workers(2) as server, contextlib.AsyncExitStack() as opened:
        clients = [await opened.enter_async_context(server.connect()) for _ in range(1_000)]
        for client in clients:
            await pid_of(client)
        for client in clients:
            await client.send("before")
        server.signal(signal.SIGHUP)
        answers = await asyncio.gather(*(client.recv() for client in clients))
        assert set(answers) == {"before"}
        codes = await asyncio.gather(*map(close_code, clients))
        assert set(codes) == {1012}
        await server.logged("Restarted 2 workers", PATIENCE)


def preloader_of(server: Supervised, pids: set[int]) -> int:
    """Return the id of the process that workers are forked from."""
    (pid,) = set(map(int, _children(server.pid))) - pids - set(hubs_of(server.pid))
    return pid


async def hang_preloader(server: Supervised) -> set[int]:
    """Stop the process that workers are forked from while one should be; return all processes."""
    pids = await server.process_ids(2)
    preloader = preloader_of(server, pids)
    os.kill(preloader, signal.SIGSTOP)
    os.kill(min(pids), signal.SIGKILL)
    await server.logged(f"Worker {min(pids)} was ended by SIGKILL")
    return {preloader, *pids}


async def test_a_preloader_that_hangs_does_not_delay_the_stop() -> None:
    async with workers(2, "--preload", "--timeout-graceful-shutdown", "600") as server:
        pids = await hang_preloader(server)
        server.signal()
        assert await server.ended() == 0
        await gone(pids)


async def test_a_preloader_that_hangs_is_ended_by_a_second_signal() -> None:
    async with workers(2, "--preload", "--timeout-graceful-shutdown", "600") as server:
        pids = await hang_preloader(server)
        waiting = start_task(server.get("/wait"))
        await asyncio.wait([waiting], timeout=0.2)
        server.signal()
        await server.logged("Shutting down")
        server.signal()
        assert await server.ended() == 128 + signal.SIGTERM
        await gone(pids)
        await asyncio.wait([waiting])


async def test_a_stop_while_the_preloader_hangs_in_its_import(tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text(
        "import os, pathlib, signal\n"
        "pathlib.Path('pid').write_text(str(os.getpid()))\n"
        "os.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    arguments = ("--app-dir", ".", "hangs:app", "--port", "0", "--workers", "2", "--preload")
    async with started(*arguments, folder=tmp_path) as server:
        async with asyncio.timeout(PATIENCE):
            while not (text := (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
                await pause(0.02)
        server.signal()
        assert await server.ended() == 0
        await gone({int(text)})


async def test_a_preloader_that_ends_is_logged_and_replaced() -> None:
    async with workers(2, "--preload") as server:
        pids = await server.process_ids(2)
        for times in (1, 2):
            preloader = preloader_of(server, pids)
            os.kill(preloader, signal.SIGKILL)
            text = r"ERROR: +The process of --preload was ended by SIGKILL$"
            await server.logged(text, PATIENCE, times=times)
            async with asyncio.timeout(PATIENCE):
                while len(_children(server.pid)) != 4:  # with two workers and the topics hub
                    await pause(0.02)
            os.kill(min(pids), signal.SIGKILL)
            await gone({min(pids)})
            pids = await server.process_ids(2)
        server.signal()
        assert await server.ended() == 0


async def test_a_preloader_that_cannot_fork_says_why(tmp_path: Path) -> None:
    (tmp_path / "forkless.py").write_text(
        "import errno, os\n"
        "def fork(): raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))\n"
        "os.fork = fork\n"
        "async def app(scope, receive, send): ...\n"
    )
    arguments = ("--app-dir", ".", "forkless:app", "--port", "0", "--workers", "2", "--preload")
    async with started(*arguments, folder=tmp_path) as server:
        assert await server.ended() == 3
        text = "ERROR:    the process of --preload cannot fork it: Resource temporarily unavailable"
        assert server.log.count(text) == 1


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="needs root")
async def test_as_the_first_process_it_reaps_the_children_of_others() -> None:
    if not _may_unshare():
        pytest.skip("unshare is not allowed")
    command = [*NAMESPACE, sys.executable, "-m", "wsgate", "--app-dir", str(ROOT), APP]
    process = await asyncio.create_subprocess_exec(
        *(*command, "--port", "0", "--workers", "2"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    server = Supervised(process)
    try:
        await server.serves()
        assert await server.get("/orphan") == "started"
        first = int(_children(process.pid)[0])
        async with asyncio.timeout(PATIENCE):  # the orphan has ended and is no zombie
            while len(_children(first)) != 3:  # two workers and the topics hub
                await pause(0.02)
        os.kill(first, signal.SIGTERM)
        assert await server.ended(PATIENCE) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _may_unshare() -> bool:
    return not subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


async def test_a_suspended_supervisor_replaces_nobody() -> None:
    async with workers(2, "--timeout-worker-healthcheck", "1") as server:
        pids = await server.process_ids(2)
        for pid in (server.pid, *pids):
            os.kill(pid, signal.SIGSTOP)
        await pause(1.5)
        for pid in (*pids, server.pid):
            os.kill(pid, signal.SIGCONT)
        assert await server.process_ids(2) == pids
        assert not [line for line in server.log if line.startswith("ERROR")]
        assert all(map(is_running, pids))


async def test_a_worker_told_to_stop_by_somebody_else_is_replaced() -> None:
    async with workers(2) as server, server.connect() as websocket:
        pid = await pid_of(websocket)
        os.kill(pid, signal.SIGTERM)
        assert await close_code(websocket) == 1012
        await server.logged(f"Worker {pid} has ended with status 0", PATIENCE)
        assert pid not in await server.process_ids(2)


async def test_a_certificate_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("no certificate\n")
    arguments = (APP, "--port", "0", "--workers", "2", "--ssl-certfile", "cert.pem")
    async with started(*arguments, folder=tmp_path) as server:
        assert await server.ended(PATIENCE) == 1
        (line,) = server.log
        assert line.startswith("Error: --ssl-certfile cert.pem: ")


async def test_requests_wait_while_the_only_worker_is_replaced() -> None:
    async with workers(1, "--worker-max-lifetime", "3600") as server:
        pid = int(await server.get())
        os.kill(pid, signal.SIGKILL)
        await gone({pid})
        answer = start_task(server.get())
        assert int(await answer) != pid


async def test_a_child_program_of_the_app_does_not_keep_the_port(launch: tuple[str, ...]) -> None:
    async with workers(2, *launch) as server:
        child = int(await server.get("/program"))
        try:
            port = server.port
            server.signal()
            assert await server.ended() == 0
            assert is_running(child)
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
        finally:
            os.kill(child, signal.SIGKILL)


async def test_a_crash_loop_pauses_although_another_worker_is_healthy(tmp_path: Path) -> None:
    async with workers(2, folder=tmp_path) as server:
        pids = await server.process_ids(2)
        await pause(11)  # longer than what makes a worker stable
        (tmp_path / "exits").touch()
        os.kill(min(pids), signal.SIGKILL)
        began = asyncio.get_running_loop().time()
        await server.logged(r"Worker \d+ has ended with status 7", PATIENCE, times=5)
        assert asyncio.get_running_loop().time() - began > 0.25 + 0.5 + 1.0


async def test_a_worker_that_recovers_is_not_killed_the_next_time() -> None:
    async with workers(1, "--worker-max-lifetime", "600", "--timeout-worker-healthcheck", "2") as (
        server
    ):
        pid = await server.get()
        for times in (1, 2):
            assert await server.get("/block/2.6") == pid
            await server.logged("has been blocked for ", times=times)
            await server.logged("is here:", times=times)
            assert await server.get() == pid


async def test_while_workers_stop_nobody_waits_in_the_backlog(launch: tuple[str, ...]) -> None:
    async with workers(2, *launch) as server:
        waiting = start_task(server.get("/wait"))
        await asyncio.wait([waiting], timeout=0.2)
        server.signal()
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                except ConnectionRefusedError:
                    break
                writer.close()
                await pause(0.02)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert await server.ended() == 0


async def test_a_file_with_the_name_of_a_standard_module(tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("raise RuntimeError('imported instead of the standard one')")
    script = str(Path(sys.executable).parent / "wsgate")
    command = (script, "--app-dir", str(ROOT), APP, "--port", "0", "--workers", "2")
    async with program(*command, cwd=tmp_path, kind=Supervised) as server:
        assert isinstance(server, Supervised)
        await server.serves()
        assert len(await server.process_ids(2)) == 2
