"""The metrics' address of real servers, with a client and a parser that are not ours."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from tests.harness.metrics import PATIENCE, MetricsClient, Scrape, metrics_of
from tests.harness.processes import ServerProcess, running, started
from tests.harness.prometheus import check, promtool
from tests.harness.waiting import pause
from wsgate.metrics import families as f

APP = "tests.apps.measured:app"
HERE = ("--metrics", "127.0.0.1:0")
ONE_AND_TWO = pytest.mark.parametrize("workers", ["1", "2"])


@asynccontextmanager
async def measured(*options: str) -> AsyncIterator[tuple[ServerProcess, MetricsClient]]:
    """Run a server with metrics."""
    async with running(APP, *HERE, *options) as server:
        yield server, await metrics_of(server)


def opened(server: ServerProcess) -> Any:
    return connect(server.ws_url, ping_interval=None, open_timeout=PATIENCE, proxy=None)


async def echo(websocket: ClientConnection, message: str | bytes) -> None:
    await websocket.send(message)
    assert await asyncio.wait_for(websocket.recv(), PATIENCE) == message


@ONE_AND_TWO
async def test_what_clients_did_is_counted(workers: str) -> None:
    async with measured("--workers", workers) as (server, metrics):
        for number in range(6):
            async with opened(server) as websocket:
                await echo(websocket, "gr\xfc\xdfe")  # 7 bytes
                await echo(websocket, bytes(1000))
                if number == 0:
                    during = await metrics.scrape()
        assert during.sum(f.WEBSOCKETS.name) == during.sum(f.CONNECTIONS.name) == 1
        after = await metrics.until_closed()
        assert after.sum(f.OPENED.name, reconnect="false") == 6
        labels = {"code": "1000", "cause": "client_closed", "initiator": "client"}
        assert after.sum(f.CLOSED.name, **labels) == 6
        for direction in ("received", "sent"):
            assert after.sum(f.MESSAGES.name, direction=direction) == 12
            assert after.sum(f.MESSAGE_BYTES.name, direction=direction) == 6 * 1007
            name = f"{f.MESSAGE_SIZE.name}_bucket"
            assert after.sum(name, direction=direction, le="16.0") == 6
            assert after.sum(name, direction=direction, le="1024.0") == 12
        assert after.sum(f"{f.DURATION.name}_count") == 6
        # The connect and two messages of each; the disconnect is the last event.
        assert after.sum(f"{f.EVENT_TIME.name}_count") == 18
        assert after.sum(f.WORKERS.name, state="ready") == int(workers)
        # One series of each worker, and with workers one of the supervisor.
        processes = after.series("process_resident_memory_bytes")
        assert len(processes) == {"1": 1, "2": 3}[workers]
        assert min(processes.values()) > 10_000_000


@ONE_AND_TWO
async def test_the_metrics_of_the_app_are_there(workers: str) -> None:
    async with measured("--workers", workers) as (server, metrics):
        for _ in range(4):
            async with opened(server) as websocket:
                await echo(websocket, "a")
                await echo(websocket, b"b")
        client = MetricsClient(server.url)
        pids = {int((await client.get("/")).text) for _ in range(8)}
        found = await metrics.until_closed()
        assert found.sum("app_echoes_total", kind="text") == 4
        assert found.sum("app_work_seconds_count") == 8
        assert found.sum("app_work_seconds_bucket", le="0.5") == 0
        assert found.sum("app_work_seconds_sum") == 6.0
        assert {*found.series("app_level").values()} - {0} == pids
        assert found.sum(f.HTTP_REQUESTS.name, method="GET", status="2xx") == 8


async def until_ended(metrics: MetricsClient, reason: str, count: int) -> Scrape:
    """Return the first metrics in which so many workers have ended."""
    return await metrics.until(lambda now: now.sum(f.RESTARTS.name, reason=reason) == count)


async def test_counters_go_on_over_restarts() -> None:
    async with measured("--workers", "2") as (server, metrics):
        before = await metrics.scrape()
        for restart in range(1, 3):
            async with opened(server) as one, opened(server) as other:
                await echo(one, "a")
                await echo(other, "b")
                server.signal(signal.SIGHUP)
                for websocket in (one, other):
                    with pytest.raises(ConnectionClosed):
                        await asyncio.wait_for(websocket.recv(), PATIENCE)
                    assert websocket.close_code == 1012
            await server.logged("Restarted 2 workers", PATIENCE, times=restart)
            ended = 2 * restart
            after = await until_ended(metrics, "replaced", ended)
            assert after.sum(f.OPENED.name) == after.sum(f.CLOSED.name) == ended
            assert after.sum(f.CLOSED.name, cause="worker_restart") == ended
            assert after.sum(f.MESSAGES.name, direction="received") == ended
            assert after.sum("app_echoes_total") == ended
            assert after.sum(f"{f.STOP_TIME.name}_count") == ended
        assert not before.sum(f.RESTARTS.name)


async def test_a_killed_worker_keeps_what_was_last_scraped() -> None:
    async with measured("--workers", "2") as (server, metrics):
        async with opened(server) as websocket:
            await echo(websocket, "a")
            await metrics.scrape()
            pid = (await MetricsClient(server.url).get("/")).text
            processes = {pid}
            async with asyncio.timeout(PATIENCE):
                while len(processes) < 2:
                    processes.add((await MetricsClient(server.url).get("/")).text)
            for one in processes:
                os.kill(int(one), signal.SIGKILL)
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(websocket.recv(), PATIENCE)
        after = await until_ended(metrics, "failed", 2)
        assert after.sum(f.MESSAGES.name, direction="received") == 1
        assert after.sum("app_echoes_total") == 1


async def test_publications_are_counted() -> None:
    async with (
        measured("--workers", "2") as (server, metrics),
        opened(server) as one,
        opened(server) as other,
    ):
        for websocket in (one, other):
            await echo(websocket, "subscribe room")
        await one.send("publish room")
        for websocket, messages in ((one, 2), (other, 1)):
            texts = [await asyncio.wait_for(websocket.recv(), PATIENCE) for _ in range(messages)]
            assert "published" in texts
        found = await metrics.scrape()
        assert found.sum(f.PUBLISHED.name) == 1
        assert found.sum(f.DELIVERED.name) == 2
        assert found.sum(f.SUBSCRIPTIONS.name) == 2
        assert found.sum(f.MESSAGES.name, direction="sent") == 5
        assert min(found.series(f.BROKER_UP.name).values()) == 1


async def test_refusals_and_failures_are_counted() -> None:
    async with measured("--ws-origins", "https://a.example") as (server, metrics):
        with pytest.raises(InvalidStatus):
            await connect(server.ws_url, origin=Origin("https://b.example"), proxy=None)
        async with connect(server.ws_url, origin=Origin("https://a.example"), proxy=None) as ws:
            await ws.send("fail")
            await ws.wait_closed()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET  HTTP/1.1\r\n\r\n")
        assert b" 400 " in await asyncio.wait_for(reader.readline(), PATIENCE)
        writer.close()
        found = await metrics.until_closed()
        assert found.sum(f.HANDSHAKES_REFUSED.name, status="403", reason="origin") == 1
        assert found.sum(f.CLOSED.name, cause="app_failed", code="1011") == 1
        assert found.sum(f.BAD_REQUESTS.name, status="400") == 1


async def ask_who(websocket: ClientConnection) -> str:
    """Return the id of a connection, as the app has it."""
    await websocket.send("who")
    return str(await asyncio.wait_for(websocket.recv(), PATIENCE))


@ONE_AND_TWO
async def test_a_client_that_came_back_has_replaced_its_connection(workers: str) -> None:
    options = ("--workers", workers, "--ws-reconnect-field", "was")
    async with measured(*options) as (server, metrics):
        for _ in range(4):
            first = await opened(server)
            name = await ask_who(first)
            url = f"{server.ws_url}/?was={name}"
            async with connect(url, proxy=None, open_timeout=PATIENCE) as again:
                successor = await ask_who(again)
                # The workers answer after they have heard of the return: it came first.
                await metrics.scrape()
                first.transport.abort()
                await server.logged(
                    f"the client came back on another connection: {successor}", PATIENCE
                )
        after = await metrics.until_closed()
        assert after.sum(f.OPENED.name, reconnect="true") == 4
        assert after.sum(f.CLOSED.name, cause="replaced", initiator="client") == 4


# -- formats and addresses -------------------------------------------------------------------------


@ONE_AND_TWO
async def test_prometheus_itself_finds_nothing_wrong(workers: str) -> None:
    promtool()
    async with measured("--workers", workers) as (server, metrics):
        async with opened(server) as websocket:
            await echo(websocket, "subscribe room")
            await websocket.send("publish room")
            assert await asyncio.wait_for(websocket.recv(), PATIENCE) == "published"
        await MetricsClient(server.url).get("/")
        await metrics.until_closed()
        text = (await metrics.get("/metrics")).text
    # Of the app's metrics it would find that `app_level` has no unit, which is the app's business.
    lines = [line for line in text.splitlines() if not re.match(r"(# \w+ )?(app|python)_", line)]
    await asyncio.to_thread(check, "check", "metrics", text="\n".join(lines) + "\n")


parse: Any = parser.text_string_to_metric_families


async def test_openmetrics_is_valid() -> None:
    async with measured() as (server, metrics):
        async with opened(server) as websocket:
            await echo(websocket, "a")
        await metrics.until_closed()
        response = await metrics.get("/metrics", "application/openmetrics-text; version=1.0.0")
        names = {family.name for family in parse(response.text)}
        assert {
            "wsgate_messages",
            "wsgate_websockets",
            "app_echoes",
            "process_cpu_seconds",
        } <= names


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    async with running(APP, "--metrics", f"unix:{path}"):
        metrics = MetricsClient("http://metrics", str(path))
        assert (await metrics.get("/readyz")).text == "ready\n"
        assert (await metrics.scrape()).sum(f.WORKERS_TARGET.name) == 1
    # The socket of a server that was killed is replaced.
    async with running(APP, "--metrics", f"unix:{path}", "--workers", "2"):
        assert (await metrics.scrape()).sum(f.WORKERS_TARGET.name) == 2


@pytest.mark.parametrize("is_unix", [False, True], ids=["tcp", "unix"])
async def test_the_page_works_through_a_proxy_that_has_the_tls(
    is_unix: bool, tmp_path: Path
) -> None:
    path = str(tmp_path / "metrics.sock")
    where = f"unix:{path}" if is_unix else HERE[1]
    async with running(APP, "--metrics", where) as server:
        said = {"X-Forwarded-Proto": "https"}
        url, options = "ws://metrics.example/live", {"open_timeout": PATIENCE}

        def come(origin: str) -> Any:
            more: Any = {"origin": Origin(origin), "additional_headers": said, **options}
            if is_unix:
                return unix_connect(path, url, **more)
            return connect(url, host="127.0.0.1", port=port, proxy=None, **more)

        port = 0 if is_unix else int((await metrics_of(server)).url.rpartition(":")[2])
        async with come("https://metrics.example") as page:
            assert '"hello"' in str(await asyncio.wait_for(page.recv(), PATIENCE))
        for other in ("http://metrics.example", "https://evil.example"):
            with pytest.raises(InvalidStatus):
                await come(other)


@ONE_AND_TWO
async def test_an_address_that_is_in_use_is_one_line(workers: str) -> None:
    listening = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        options = ("--metrics", f"127.0.0.1:{port}", "--workers", workers, "--port", "0")
        async with started(APP, *options) as server:
            assert await server.ended() != 0
            assert "address already in use" in server.log[-1].lower()
            assert f"--metrics 127.0.0.1:{port}: " in server.log[-1]
            assert "Traceback" not in server.text


async def test_without_the_option_there_is_nothing() -> None:
    async with running(APP) as server:
        assert (await MetricsClient(server.url).get("/metrics")).text.isdigit()  # the app's
        assert "Metrics on" not in server.text


# -- probes ----------------------------------------------------------------------------------------


async def ready_text(metrics: MetricsClient, status: int) -> str:
    """Return the text of the first answer of /readyz with a status."""
    async with asyncio.timeout(PATIENCE):
        while (response := await metrics.get("/readyz")).status_code != status:
            await pause(0.02)
    return response.text


@ONE_AND_TWO
async def test_readiness_follows_the_start_and_the_stop(workers: str, tmp_path: Path) -> None:
    (tmp_path / "starting").touch()
    options = (*HERE, "--port", "0", "--workers", workers, "--timeout-graceful-shutdown", "60")
    async with started(APP, *options, folder=tmp_path) as server:
        metrics = await metrics_of(server)
        assert await ready_text(metrics, 503) == "not ready: the server is starting\n"
        assert (await metrics.get("/healthz")).status_code == 200
        (tmp_path / "starting").unlink()
        assert await ready_text(metrics, 200) == "ready\n"
        await server.serves()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
        assert b" 200 " in await asyncio.wait_for(reader.readline(), PATIENCE)
        async with opened(server) as websocket:
            server.signal(signal.SIGTERM)
            assert await ready_text(metrics, 503) == "not ready: the server is stopping\n"
            assert (await metrics.get("/healthz")).status_code == 200
            await websocket.wait_closed()
        writer.close()
        assert await server.ended() == 0


async def test_readiness_while_the_broker_is_away() -> None:
    options = ("--topics", "redis://127.0.0.1:1", "--readyz-broker-grace", "0.1")
    async with measured(*options) as (_, metrics):
        text = await ready_text(metrics, 503)
        assert text.startswith("not ready: the broker of topics has been out of reach for ")
        assert (await metrics.scrape()).sum(f.BROKER_UP.name) == 0
