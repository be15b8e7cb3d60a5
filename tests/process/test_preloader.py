"""The process that workers are forked from: what happens if a fork fails."""

import asyncio
import socket
import sys
from pathlib import Path

import pytest

from wsgate.process import preloader

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
