"""The live page of --metrics in a browser: what it shows, and what an operator does with it."""

import asyncio
import base64
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from importlib import resources
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, WebSocket, expect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.harness.browser import browser
from tests.harness.forwarder import forwarder
from tests.harness.metrics import MetricsClient, metrics_of
from tests.harness.processes import ROOT
from tests.harness.staged_status import StagedSource
from tests.harness.waiting import pause
from wsgate.metrics import families as f
from wsgate.status.app import StatusApp
from wsgate.testing import serve, workers
from wsgate.testing.live import LiveServer
from wsgate.testing.workers import WorkersServer
from wsgate.types import App, Message, Receive, Scope, Send

APP = "tests.apps.ending:app"
TOKEN = "token-of-the-tests"
PATIENCE = 30.0  # seconds
NONE = "\N{EN DASH}"  # what the page shows where there is no value
SIZES = [(1440, 900), (800, 1000), (390, 844), (320, 640)]  # of windows, in pixels
# These change while nothing happens.
RESTLESS = {"process_resident_memory_bytes", "process_open_fds"}
# Chromium logs this when there is no server.
NO_SERVER = "WebSocket connection to"

pytestmark = pytest.mark.asyncio(loop_scope="module")  # all tests have one browser


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chromium() -> AsyncIterator[Browser]:
    expect.set_options(timeout=PATIENCE * 1000)
    async with browser() as one:
        yield one


# -- the page ------------------------------------------------------------------------------------


class StatusPage:
    """The live page in a tab of its own.

    Attributes:
        page: The tab.
        problems: What the browser's console has shown as a warning or an error, and failed scripts.
        requests: The URLs that were loaded.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        self.requests: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self._take(message.type, message.text))

    def _take(self, kind: str, text: str) -> None:
        if kind in ("warning", "error") and not text.startswith(NO_SERVER):
            self.problems.append(text)

    async def open(self, url: str) -> None:
        await self.page.goto(url)
        await self.is_in("live")

    async def is_in(self, phase: str) -> None:
        """Wait until the connection of the page is in a phase."""
        await expect(self.page.locator("#link")).to_have_attribute("data-phase", phase)

    def figure(self, name: str) -> Locator:
        """Return the element of a number that the page has computed."""
        return self.page.locator(f"[data-figure={name}]")

    def rows(self, table: str, text: str = "") -> Locator:
        """Return the rows of a table that contain a text."""
        return self.page.locator(f"#{table} tbody tr", has_text=text)

    async def show_connections(self) -> None:
        """Scroll to the connections: they are listed only while they are visible."""
        await self.page.locator("#connections-panel").scroll_into_view_if_needed()

    async def column(self, table: str, title: str) -> list[str]:
        """Return the texts of a column."""
        return await self.page.locator(f"#{table} td[data-label='{title}']").all_inner_texts()

    async def figures(self) -> dict[tuple[str, str], float]:
        """Return the exact values that are shown, by metric and label."""
        nodes = await self.page.locator("[data-metric]").evaluate_all(
            "nodes => nodes.map(({dataset: d}) => [d.metric, d.where ?? '', d.value])"
        )
        return {
            (metric, where): float(value)
            for metric, where, value in nodes
            if metric not in RESTLESS
        }

    async def confirm(self, token: str) -> None:
        """Enter the token in the dialog, and send what it asks for."""
        await self.page.fill("#token", token)
        await self.page.click("#dialog-go")


@contextlib.asynccontextmanager
async def status_page(chromium: Browser, **options: Any) -> AsyncIterator[StatusPage]:
    """Yield a tab; check at its end that the browser had nothing to complain about."""
    context = await chromium.new_context(**options)
    one = StatusPage(await context.new_page())
    yield one
    await context.close()
    assert one.problems == []


# -- the server ----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def server_and_metrics() -> AsyncIterator[tuple[WorkersServer, str]]:
    """Run a server with two workers; yield it and the URL of its metrics."""
    settings: dict[str, Any] = {"metrics": "127.0.0.1:0", "status_token": TOKEN}
    async with workers(APP, app_dir=str(ROOT), **settings) as server:
        yield server, (await metrics_of(server)).url


def staged(
    source: StagedSource, token: str | None = TOKEN
) -> AbstractAsyncContextManager[LiveServer]:
    """Serve the page of a server that is not there."""
    return serve(StatusApp(source, token, broker_grace=30.0))


async def opened(server: WorkersServer, path: str = "/") -> ClientConnection:
    """Open a WebSocket on which a message was echoed."""
    url = f"{server.ws_url}{path}"
    websocket = await connect(url, ping_interval=None, open_timeout=PATIENCE, proxy=None)
    await echo(websocket, "hello")
    return websocket


async def echo(websocket: ClientConnection, text: str) -> None:
    async with asyncio.timeout(PATIENCE):
        await websocket.send(text)
        assert await websocket.recv() == text


async def end(websocket: ClientConnection, text: str) -> None:
    """Ask the app to end a WebSocket, and wait for the end."""
    await websocket.send(text)
    await asyncio.wait_for(websocket.wait_closed(), PATIENCE)


async def sums(page: StatusPage, url: str) -> dict[tuple[str, str], float]:
    """Return what /metrics has of the figures of the page."""
    scrape = await MetricsClient(url).scrape()
    return {
        (metric, where): scrape.sum(metric, **dict([where.split("=")] if where else []))
        for metric, where in await page.figures()
    }


# -- what it shows -------------------------------------------------------------------------------


async def test_the_values_are_those_of_the_metrics(chromium: Browser) -> None:
    async with (
        server_and_metrics() as (server, url),
        status_page(chromium) as page,
        contextlib.AsyncExitStack() as stack,
    ):
        await page.open(url)
        sockets = [await stack.enter_async_context(await opened(server)) for _ in range(6)]
        for number, websocket in enumerate(sockets):
            for _ in range(number):
                await echo(websocket, "x" * 1000)
        await sockets[0].close()
        await end(sockets[1], "close 4001 bye")

        expected = {
            ("wsgate_websockets", ""): 4,
            ("wsgate_websockets_opened_total", ""): 6,
            ("wsgate_websockets_closed_total", ""): 2,
            ("wsgate_messages_total", "direction=received"): 6 + 15 + 1,
            ("wsgate_messages_total", "direction=sent"): 6 + 15,
            ("wsgate_message_bytes_total", "direction=sent"): 6 * 5 + 15 * 1000,
        }
        shown, exposed = await page.figures(), await sums(page, url)
        with contextlib.suppress(TimeoutError):  # then the differences are shown
            async with asyncio.timeout(PATIENCE):
                while shown != exposed or not expected.items() <= shown.items():
                    await pause(0.1)
                    shown, exposed = await page.figures(), await sums(page, url)
        assert shown == exposed
        assert {key: shown[key] for key in expected} == expected
        text = await page.page.inner_text("[data-metric=wsgate_websockets]")
        assert text == "4"


async def test_quantiles_are_those_of_the_last_observations(chromium: Browser) -> None:
    source = StagedSource()
    # 100 observations: 60 of half a millisecond to one, 40 of 5 to 10 ms.
    cumulative = dict.fromkeys([*map(str, f.LAG.bounds), "+Inf"], 100.0)
    cumulative |= {"0.0001": 0.0, "0.0005": 0.0, "0.001": 60.0, "0.0025": 60.0, "0.005": 60.0}
    old = dict.fromkeys(cumulative, 1000.0)  # observed before the page was opened
    source.lags = old
    async with staged(source) as server, status_page(chromium) as page:
        await page.open(server.url)
        await expect(page.figure("lagMedian")).to_have_text(NONE)
        source.lags = {le: old[le] + cumulative[le] for le in old}
        # 0.5 + 0.5 * 50 / 60, and 5 + 5 * 39 / 40; both in one look, as they are there for seconds
        tile = page.page.locator("dd", has=page.figure("lagMedian"))
        await expect(tile).to_have_text(re.compile(r"0\.92 ms.*9\.88 ms", re.DOTALL))
        await expect(page.figure("lagMedian")).to_have_text(NONE)  # ten seconds later


async def test_rates_are_per_second(chromium: Browser) -> None:
    source = StagedSource()
    source.sent_a_second = 500
    async with staged(source) as server, status_page(chromium) as page:
        await page.open(server.url)
        # The time of a sample and that of its values differ a little.
        await expect(page.figure("sentMessages")).to_have_text(re.compile("^(4[5-9]|5[0-4])\\d$"))
        await expect(page.figure("receivedMessages")).to_have_text("0")


async def test_closes_appear_with_their_cause(chromium: Browser) -> None:
    async with server_and_metrics() as (server, url), status_page(chromium) as page:
        await page.open(url)
        await expect(page.page.locator("#closes-empty")).to_be_visible()
        await (await opened(server, "/left")).close(1001, "<b>bye</b>")
        (await opened(server, "/vanished")).transport.abort()
        await end(await opened(server, "/failed"), "fail")
        await end(await opened(server, "/closed"), "close 4001 <img src=x>")

        for path, code, cause, text in (
            ("/left", "1001", "client_closed", "“<b>bye</b>”"),
            ("/vanished", "1006", "client_vanished", "without a Close frame"),
            ("/failed", "1011", "app_failed", "RuntimeError"),
            ("/closed", "4001", "app_closed", "“<img src=x>”"),
        ):
            row = page.rows("closes", path)
            await expect(row).to_have_count(1)
            await expect(row.locator("[data-label=Code]")).to_have_text(code)
            await expect(row.locator("[data-label=Cause]")).to_have_text(cause)
            await expect(row.locator("[data-label='What happened']")).to_contain_text(text)
            total = page.rows("causes", cause).locator("[data-label=Total]")
            await expect(total).to_have_text("1")


async def test_a_page_that_is_opened_later_has_the_latest_closes(chromium: Browser) -> None:
    async with server_and_metrics() as (server, url), status_page(chromium) as page:
        await end(await opened(server, "/early"), "return")
        await page.open(url)
        await expect(page.rows("closes", "/early")).to_contain_text("app_returned")


async def test_the_feed_of_closes_can_be_paused(chromium: Browser) -> None:
    async with server_and_metrics() as (server, url), status_page(chromium) as page:
        await page.open(url)
        await page.page.click("#hold")
        await end(await opened(server), "return")
        await expect(page.rows("causes", "app_returned")).to_have_count(1)
        await expect(page.rows("closes")).to_have_count(0)
        await page.page.click("#hold")
        await expect(page.rows("closes")).to_have_count(1)


async def test_workers_are_listed(chromium: Browser) -> None:
    async with server_and_metrics() as (_, url), status_page(chromium) as page:
        await page.open(url)
        await expect(page.page.locator("#state")).to_have_text("Ready")
        await expect(page.page.locator("#workers-ready")).to_have_text("2 of 2")
        assert await page.column("workers", "Worker") == ["1", "2"]
        assert await page.column("workers", "State") == ["ready", "ready"]
        assert await page.column("workers", "Broker") == ["up", "up"]


# -- the connections -----------------------------------------------------------------------------


async def test_the_filter_finds_connections(chromium: Browser) -> None:
    async with (
        server_and_metrics() as (server, url),
        status_page(chromium) as page,
        contextlib.AsyncExitStack() as stack,
    ):
        for path in ("/chat/one", "/chat/two", "/news"):
            await stack.enter_async_context(await opened(server, path))
        await page.open(url)
        tab, rows = page.page, page.rows("connections")
        await page.show_connections()
        await expect(rows).to_have_count(3)

        await tab.fill("#filter-path", "/chat/*")
        await tab.press("#filter-path", "Enter")
        await expect(rows).to_have_count(2)
        assert sorted(await page.column("connections", "Path")) == ["/chat/one", "/chat/two"]
        await expect(tab.locator("#connections-note")).to_have_text("2 connections")

        await tab.fill("#filter-address", "10.0.0.0/8")
        await tab.press("#filter-address", "Enter")
        await expect(rows).to_have_count(0)
        await expect(tab.locator("#connections-empty")).to_be_visible()
        await tab.fill("#filter-address", "10.x")
        await tab.press("#filter-address", "Enter")
        await expect(tab.locator("#connections-problem")).to_contain_text("10.x")
        await tab.fill("#filter-address", "127.0.0.0/8")
        await tab.press("#filter-address", "Enter")
        await expect(rows).to_have_count(2)
        await expect(tab.locator("#connections-problem")).to_have_text("")

        await tab.click("text=Clear")
        await expect(rows).to_have_count(3)
        numbers = await page.column("connections", "Worker")
        await tab.select_option("#filter-worker", numbers[0])
        await expect(rows).to_have_count(numbers.count(numbers[0]))
        assert set(await page.column("connections", "Worker")) == {numbers[0]}


async def test_the_list_of_connections_refreshes_while_it_is_visible(chromium: Browser) -> None:
    source = StagedSource(connections=1)
    async with staged(source) as server, status_page(chromium) as page:
        await page.open(server.url)
        await page.show_connections()
        await expect(page.rows("connections")).to_have_count(1)
        source.connections = 3
        await expect(page.rows("connections")).to_have_count(3)


# -- close and drain -----------------------------------------------------------------------------


async def test_a_connection_is_closed_with_the_token_only(chromium: Browser) -> None:
    async with (
        server_and_metrics() as (server, url),
        status_page(chromium) as page,
        await opened(server, "/target") as websocket,
    ):
        await page.open(url)
        await page.show_connections()
        row = page.rows("connections", "/target")
        await row.get_by_role("button").click()
        await page.page.fill("#dialog-code", "4000")
        await page.page.fill("#dialog-reason", "maintenance")
        await page.confirm("not-the-token-of-the-tests")
        await expect(page.page.locator("#dialog-problem")).to_have_text("the token is wrong")
        await echo(websocket, "still open")

        await page.confirm(TOKEN)
        await expect(page.page.locator("#done")).to_contain_text("closed with 4000")
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(websocket.recv(), PATIENCE)
        assert (websocket.close_code, websocket.close_reason) == (4000, "maintenance")
        await expect(page.rows("closes", "/target")).to_contain_text("operator")
        await expect(page.rows("connections")).to_have_count(0)


async def test_a_worker_is_drained_with_the_token_only(chromium: Browser) -> None:
    async with server_and_metrics() as (_, url), status_page(chromium) as page:
        await page.open(url)
        pids = await page.column("workers", "Pid")
        await page.page.get_by_role("button", name="Drain worker 1").click()
        await page.confirm("not-the-token-of-the-tests")
        await expect(page.page.locator("#dialog-problem")).to_have_text("the token is wrong")
        assert await page.column("workers", "Pid") == pids

        await page.confirm(TOKEN)
        await expect(page.page.locator("#done")).to_contain_text(pids[0])
        await expect(page.rows("workers", pids[0])).to_have_count(0)
        await expect(page.page.locator("#workers-ready")).to_have_text("2 of 2")
        assert pids[1] in await page.column("workers", "Pid")


async def test_the_page_is_read_only_without_a_token(chromium: Browser) -> None:
    source = StagedSource(connections=3)
    async with staged(source, None) as server, status_page(chromium) as page:
        await page.open(server.url)
        await expect(page.rows("workers")).to_have_count(1)
        await page.show_connections()
        await expect(page.rows("connections")).to_have_count(3)
        await expect(
            page.page.get_by_role("button", name=re.compile("^(Close|Drain)"))
        ).to_have_count(0)
        await expect(page.page.locator("footer")).to_contain_text("Read only")


# -- the connection of the page ------------------------------------------------------------------


async def test_the_page_reconnects_after_a_restart(chromium: Browser) -> None:
    async with status_page(chromium) as page, forwarder(0) as (network, address):
        async with server_and_metrics() as (_, url):
            network.move(port_of(url))
            await page.open(f"http://{address}")
            await expect(page.page.locator("#lost")).to_be_hidden()
        await page.is_in("lost")
        await expect(page.page.locator("#lost")).to_contain_text(f"No connection to {address}")
        assert "no connection" in await page.page.title()

        async with server_and_metrics() as (server, url):
            await end(await opened(server, "/after"), "return")
            network.move(port_of(url))
            await page.is_in("live")
            await expect(page.page.locator("#lost")).to_be_hidden()
            await expect(page.rows("closes", "/after")).to_have_count(1)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def test_a_hidden_page_draws_and_changes_nothing(chromium: Browser) -> None:
    source = StagedSource()
    source.sent_a_second = 500
    async with staged(source) as server, status_page(chromium) as page:
        samples: list[str | bytes] = []
        page.page.on("websocket", lambda one: collect(one, samples))
        await page.page.add_init_script(COUNT_DRAWINGS)
        await page.open(server.url)
        await page.page.wait_for_function("drawings > 0")
        await page.page.evaluate("hide(true)")
        await page.page.evaluate("new Promise(requestAnimationFrame)")  # one may be under way
        before, count = await page.page.evaluate("drawings"), len(samples)
        figures = await page.figures()
        async with asyncio.timeout(PATIENCE):
            while len(samples) < count + 3:
                await pause(0.1)
        assert await page.page.evaluate("drawings") == before
        assert await page.figures() == figures
        await page.page.evaluate("hide(false)")
        await page.page.wait_for_function(f"drawings > {before}")
        assert await page.figures() != figures


COUNT_DRAWINGS = """
    Object.assign(window, { drawings: 0, isHidden: false });
    const clear = CanvasRenderingContext2D.prototype.clearRect;
    CanvasRenderingContext2D.prototype.clearRect = function (...box) {
      window.drawings += 1;
      clear.apply(this, box);
    };
    Object.defineProperty(document, "hidden", { get: () => window.isHidden });
    window.hide = (value) => {
      window.isHidden = value;
      document.dispatchEvent(new Event("visibilitychange"));
    };
"""


def collect(websocket: WebSocket, samples: list[str | bytes]) -> None:
    def take(sample: str | bytes) -> None:
        samples.append(sample)

    websocket.on("framereceived", take)


# -- how it looks, and what it needs ---------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_window_needs_horizontal_scrolling(chromium: Browser, scheme: str) -> None:
    source = StagedSource(connections=20, closes=20)
    async with (
        staged(source) as server,
        status_page(chromium, color_scheme=scheme) as page,
    ):
        await page.open(server.url)
        tab = page.page
        await page.show_connections()
        await expect(page.rows("connections")).to_have_count(20)
        for width, height in SIZES:
            await tab.set_viewport_size({"width": width, "height": height})
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width
        background = await tab.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
        assert (brightness < 64) == (scheme == "dark"), background


async def test_ten_thousand_connections_leave_it_usable(chromium: Browser) -> None:
    source = StagedSource(connections=10_000, closes=10_000, workers=64)
    async with staged(source) as server, status_page(chromium) as page:
        await page.open(server.url)
        await page.show_connections()
        await expect(page.rows("connections")).to_have_count(200)
        note = page.page.locator("#connections-note")
        await expect(note).to_have_text("the first 200 of 10,000 connections")
        await expect(page.rows("closes")).to_have_count(100)
        await expect(page.rows("workers")).to_have_count(64)
        await page.page.fill("#filter-path", "/nothing")
        await page.page.press("#filter-path", "Enter")
        await expect(page.page.locator("#connections-empty")).to_be_visible()


async def test_a_strict_policy_is_possible(chromium: Browser) -> None:
    app = with_strict_policy(
        StatusApp(StagedSource(connections=3, closes=3), TOKEN, broker_grace=30.0)
    )
    async with serve(app) as server, status_page(chromium) as page:
        await page.open(server.url)
        await page.show_connections()
        await expect(page.rows("connections")).to_have_count(3)
        await page.rows("connections").first.get_by_role("button").click()
        await page.confirm("not-the-token-of-the-tests")
        await expect(page.page.locator("#dialog-problem")).to_have_text("the token is wrong")
        assert all(url.startswith((server.url, "data:")) for url in page.requests), page.requests


def with_strict_policy(app: App) -> App:
    """Return the app with a policy that allows the page's own script and style, by their hashes."""
    html = resources.files("wsgate.status").joinpath("page.html").read_bytes()
    directives = (
        "default-src 'none'",
        f"script-src {hash_of(html, b'script')}",
        f"style-src {hash_of(html, b'style')}",
        "connect-src 'self'",
        "img-src data:",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
    )
    policy = (b"content-security-policy", "; ".join(directives).encode())

    async def strict(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_strictly(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], policy]}
            await send(message)

        await app(scope, receive, send_strictly)

    return strict


def hash_of(html: bytes, tag: bytes) -> str:
    """Return how a policy names the only element with a tag."""
    (found,) = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(found).digest()).decode()}'"
