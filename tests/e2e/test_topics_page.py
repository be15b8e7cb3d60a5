"""The programs of docs/topics.md do what the page says."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import connect

from tests.harness.processes import ROOT, ServerProcess, program
from tests.harness.waiting import soon
from wsgate.config import Config

PAGE = (ROOT / "docs" / "topics.md").read_text()
PROGRAMS = dict(re.findall(r"```python\n# (\w+\.py).*?\n(.*?)```", PAGE, re.DOTALL))
PATIENCE = 30.0


@asynccontextmanager
async def running(folder: Path, name: str) -> AsyncIterator[ServerProcess]:
    """Run a program of the page as the page says, on a free port."""
    (folder / f"{name}.py").write_text(PROGRAMS[f"{name}.py"])
    command = ("-m", "wsgate", f"{name}:app", "--port", "0")
    async with program(*command, cwd=folder, variables={"PYTHONPATH": str(ROOT)}) as process:
        await process.serves()
        yield process
        process.signal()
        assert await process.ended() == 0
        assert not [line for line in process.log if "Traceback" in line or "ERROR" in line]


class Talker:
    """A client whose messages are JSON."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket

    async def receive(self) -> Any:
        return json.loads(await soon(self._socket.recv(), PATIENCE))

    async def receive_others(self) -> Any:
        """Return the next message that announces nobody."""
        while "joined" in (message := await self.receive()):
            pass
        return message

    async def say(self, text: str) -> None:
        await self._socket.send(text)


@asynccontextmanager
async def talker(server: ServerProcess, path: str, **query: str) -> AsyncIterator[Talker]:
    url = f"{server.ws_url}{path}?{urlencode(query)}"
    async with connect(url, proxy=None, open_timeout=PATIENCE) as socket:
        yield Talker(socket)


async def test_rooms(tmp_path: Path) -> None:
    async with running(tmp_path, "rooms") as server:
        async with talker(server, "/lobby") as ada, talker(server, "/garden") as other:
            assert [await one.receive() for one in (ada, other)] == [{"complete": True}] * 2
            await ada.say("hello")
            first = await ada.receive()
            assert first["text"] == "hello"
            async with talker(server, "/lobby") as bob:
                assert [await bob.receive() for _ in range(2)] == [first, {"complete": True}]
                await bob.say("how are you")
                second = await ada.receive()
                assert await bob.receive() == second
            await other.say("to the garden")
            assert (await other.receive())["text"] == "to the garden"
        async with talker(server, "/lobby", after=first["id"]) as again:
            assert [await again.receive() for _ in range(2)] == [second, {"complete": True}]
        async with talker(server, "/lobby", after="unknown") as again:
            assert [await again.receive() for _ in range(3)] == [first, second, {"complete": False}]


async def test_rooms_with_fastapi(tmp_path: Path) -> None:
    joined = {"name": "ada", "joined": True}
    async with (
        running(tmp_path, "rooms_fastapi") as server,
        httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as http,
        talker(server, "/lobby", name="ada") as ada,
    ):
        assert [await ada.receive() for _ in range(2)] == [{"complete": True}, joined]
        assert (await http.get("/lobby/members")).json() == {"ada": 1}
        async with http.stream("GET", "/lobby/events") as response:
            lines = response.aiter_lines()
            assert [await soon(anext(lines), PATIENCE) for _ in range(2)] == [": listening", ""]
            await ada.say("one\nand more")
            said = await ada.receive()
            assert said | {"id": ""} == {"id": "", "name": "ada", "text": "one\nand more"}
            id_, data = [await soon(anext(lines), PATIENCE) for _ in range(2)]
            assert id_ == f"id: {said['id']}"
            assert json.loads(data.removeprefix("data: ")) == said
        parameters = {"name": "bob", "text": "from a thread"}
        assert (await http.post("/lobby", params=parameters)).status_code == 200
        by_bob = await ada.receive()
        assert by_bob | {"id": ""} == {"id": ""} | parameters
        headers = {"Last-Event-ID": said["id"]}
        async with http.stream("GET", "/lobby/events", headers=headers) as response:
            lines = response.aiter_lines()
            *_, data = [await soon(anext(lines), PATIENCE) for _ in range(4)]
            assert json.loads(data.removeprefix("data: ")) == by_bob


async def test_a_client_of_fastapi_comes_back_and_has_what_it_has_missed(tmp_path: Path) -> None:
    async with (
        running(tmp_path, "rooms_fastapi") as server,
        talker(server, "/lobby", name="ada") as ada,
    ):
        assert await ada.receive_others() == (complete := {"complete": True})
        await ada.say("first")
        first = await ada.receive_others()
        await ada.say("second")
        second = await ada.receive_others()
        async with talker(server, "/lobby", name="bob", after=first["id"]) as bob:
            assert [await bob.receive_others() for _ in range(2)] == [second, complete]
        async with talker(server, "/lobby", name="bob", after=second["id"]) as bob:
            assert await bob.receive_others() == complete
        async with talker(server, "/lobby", name="bob", after="unknown") as bob:
            received = [await bob.receive_others() for _ in range(3)]
            assert received == [first, second, {"complete": False}]


def test_each_program_of_the_page_is_tried() -> None:
    assert set(PROGRAMS) == {"rooms.py", "rooms_fastapi.py"}


def test_the_defaults_are_those_of_the_settings() -> None:
    table = PAGE[PAGE.index("| Setting | Default |") :]
    assert f"| {Config().topics_max_per_connection} topics |" in table
    assert f"| {Config().topics_max:,} topics with subscribers |" in table
    assert f"| {Config().topics_history_max_bytes >> 20} MiB of all histories" in table
    assert f"| {Config().topics_max_outlet >> 20} MiB for each slow" in table
