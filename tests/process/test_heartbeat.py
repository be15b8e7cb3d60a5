"""A worker's sign that its event loop runs."""

import asyncio
from typing import Any

import pytest

from tests.harness.waiting import until
from wsgate.process.heartbeat import Heartbeat, interval_of


class Beats:
    """A row that keeps what is reported: by how many seconds each beat was late."""

    def __init__(self) -> None:
        self.lags: list[float] = []

    def report_beat(self, lag: float) -> None:
        self.lags.append(lag)

    def report_broker(self, away_since: float | None) -> None:
        assert away_since == 5.0


@pytest.mark.parametrize(("timeout", "interval"), [(0.1, 0.05), (1.0, 0.25), (5.0, 1.0), (60, 1.0)])
def test_several_beats_fit_into_the_timeout(timeout: float, interval: float) -> None:
    assert interval_of(timeout) == interval


async def test_it_beats_until_it_is_stopped() -> None:
    row: Any = Beats()
    heart = Heartbeat(row, 0.001, lambda: 5.0)
    heart.start()
    assert len(row.lags) == 1
    await until(lambda: len(row.lags) > 3)
    heart.stop()
    heart.stop()
    count = len(row.lags)
    await asyncio.wait([asyncio.create_task(asyncio.Event().wait())], timeout=0.02)
    assert len(row.lags) == count
    assert min(row.lags) >= 0.0
