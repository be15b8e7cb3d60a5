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
            words = shlex.split(block("wsgate publish").replace(URL, redis.url))
            async with program("-m", *words) as process:
                assert await process.ended() == 0, process.text
                assert process.log == ["notice-7"]
            await run_shell(block("export WSGATE_TOPICS"), redis, tmp_path)
            expected = ["Good morning", "once", "Good night", "Back in five minutes"]
            expected.append('{"text": "We are back"}')
            while texts[-5:] != expected:
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
