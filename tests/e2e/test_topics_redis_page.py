"""docs/topics-redis.md: its programs and commands, run as they are written."""

import asyncio
import os
import re
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from websockets.asyncio.client import connect

from tests.harness.processes import ROOT, program, started
from tests.harness.redis import RedisServer, redis_server
from tests.harness.waiting import pause

PAGE = (ROOT / "docs" / "topics-redis.md").read_text()
URL = "redis://127.0.0.1:6379"
PATIENCE = 60.0


def block(start: str) -> str:
    """Return the code block that begins with a text."""
    (found,) = re.findall(rf"^```\w*\n({re.escape(start)}.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


@pytest_asyncio.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path) as server:
        yield server


async def run(redis: RedisServer, folder: Path, name: str) -> None:
    """Run a program of the page."""
    path = folder / name
    path.write_text(block(f"# {name}").replace(URL, redis.url))
    async with program(str(path), variables={"PYTHONPATH": str(ROOT)}) as process:
        assert await process.ended() == 0, process.text


# What tasks.py uses of Celery, and its worker with two processes.
CELERY = """
class Signal(list):
    def connect(self, receiver):
        self.append(receiver)
        return receiver

class Celery:
    def __init__(self, name, broker):
        pass
    def task(self, function):
        return function
"""
SIGNALS = """
from celery import Signal
worker_process_init, worker_process_shutdown = Signal(), Signal()
"""
WORKER = """
import os
import tasks
from celery import signals

for number in range(2):
    if not (child := os.fork()):
        for receiver in signals.worker_process_init:
            receiver(sender=None)
        tasks.finish(number)
        for receiver in signals.worker_process_shutdown:
            receiver(sender=None, exitcode=0)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


async def run_tasks(redis: RedisServer, folder: Path) -> None:
    """Run the tasks of the page in two processes, with a stand-in for Celery."""
    (folder / "celery").mkdir()
    (folder / "celery" / "__init__.py").write_text(CELERY)
    (folder / "celery" / "signals.py").write_text(SIGNALS)
    (folder / "tasks.py").write_text(block("# tasks.py").replace(URL, redis.url))
    variables = {"PYTHONPATH": f"{folder}:{ROOT}"}
    async with program("-c", WORKER, variables=variables) as process:
        assert await process.ended() == 0, process.text


async def run_shell(script: str, redis: RedisServer, folder: Path) -> None:
    """Run lines of a shell of the page, with the command of this Python."""
    command = folder / "wsgate"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m wsgate "$@"\n')
    command.chmod(0o755)
    variables = {"PYTHONPATH": str(ROOT), "PATH": f"{folder}:{os.environ['PATH']}"}
    start = "import os, sys; os.execvp('sh', ['sh', '-ec', sys.argv[1]])"
    async with program("-c", start, script.replace(URL, redis.url), variables=variables) as process:
        assert await process.ended() == 0, process.text
        assert len(process.log) == 1  # the id


async def test_the_programs_of_the_page(redis: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "rooms.py").write_text(block("# rooms.py"))
    install, serve = block("pip install").splitlines()
    assert install == "pip install 'wsgate[redis]'"
    arguments = shlex.split(serve.replace(URL, redis.url))[1:]
    commands = [*arguments, "--port", "0", "--app-dir", str(tmp_path)]
    async with (
        started(*commands, folder=tmp_path) as one,
        started(*commands, folder=tmp_path) as other,
    ):
        for server in (one, other):
            await server.serves()
        async with (
            asyncio.timeout(PATIENCE),
            connect(f"{one.ws_url}/1", proxy=None) as here,
            connect(f"{other.ws_url}/1", proxy=None) as there,
        ):
            texts: list[str | bytes] = []
            while texts[-1:] != ["hello"]:  # the other one is subscribed
                await here.send("hello")
                async with asyncio.timeout(PATIENCE):
                    texts.append(await there.recv())
            await run(redis, tmp_path, "news.py")
            await run(redis, tmp_path, "task.py")
            await run_tasks(redis, tmp_path)
            words = shlex.split(block("wsgate publish").replace(URL, redis.url))
            async with program("-m", *words) as process:
                assert await process.ended() == 0, process.text
                assert process.log == ["notice-7"]
            await run_shell(block("export WSGATE_TOPICS"), redis, tmp_path)
            expected = [
                *("Good morning", "once", "Good night", "report 0 is ready", "report 1 is ready"),
                *("Back in five minutes", '{"text": "We are back"}'),
            ]
            while texts[-len(expected) :] != expected:
                texts.append(await there.recv())


async def test_the_rights_of_the_page_are_enough(redis: RedisServer, tmp_path: Path) -> None:
    words = shlex.split(block("ACL SETUSER"))
    await redis.call(*words)
    (tmp_path / "rooms.py").write_text(block("# rooms.py"))
    url = redis.url.replace("redis://", "redis://wsgate:secret@")
    arguments = ("rooms:app", "--port", "0", "--app-dir", str(tmp_path), "--topics", url)
    async with started(*arguments, folder=tmp_path) as server:
        await server.serves()
        async with asyncio.timeout(PATIENCE), connect(f"{server.ws_url}/1", proxy=None) as one:
            await one.send("text")
            assert await one.recv() == "text"
        while not await redis.call("KEYS", "wsgate:*:rules"):
            await pause(0.02)
        log = await redis.call("ACL", "LOG")
        assert log == []
        assert "Redis" not in server.text
