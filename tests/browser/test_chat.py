"""The page of the example chat in a browser: a tunnel, a rolling restart."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from examples.chat.app import Chat
from examples.chat.rooms import Limits
from tests.harness.browser import browser
from tests.harness.forwarder import forwarder
from tests.harness.processes import ROOT
from tests.harness.topics import own_rules
from tests.harness.waiting import pause
from wsgate.testing import serve, workers

__all__ = ["own_rules"]

PATIENCE = 30.0  # seconds
MAX_WAITING = 5  # messages that the page has not confirmed yet, of the ten that it keeps


pytestmark = pytest.mark.asyncio(loop_scope="module")  # all tests have one browser


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chromium() -> AsyncIterator[Browser]:
    expect.set_options(timeout=PATIENCE * 1000)
    async with browser() as one:
        yield one


class Person:
    """A page of the chat, in a profile of its own."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    async def join(self, url: str, name: str, room: str = "Garden") -> None:
        await self.page.goto(url)
        await self.page.fill("#door-name", name)
        await self.page.fill("#door-room", room)
        await self.page.click("#door-go:enabled")
        await expect(self.page.locator("#room-title")).to_have_text(room)

    async def say(self, text: str) -> None:
        await self.page.fill("#draft", text)
        await self.page.press("#draft", "Enter")

    async def texts(self) -> list[str]:
        """Return what the log shows."""
        return await self.page.locator("#said .text").all_inner_texts()

    async def shows(self, *texts: str) -> None:
        """Wait until the log shows these messages, and no others."""
        await expect(self.page.locator("#said .text")).to_have_text(list(texts))

    async def waiting(self) -> int:
        """Return how many messages wait for their confirmation."""
        return await self.page.locator("#waiting > li").count()

    async def phase(self, *phases: str) -> None:
        """Wait until the connection is in one of these phases."""
        pattern = re.compile("|".join(phases))
        await expect(self.page.locator("#status")).to_have_attribute("data-phase", pattern)

    async def reconnect(self) -> None:
        """Try at once, as if the system had told the browser that it is online."""
        await self.page.evaluate("dispatchEvent(new Event('online'))")

    async def worker(self) -> str:
        """Return the process that serves the page, as the page shows it."""
        text = await self.page.inner_text("#worker")
        found = re.fullmatch(r"worker (\d+) on .+", text)
        assert found, text
        return found[1]


@contextlib.asynccontextmanager
async def people(chromium: Browser, count: int) -> AsyncIterator[list[Person]]:
    """Open so many pages; check that no script has failed."""
    contexts = [await chromium.new_context() for _ in range(count)]
    found = [Person(await context.new_page()) for context in contexts]
    yield found
    for context in contexts:
        await context.close()
    assert [person.errors for person in found] == [[]] * count


async def test_a_page_shows_what_was_said_while_it_was_in_a_tunnel(
    own_rules: None, chromium: Browser
) -> None:
    async with (
        serve(Chat()) as server,
        forwarder(server.port) as (network, address),
        people(chromium, 2) as (ada, mira),
    ):
        await ada.join(server.url, "Ada")
        await mira.join(f"http://{address}", "Mira")
        await ada.say("one")
        await mira.shows("one")
        await expect(ada.page.locator("#members .name")).to_have_text(["Ada", "Mira"])

        network.move(0)
        await mira.phase("waiting")
        await mira.say("from the tunnel")
        await mira.page.fill("#draft", "a draft")
        for text in ("two", "three", "four"):
            await ada.say(text)
        await ada.shows("one", "two", "three", "four")
        assert await mira.texts() == ["one"]
        assert await mira.waiting() == 1

        network.move(server.port)
        await mira.reconnect()
        for person in (ada, mira):
            await person.shows("one", "two", "three", "four", "from the tunnel")
        assert await mira.waiting() == 0
        assert await mira.page.input_value("#draft") == "a draft"
        assert await mira.page.locator("#said .line", has_text="missing").count() == 0


async def test_a_page_that_was_away_for_too_long_says_so(
    own_rules: None, chromium: Browser
) -> None:
    async with (
        serve(Chat(Limits(history=4, last=3))) as server,
        forwarder(server.port) as (network, address),
        people(chromium, 2) as (ada, mira),
    ):
        await ada.join(server.url, "Ada")
        await mira.join(f"http://{address}", "Mira")
        await ada.say("0")
        await mira.shows("0")

        network.move(0)
        await mira.phase("waiting")
        for number in range(1, 9):
            await ada.say(str(number))
        await ada.shows(*map(str, range(9)))

        network.move(server.port)
        await mira.reconnect()
        await mira.shows("0", "6", "7", "8")
        line = mira.page.locator("#said .line", has_text="Earlier messages are missing")
        await expect(line).to_have_count(1)


async def test_pages_lose_nothing_in_a_rolling_restart(chromium: Browser) -> None:
    async with (
        workers("examples.chat.app:app", app_dir=str(ROOT)) as server,
        people(chromium, 2) as pages,
    ):
        for page, name in zip(pages, ("Ada", "Mira"), strict=True):
            await page.join(server.url, name)
        before = {await page.worker() for page in pages}
        restart = asyncio.create_task(server.restart())
        said: list[str] = []
        while not restart.done() or before & {await page.worker() for page in pages}:
            for page in pages:
                said.append(f"message {len(said)}")
                await page.say(said[-1])
                while await page.waiting() > MAX_WAITING:
                    await pause(0.02)
            await pause(0.25)  # below the rate that the chat allows
        await restart
        for page in pages:
            await expect(page.page.locator("#said .text")).to_have_count(len(said))
        log = await pages[0].texts()
        assert await pages[1].texts() == log
        assert sorted(log) == sorted(said)
        for number in range(2):  # each page's own are in order
            own = said[number::2]
            assert [text for text in log if text in own] == own
