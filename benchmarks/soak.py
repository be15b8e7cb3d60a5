"""Soak a server with workers: its metrics are exactly what the clients have counted.

    python -m benchmarks.soak [--connections 5000] [--seconds 600] [--restarts 2]

Clients echo and publish at random moments; between two periods all workers are replaced, which
closes every WebSocket with 1012, and the clients connect again. At the end of each period the
clients pause until nothing is under way. Then each counter of the server must be exactly what the
clients counted since the start. The exit status is 1 if one is not.
"""

import argparse
import asyncio
import contextlib
import random
import re
import resource
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.jitter_connection import Connection, connect
from benchmarks.soak_app import PUBLISH

WORKERS = 2
ROOM_SIZE = 50  # clients in a room
PUBLISHERS = 0.05  # the part of the texts that are published
REQUESTS = 5.0  # HTTP requests a second
RECONNECT_SECONDS = 3.0  # random delay of a client after 1012
START_SECONDS = 60.0
SETTLE_SECONDS = 120.0
RESTART_SECONDS = 300.0
OPENING = 100  # connections that are opened at the same time
STEP = 0.1
_ROOT = Path(__file__).parents[1]
_GOING_AWAY = 1001
_MESSAGES, _BYTES = "wsgate_messages_total", "wsgate_message_bytes_total"
_SIZES = (1, 15, 16, 17, 60, 100)  # characters of a text


@dataclass(frozen=True)
class Plan:
    """What to do. pause: mean seconds between two texts of a client."""

    connections: int = 5000
    seconds: float = 600.0
    restarts: int = 2
    pause: float = 10.0


class Tally:
    """What the clients counted.

    opened: handshakes. closed: ends by code, 1006 for a reset. sent, received: texts by direction
    as the clients see it, and their bytes. published: those that the app publishes. requests: HTTP
    requests that were answered.
    """

    def __init__(self) -> None:
        self.opened = 0
        self.closed: Counter[int] = Counter()
        self.sent = self.sent_bytes = 0
        self.received = self.received_bytes = 0
        self.published = 0
        self.requests = 0

    def count_received(self, text: str) -> None:
        """Count a text of the server."""
        self.received += 1
        self.received_bytes += len(text)


class Client:
    """One client, which connects again after 1012."""

    def __init__(self, number: int, port: int, tally: Tally) -> None:
        self._path = f"/soak?room=room-{number // ROOM_SIZE}"
        self._port = port
        self._tally = tally
        self._subscribed = asyncio.Event()
        self.connection: Connection | None = None

    async def open(self) -> None:
        """Connect, and wait until it is in its room, or is closed before by a worker that stops."""
        self._subscribed.clear()
        # A handshake that is given up counts for the server and not for the client: never give up.
        self.connection = await connect(self._port, self._path, self._take, SETTLE_SECONDS)
        self._tally.opened += 1
        subscribed = asyncio.create_task(self._subscribed.wait())
        ends = (subscribed, self.connection.ended)
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        subscribed.cancel()

    def _take(self, text: str) -> None:
        self._tally.count_received(text)
        self._subscribed.set()

    def send(self) -> None:
        """Send a text."""
        text = "x" * random.choice(_SIZES)  # no secret
        if random.random() < PUBLISHERS:
            text = PUBLISH + text
            self._tally.published += 1
        assert self.connection is not None  # it is open
        self.connection.send(text)
        self._tally.sent += 1
        self._tally.sent_bytes += len(text)

    async def stay(self) -> None:
        """Connect again after each 1012: a restart may close a client once for each worker."""
        while True:
            assert self.connection is not None  # it was opened
            await asyncio.shield(self.connection.ended)  # `end` waits for it, too
            self._subscribed.clear()
            self._tally.closed[self.connection.close_code] += 1
            await asyncio.sleep(random.uniform(0, RECONNECT_SECONDS))
            await self.open()

    async def wait_until_open(self) -> None:
        """Wait until it is in its room again."""
        await self._subscribed.wait()

    async def end(self, *, cleanly: bool) -> None:
        """Close the connection, or reset it."""
        assert self.connection is not None
        if cleanly:
            self.connection.close(_GOING_AWAY)
            await self.connection.ended
            self._tally.closed[_GOING_AWAY] += 1
        else:
            self.connection.reset()
            self._tally.closed[1006] += 1


class Metrics:
    """The server's metrics at one moment."""

    def __init__(self, text: str) -> None:
        self._values: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._values.setdefault(sample.name, []).append((sample.labels, sample.value))

    def sum(self, name: str, **labels: str) -> int:
        """Return the sum of the series with these labels."""
        found = self._values.get(name, ())
        return int(sum(value for own, value in found if labels.items() <= own.items()))


class Server:
    """The server under test, in processes of its own."""

    def __init__(self, process: asyncio.subprocess.Process, control: str) -> None:
        self._process = process
        self._control = control
        self.port = 0
        self.metrics_url = ""

    async def wait_until_ready(self) -> None:
        """Read the addresses from its log."""
        assert self._process.stdout is not None  # a pipe
        async with asyncio.timeout(START_SECONDS):
            while not (self.port and self.metrics_url):
                line = (await self._process.stdout.readline()).decode()
                if found := re.search(r"Metrics on (http://\S+)", line):
                    self.metrics_url = found[1]
                elif found := re.search(r"running on http://[^:]+:(\d+)", line):
                    self.port = int(found[1])
                elif not line:
                    raise RuntimeError("the server has ended")

    async def metrics(self) -> Metrics:
        """Ask for the metrics."""
        return Metrics(await asyncio.to_thread(_get, f"{self.metrics_url}/metrics"))

    async def restart(self) -> None:
        """Replace all workers."""
        command = ("-m", "wsgate", "ctl", "--socket", self._control, "restart", "--wait")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *command),
            cwd=_ROOT,
            stdout=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(RESTART_SECONDS):
            if await process.wait():
                raise RuntimeError("the restart has failed")


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as response:  # our own server
        return str(response.read().decode())


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Server]:
    """Run the server, and end it."""
    with tempfile.TemporaryDirectory() as folder:
        control = str(Path(folder) / "control.sock")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "wsgate", "benchmarks.soak_app:app", "--port", "0"),
            *("--workers", str(WORKERS), "--metrics", "127.0.0.1:0", "--control-socket", control),
            *("--no-access-log", "--backlog", "8192", "--ws-ping-interval", "20"),
            cwd=_ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        server = Server(process, control)
        try:
            await server.wait_until_ready()
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.communicate()


class Soak:
    """The clients, and their comparison with the server.

    Args:
        server: The server.
        plan: What to do.

    Attributes:
        tally: What the clients counted.
        differences: The counters that were not equal, as lines.
    """

    def __init__(self, server: Server, plan: Plan) -> None:
        self._server = server
        self._plan = plan
        self.tally = Tally()
        self.differences: list[str] = []
        self._clients = [
            Client(number, server.port, self.tally) for number in range(plan.connections)
        ]
        self._opening = asyncio.Semaphore(OPENING)

    async def run(self) -> None:
        """Do what is planned."""
        await self._open_all()
        async with asyncio.TaskGroup() as group:  # a client that fails ends the soak
            staying = [group.create_task(client.stay()) for client in self._clients]
            for period in range(self._plan.restarts + 1):
                if period:
                    await self._restart()
                await self._send(self._plan.seconds / (self._plan.restarts + 1))
                await self._compare(f"after period {period + 1}")
            for task in staying:
                task.cancel()
        await self._end()
        await self._compare("at the end")

    async def _open_all(self) -> None:
        async def open_one(client: Client) -> None:
            async with self._opening:
                await client.open()

        await asyncio.gather(*(open_one(client) for client in self._clients))

    async def _restart(self) -> None:
        await self._server.restart()
        async with asyncio.timeout(SETTLE_SECONDS):  # the last ones close their clients
            while await self._has_stopping_workers():  # noqa: ASYNC110  # other processes end
                await asyncio.sleep(STEP)
            for client in self._clients:
                await client.wait_until_open()

    async def _has_stopping_workers(self) -> bool:
        metrics = await self._server.metrics()
        return metrics.sum("wsgate_workers", state="stopping") > 0

    async def _send(self, seconds: float) -> None:
        """Have the clients send for a while, in random order, at their mean rate."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        rate = len(self._clients) / self._plan.pause
        texts = requests = 0.0  # that are due
        while (left := until - loop.time()) > 0:
            await asyncio.sleep(min(STEP, left))
            texts += rate * STEP
            requests += REQUESTS * STEP
            for client in random.choices(self._clients, k=int(texts)):
                client.send()
            texts -= int(texts)
            while requests >= 1:
                await asyncio.to_thread(_get, f"http://127.0.0.1:{self._server.port}/")
                self.tally.requests += 1
                requests -= 1

    async def _end(self) -> None:
        """End the connections: three of four by a Close frame, the others by a reset."""
        for number, client in enumerate(self._clients):
            await client.end(cleanly=number % 4 > 0)

    async def _compare(self, when: str) -> None:
        """Wait until nothing is under way, and compare all counters."""
        loop = asyncio.get_running_loop()
        until = loop.time() + SETTLE_SECONDS
        rows = rows_of(await self._server.metrics(), self.tally)
        while any(server != ours for _, server, ours in rows) and loop.time() < until:
            await asyncio.sleep(STEP)
            rows = rows_of(await self._server.metrics(), self.tally)
        _print(f"{when}:")
        for name, server, ours in rows:
            _print(f"  {name:40} server {server:>12,}  clients {ours:>12,}")
            if server != ours:
                self.differences.append(f"{when}: {name}: {server} is not {ours}")


def rows_of(metrics: Metrics, tally: Tally) -> list[tuple[str, int, int]]:
    """Return the counters: name, the server's, the clients'."""
    closed = sum(tally.closed.values())
    rows = [
        ("WebSockets opened", metrics.sum("wsgate_websockets_opened_total"), tally.opened),
        ("open", metrics.sum("wsgate_websockets"), tally.opened - closed),
        ("messages received", metrics.sum(_MESSAGES, direction="received"), tally.sent),
        ("messages sent", metrics.sum(_MESSAGES, direction="sent"), tally.received),
        ("bytes received", metrics.sum(_BYTES, direction="received"), tally.sent_bytes),
        ("bytes sent", metrics.sum(_BYTES, direction="sent"), tally.received_bytes),
        ("published", metrics.sum("wsgate_topic_publishes_total"), tally.published),
        ("HTTP requests", metrics.sum("wsgate_http_requests_total", status="2xx"), tally.requests),
    ]
    for code in (1001, 1006, 1012):
        server = metrics.sum("wsgate_websockets_closed_total", code=str(code))
        rows.append((f"closed with {code}", server, tally.closed[code]))
    return rows


def _print(line: str) -> None:
    print(line, flush=True)  # the result


async def soak(plan: Plan) -> Sequence[str]:
    """Soak a server; return what was not equal."""
    async with running() as server:
        soaking = Soak(server, plan)
        await soaking.run()
        return soaking.differences


def main() -> int:
    """Soak a server; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    plan = Plan()
    parser.add_argument("--connections", type=int, default=plan.connections)
    parser.add_argument("--seconds", type=float, default=plan.seconds)
    parser.add_argument("--restarts", type=int, default=plan.restarts)
    parser.add_argument("--pause", type=float, default=plan.pause, help="between texts of a client")
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    differences = asyncio.run(soak(Plan(**vars(arguments))))
    for line in differences:
        _print(f"DIFFERENT {line}")
    _print("not equal" if differences else "all equal")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
