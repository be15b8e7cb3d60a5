"""What a scraper of the metrics' address gets, in tests."""

import asyncio
from collections.abc import Callable, Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.harness.processes import ServerProcess
from tests.harness.waiting import pause
from wsgate.metrics import families as f

PATIENCE = 60.0  # seconds for anything that other processes do on a loaded machine


class Scrape:
    """The series of one answer."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._values: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._values.setdefault(sample.name, []).append((sample.labels, sample.value))

    def sum(self, metric: str, **labels: str) -> float:
        """Return the sum of the series of a metric that have these labels."""
        values = self._values.get(metric, ())
        return sum(value for own, value in values if labels.items() <= own.items())

    def series(self, metric: str) -> dict[tuple[str, ...], float]:
        """Return the values of a metric by those of its labels."""
        return {tuple(own.values()): value for own, value in self._values.get(metric, ())}


class MetricsClient:
    """A client of the metrics' address.

    Args:
        url: Its address, such as http://127.0.0.1:9090.
        path: Of its Unix socket; None for TCP.
    """

    def __init__(self, url: str, path: str | None = None) -> None:
        self.url = url
        self._path = path

    async def get(self, path: str, accept: str = "*/*") -> httpx.Response:
        """Send a request."""
        transport = httpx.AsyncHTTPTransport(uds=self._path)
        async with httpx.AsyncClient(transport=transport, base_url=self.url) as client:
            return await client.get(path, headers={"accept": accept}, timeout=PATIENCE)

    async def scrape(self) -> Scrape:
        """Return the metrics."""
        response = await self.get("/metrics")
        assert response.status_code == 200, response.text
        return Scrape(response.text)

    async def until(self, condition: Callable[[Scrape], object]) -> Scrape:
        """Return the first metrics for which a condition is true."""
        async with asyncio.timeout(PATIENCE):
            while not condition(scrape := await self.scrape()):
                await pause(0.05)
        return scrape

    async def until_closed(self) -> Scrape:
        """Return the metrics once no WebSocket is open."""
        return await self.until(
            lambda now: (
                now.sum(f.OPENED.name) == now.sum(f.CLOSED.name) and not now.sum(f.WEBSOCKETS.name)
            )
        )


async def metrics_of(server: ServerProcess) -> MetricsClient:
    """Return a client of a server that was started with `--metrics 127.0.0.1:0`."""
    found = await server.logged(r"Metrics on (http://\S+)")
    return MetricsClient(found[1])
