"""What the page gets each second, and what it may ask for."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.status.conftest import TOKEN, FakeSource
from wsgate.status import app as status_app, live, sampler
from wsgate.status.app import StatusApp

DEADLINE = 10.0


class Page:
    """The page's WebSocket in memory."""

    def __init__(self, app: StatusApp, path: str = "/live") -> None:
        self._app = app
        self._path = path
        self._in: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._out: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.call: asyncio.Task[None]

    async def open(self) -> dict[str, Any]:
        """Call the app, and return its first event."""
        scope: Any = {"type": "websocket", "path": self._path}
        send: Any = self._out.put
        work = self._app(scope, self._in.get, send)
        self.call = asyncio.ensure_future(work)
        await self._in.put({"type": "websocket.connect"})
        return await asyncio.wait_for(self._out.get(), DEADLINE)

    async def send(self, text: str) -> None:
        await self._in.put({"type": "websocket.receive", "text": text})

    async def next(self, kind: str) -> dict[str, Any]:
        """Return the next message of a type."""
        async with asyncio.timeout(DEADLINE):
            while True:
                message: dict[str, Any] = json.loads((await self._out.get())["text"])
                if message["type"] == kind:
                    return message

    async def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request, and return its answer."""
        await self.send(json.dumps(request | {"ask": 5}))
        answer = await self.next("answer")
        assert answer.pop("ask") == 5
        del answer["type"]
        return answer

    async def close(self) -> None:
        await self._in.put({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(self.call, DEADLINE)


@contextlib.asynccontextmanager
async def opened(app: StatusApp) -> AsyncIterator[Page]:
    page = Page(app)
    assert await page.open() == {"type": "websocket.accept"}
    yield page
    await page.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "INTERVAL", 0.05)
    monkeypatch.setattr(sampler, "SHARED_SECONDS", 0.025)
    monkeypatch.setattr(live, "WRONG_TOKEN_PAUSE", 0.01)


@pytest_asyncio.fixture
async def page(app: StatusApp) -> AsyncIterator[Page]:
    async with opened(app) as page:
        yield page


def close_of(number: int, worker: int = 7) -> dict[str, Any]:
    return {"at": float(number), "worker": worker, "code": 1000}


async def test_there_is_no_other_websocket(app: StatusApp) -> None:
    page = Page(app, "/metrics")
    assert await page.open() == {"type": "websocket.close"}
    await page.call


async def test_pages_leave_connections_for_probes(
    app: StatusApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_app, "MOST_PAGES", 1)
    for _ in range(2):  # one that was closed counts no more
        async with opened(app):
            refused = Page(app)
            assert await refused.open() == {"type": "websocket.close"}
            await refused.call


async def test_it_says_hello(page: Page, source: FakeSource) -> None:
    hello = await page.next("hello")
    assert hello["can_act"] is True
    async with opened(StatusApp(source, None, 30.0)) as reader:
        assert (await reader.next("hello"))["can_act"] is False


async def test_each_end_comes_once_in_order(app: StatusApp, source: FakeSource) -> None:
    source.answers["status"][0]["workers"].append(source.worker(number=2, pid=8))
    source.answers["live"] = [
        {"worker": 7, "number": 2, "closes": [close_of(1), close_of(4)], "topics": [], "slow": []},
        {"worker": 8, "number": 1, "closes": [close_of(3, 8)], "topics": [], "slow": []},
    ]
    async with opened(app) as page:
        first = await page.next("sample")
        assert [one["at"] for one in first["closes"]] == [1.0, 3.0, 4.0]
        source.answers["live"] = [
            {"worker": 7, "number": 3, "closes": [close_of(5)], "topics": [], "slow": []}
        ]
        async with asyncio.timeout(DEADLINE):
            while not (closes := (await page.next("sample"))["closes"]):
                pass
        assert closes == [close_of(5)]
        asked = [arguments["since"] for command, arguments in source.asked if command == "live"]
        assert asked[:1] == [{}]
        assert {"7": 2, "8": 1} in asked
        source.answers["live"][0]["closes"] = []
        async with opened(app) as later:
            closes = (await later.next("sample"))["closes"]
            assert [one["at"] for one in closes] == [1.0, 3.0, 4.0, 5.0]


async def test_one_sample_serves_all_pages(
    app: StatusApp, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "SHARED_SECONDS", 3600.0)
    async with opened(app) as one, opened(app) as other:
        await asyncio.gather(one.next("sample"), other.next("sample"))
        assert [command for command, _ in source.asked].count("metrics") == 1


async def test_connections_are_listed_with_a_filter(page: Page, source: FakeSource) -> None:
    source.answers["connections"] = [
        {"connections": [{"id": "1"}]},
        {"connections": [{"id": "2"}]},
        {"total": 9, "listed": 2, "unanswered": []},
    ]
    answer = await page.ask(do="connections", path="/chat/*", address=None, limit=2, token="x")
    assert answer["connections"] == [{"id": "1"}, {"id": "2"}]
    assert answer["total"] == 9
    assert source.last("connections") == {"path": "/chat/*", "limit": 2}
    for limit in (None, 10**9, "many", 0, True):
        await page.ask(do="connections", limit=limit)
        assert source.last("connections") == {"limit": live.MOST_ROWS}


async def test_whoever_has_the_token_may_act(page: Page, source: FakeSource) -> None:
    source.answers |= {"close": [{"closed": "7-a-1", "code": 1012}], "drain": [{"draining": 7}]}
    answer = await page.ask(do="close", id="7-a-1", code=1012, reason="", token=TOKEN)
    assert answer == {"closed": "7-a-1", "code": 1012}
    assert source.last("close") == {"id": "7-a-1", "code": 1012, "reason": ""}
    assert await page.ask(do="drain", worker=1, token=TOKEN) == {"draining": 7}


async def test_without_the_token_nobody_may(page: Page, source: FakeSource) -> None:
    for token in ("wrong", "", None, 5, "\xe9", "\ud800"):
        answer = await page.ask(do="drain", worker=1, token=token)
        assert answer == {"error": "the token is wrong"}
    assert "drain" not in [command for command, _ in source.asked]
    async with opened(StatusApp(source, None, 30.0)) as reader:
        answer = await reader.ask(do="close", id="7-a-1", token=TOKEN)
        assert answer["error"].startswith("the page is read only")
    assert "close" not in [command for command, _ in source.asked]


async def test_a_refusal_and_an_unknown_request_are_answers(page: Page) -> None:
    answer = await page.ask(do="close", id="x", token=TOKEN)
    assert answer == {"error": "close is refused"}
    for command in ("restart", "scale", "stack", None, ["close"]):
        assert (await page.ask(do=command)).get("error") == "there is no such request"


async def test_what_is_no_request_is_ignored(page: Page, source: FakeSource) -> None:
    source.answers["connections"] = [{"total": 0}]
    for text in ("", "{", "[]", "1", '"close"', "[" * 100_000):
        await page.send(text)
    assert (await page.ask(do="connections"))["total"] == 0
