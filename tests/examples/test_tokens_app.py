"""The example of token streaming: the same answer over both ways, whole and after a gap."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect

from examples.tokens import app as module
from wsgate.testing import LiveServer, serve

QUESTION = "Why?"
WORDS = ["You ", "asked: ", "Why? ", "I ", "would ", "say ", "that ", "it ", "depends. "]
PATIENCE = 30.0


class Model:
    """A model that yields a token when the test says so."""

    def __init__(self) -> None:
        self.may_go_on = asyncio.Semaphore(0)

    async def think(self, question: str) -> AsyncIterator[str]:
        assert question == QUESTION
        for word in WORDS:
            await self.may_go_on.acquire()
            yield word

    def go_on(self, count: int = len(WORDS)) -> None:
        for _ in range(count):
            self.may_go_on.release()


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    model = Model()
    monkeypatch.setattr(module, "think", model.think)
    return model


@pytest_asyncio.fixture
async def server(model: Model) -> AsyncIterator[LiveServer]:
    async with asyncio.timeout(PATIENCE), serve(module.app) as server:
        yield server


@pytest_asyncio.fixture
async def client(server: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        yield client


async def ask(client: httpx.AsyncClient) -> str:
    response = await client.post("/answers", content=QUESTION)
    assert response.status_code == 201
    return str(response.json()["id"])


async def events(
    client: httpx.AsyncClient, answer: str, last: str = "", count: int = 1000
) -> list[tuple[str, str]]:
    """Return the ids and tokens of a stream of events: so many, or all until its end."""
    headers = {"Last-Event-ID": last} if last else {}
    found: list[tuple[str, str]] = []
    async with client.stream("GET", f"/answers/{answer}", headers=headers) as response:
        assert response.headers["content-type"] == "text/event-stream"
        async for line in response.aiter_lines():
            if line.startswith("id: "):
                number = line.removeprefix("id: ")
            elif line.startswith("data: ") and line != "data: ":
                found.append((number, json.loads(line.removeprefix("data: "))))
            if line == "event: end" or len(found) == count:
                break
    return found


async def messages(server: LiveServer, answer: str, after: str = "") -> list[tuple[str, str]]:
    """Return the ids and tokens of all messages of a WebSocket."""
    url = f"{server.ws_url}/answers/{answer}?after={after}"
    async with connect(url) as websocket:
        found = [json.loads(text) async for text in websocket]
        assert (websocket.close_code, websocket.close_reason) == (1000, "end")
    return [(one["id"], one["token"]) for one in found]


ALL = [(str(number), word) for number, word in enumerate(WORDS, 1)]


async def test_both_ways_have_the_whole_answer_however_late(
    server: LiveServer, client: httpx.AsyncClient, model: Model
) -> None:
    answer = await ask(client)
    early = [
        asyncio.ensure_future(events(client, answer)),
        asyncio.ensure_future(messages(server, answer)),
    ]
    model.go_on()
    assert await asyncio.gather(*early) == [ALL, ALL]
    assert await events(client, answer) == await messages(server, answer) == ALL


async def test_a_reader_that_comes_back_gets_the_rest(
    server: LiveServer, client: httpx.AsyncClient, model: Model
) -> None:
    answer = await ask(client)
    model.go_on(3)
    assert await events(client, answer, count=3) == ALL[:3]
    model.go_on()
    assert await events(client, answer, last="3") == ALL[3:]
    assert await messages(server, answer, after="5") == ALL[5:]
    assert await events(client, answer, last="end") == []


async def test_an_answer_that_is_not_complete_ends_with_the_server(model: Model) -> None:
    async with asyncio.timeout(PATIENCE), serve(module.app, timeout_graceful_shutdown=1) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            await ask(client)
        assert len(module.answers._tasks) == 1
    assert not module.answers._tasks


async def test_a_question_that_is_too_long(client: httpx.AsyncClient) -> None:
    response = await client.post("/answers", content=b"x" * (module.MAX_QUESTION + 1))
    assert response.status_code == 413


async def test_the_page(client: httpx.AsyncClient) -> None:
    response = await client.get("/")
    assert response.status_code == 200
    assert "EventSource" in response.text
