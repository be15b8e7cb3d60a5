"""The process that workers are forked from: what happens if a fork fails."""

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from wsgate.config import Config
from wsgate.observe import log_files
from wsgate.process import assignment as assignments, preloader, worker_process
from wsgate.process.assignment import Assignment
from wsgate.process.program import Program

PROGRAM = """
import atexit, errno, os, socket, sys
from wsgate.process import preloader
from wsgate.process.preloader import ORDER

fork, calls = os.fork, 0

def failing():
    global calls
    calls += 1
    if calls == {failing}:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()

os.fork = failing
atexit.register(print, "end of", "the process", flush=True)
supervisor, sock = socket.socketpair()
worker, channel = socket.socketpair()
socket.send_fds(supervisor, [ORDER], [channel.fileno(), os.open(os.devnull, os.O_RDONLY)])
supervisor.close()
channel.close()
preloader.serve_orders(sock, lambda: None)
with worker.makefile() as lines:
    print(lines.read().strip())
"""


UNEXPECTED = """
import os, signal, socket
from wsgate.process import preloader

preloader._serve = lambda *_: signal.pause()
supervisor, sock = socket.socketpair()
worker, channel = socket.socketpair()
reader, writer = os.pipe()
socket.send_fds(supervisor, [preloader.ORDER], [channel.fileno(), writer])
for one in (supervisor, worker, channel):
    one.close()
os.close(writer)
preloader.serve_orders(sock, lambda: None)
print(os.read(reader, 1))
"""


THREADED = """
import threading
from wsgate import threads
from wsgate.process import preloader

wait = threading.Event().wait
threads.daemon_thread(wait, "wsgate-own").start()
preloader._warn_of_threads()
threading.Thread(target=wait, name="pool", daemon=True).start()
preloader._warn_of_threads()
"""


async def test_threads_that_the_app_has_started_are_named(tmp_path: Path) -> None:
    assert await output_of(THREADED, tmp_path) == [
        "Threads that the app has started while it was imported do not run in workers: pool"
    ]


def test_a_forked_worker_reopens_the_files_that_were_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program(
        app="main:app", factory=False, interface="auto", log_config=None, config=Config()
    )
    descriptors: dict[str, Any] = {
        "scoreboard": 0,
        "stacks": 0,
        "sockets": [],
        "inherited": [],
        "hub": None,
    }
    sent = Assignment(program=program, row=0, count=1, beat=1.0, **descriptors)
    calls: list[object] = []
    monkeypatch.setattr(assignments, "receive", lambda _: sent)
    monkeypatch.setattr(log_files, "reopen_moved", lambda: calls.append("reopened"))
    monkeypatch.setattr(worker_process, "serve", lambda *given: calls.append(given[2]()))
    with socket.socket() as sock:
        preloader._serve(sock, 0, lambda: cast("Any", "the app"))
    assert calls == ["reopened", "the app"]


async def output_of(program: str, folder: Path) -> list[str]:
    """Return the lines that a program prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    return output.decode().splitlines()


@pytest.mark.parametrize("failing", [1, 2])
async def test_a_fork_that_fails_is_reported_and_ends_nothing_else(
    failing: int, tmp_path: Path
) -> None:
    reason = "the process of --preload cannot fork it: Resource temporarily unavailable"
    lines = [f'{{"failed": "{reason}"}}', "end of the process"]
    assert await output_of(PROGRAM.format(failing=failing), tmp_path) == lines


async def test_a_worker_that_nobody_expects_any_more_is_killed(tmp_path: Path) -> None:
    # Its end of the pipe is closed, although it waits for a signal.
    assert await output_of(UNEXPECTED, tmp_path) == ["b''"]


def test_a_supervisor_that_is_killed_before_it_has_read_the_last_line() -> None:
    supervisor, sock = socket.socketpair()
    with sock:
        sock.sendall(b"{}\n")
        supervisor.close()
        preloader.serve_orders(sock, pytest.fail)
