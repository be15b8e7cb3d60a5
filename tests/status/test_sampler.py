"""What a sample has, and what is kept from one to the next."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest

from tests.status.conftest import FakeSource
from wsgate.metrics.samples import Samples
from wsgate.status import sampler as module
from wsgate.status.sampler import SHOWN, Sampler
from wsgate.status.source import Part


@pytest.fixture(autouse=True)
def _always_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARED_SECONDS", 0.0)


@pytest.fixture
def sampler(source: FakeSource) -> Sampler:
    return Sampler(source, 30.0)


async def test_it_has_the_state_and_the_series(sampler: Sampler, source: FakeSource) -> None:
    values: list[tuple[str, dict[str, str], float]] = [
        ("wsgate_websockets", {"worker": "1"}, 3.0),
        ("other", {}, 1.0),
    ]
    source.set_metrics([Samples("wsgate_websockets", "gauge", "W.", "", values)])
    sample, latest = await sampler.sample(0)
    assert latest == 0
    assert (sample["state"], sample["ready"], sample["reasons"]) == ("ready", True, [])
    assert sample["workers"] == [source.worker(number=1, pid=7)]
    assert set(sample["series"]) == set(SHOWN)
    assert sample["series"]["wsgate_websockets"] == [({"worker": "1"}, 3.0)]


async def test_samples_go_on_while_metrics_are_refused(
    sampler: Sampler, source: FakeSource
) -> None:
    del source.answers["metrics"]
    for _ in range(2):
        sample, _ = await sampler.sample(0)
        assert (sample["state"], sample["series"], sample["closes"]) == ("ready", {}, [])
    assert [command for command, _ in source.asked].count("status") == 2


async def test_topics_of_all_workers_are_one_list(sampler: Sampler, source: FakeSource) -> None:
    def part(worker: int, *topics: tuple[str, float, float]) -> Part:
        rows = [
            {"topic": name, "publishes": published, "deliveries": delivered, "subscribers": 2}
            for name, published, delivered in topics
        ]
        slow = [{"id": f"{worker}-{size}", "unsent_bytes": size} for size in (worker, 5)]
        return {"worker": worker, "number": 0, "closes": [], "topics": rows, "slow": slow}

    source.answers["live"] = [part(7, ("a", 2.0, 9.0), ("b", 1.0, 4.0)), part(8, ("b", 1.5, 8.0))]
    sample, _ = await sampler.sample(0)
    assert sample["topics"] == [
        {"topic": "b", "publishes": 1.5, "deliveries": 12.0, "subscribers": 4},
        {"topic": "a", "publishes": 2.0, "deliveries": 9.0, "subscribers": 2},
    ]
    assert [one["unsent_bytes"] for one in sample["slow"]] == [8, 7, 5, 5]


async def test_workers_that_have_ended_are_forgotten(sampler: Sampler, source: FakeSource) -> None:
    for pid in range(7, 100):
        source.answers["status"][0]["workers"] = [source.worker(number=1, pid=pid)]
        source.answers["live"] = [ended(pid)]
        await sampler.sample(0)
    since = [arguments["since"] for command, arguments in source.asked if command == "live"]
    assert [*map(len, since)] == [0] * len(since)
    await sampler.sample(0)
    assert source.asked[-1] == ("live", {"since": {"99": 1}})


def ended(pid: int) -> dict[str, Any]:
    close = {"at": float(pid), "worker": pid, "code": 1000}
    return {"worker": pid, "number": 1, "closes": [close], "topics": [], "slow": []}


class PausedSource(FakeSource):
    """Waits within its first answer to `live`; sends closes to those that do not know them."""

    def __init__(self) -> None:
        super().__init__()
        self.is_paused = asyncio.Event()

    async def ask(self, command: str, arguments: Mapping[str, Any]) -> AsyncGenerator[Part]:
        async for part in super().ask(command, arguments):
            if command == "live" and str(part["worker"]) in arguments["since"]:
                part["closes"] = []
            yield part
            if command == "live" and not self.is_paused.is_set():
                self.is_paused.set()
                await asyncio.Event().wait()


async def test_a_page_that_is_closed_meanwhile_takes_no_closes_with_it() -> None:
    source = PausedSource()
    source.answers["live"][0] |= {"number": 1, "closes": [{"at": 1.0, "worker": 7}]}
    sampler = Sampler(source, 30.0)
    first = asyncio.create_task(sampler.sample(0))
    await asyncio.wait_for(source.is_paused.wait(), 10.0)
    first.cancel()
    await asyncio.wait([first])
    sample, _ = await sampler.sample(0)
    assert sample["closes"] == [{"at": 1.0, "worker": 7}]
