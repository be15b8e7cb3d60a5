"""The meters of a process: the optional library, and what the samples of a worker consist of."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import Counter

from tests.harness.memory import opened
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.metrics import families as f
from wsgate.metrics.exposition import read_registry
from wsgate.metrics.samples import Samples
from wsgate.process.metering import (
    make_meter,
    make_worker_samples,
    read_samples,
    read_server_samples,
)

APP = Counter("tests_metering_app_total", "Counted by an app of the tests.")
METRICS = Config(metrics="127.0.0.1:9400")
make = pytest.mark.parametrize("make", [make_meter, make_worker_samples])
Make = Callable[[Config], Any]


def number(samples: list[Samples], name: str) -> float:
    """Return the value of the only series of a name."""
    (found,) = [value for one in samples for own, _, value in one.values if own == name]
    return found


def states(samples: list[Samples]) -> dict[str, float]:
    """Return the number of workers in each state."""
    (found,) = [one.values for one in samples if one.name == f.WORKERS.name]
    return {labels["state"]: value for _, labels, value in found}


@make
def test_there_is_none_without_an_address(make: Make) -> None:
    assert make(Config()) is None
    assert make(METRICS) is not None


@make
def test_a_missing_library_is_an_error_of_the_setting(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "wsgate.metrics.exposition", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'wsgate\[metrics\]'") as caught:
        make(METRICS)
    assert caught.value.setting == "metrics"
    assert make(Config()) is None


async def test_the_samples_of_a_server_without_workers_have_all_states() -> None:
    meter = make_meter(METRICS)
    assert meter is not None
    async with opened() as ws:
        ws.client.worker.count_with(meter)
        samples = await read_server_samples(ws.client.worker, meter, "ready")
        assert states(samples) == {"starting": 0, "ready": 1, "stopping": 0}
        assert number(samples, f.WORKERS_TARGET.name) == 1
        assert number(samples, f.WEBSOCKETS.name) == 0


async def test_the_samples_of_a_worker_include_those_of_the_app() -> None:
    meter = make_meter(METRICS)
    assert meter is not None
    before = number(read_registry(), "tests_metering_app_total")
    APP.inc(3)
    async with opened() as ws:
        ws.client.worker.count_with(meter)
        samples = await read_samples(ws.client.worker, meter)
        assert number(samples, f.CONNECTIONS.name) == 1
        assert number(samples, f.WEBSOCKETS.name) == 0
        assert number(samples, "tests_metering_app_total") == before + 3
