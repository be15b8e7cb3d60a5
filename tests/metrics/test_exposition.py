"""What prometheus-client's registry has, also what an app has made wrong in it; and the formats."""

import json
import logging
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from wsgate.metrics import exposition
from wsgate.metrics.exposition import expose, read_registry
from wsgate.metrics.samples import LARGEST_PART, Samples, json_parts


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """Replace the app's registry by an empty one; nothing was logged so far."""
    registry = CollectorRegistry()
    monkeypatch.setattr(exposition, "REGISTRY", registry)
    monkeypatch.setattr(exposition, "_reported", set())
    return registry


class Yielding(Collector):
    """A collector of an app. produce: yields its metrics."""

    def __init__(self, produce: Callable[[], Iterator[Metric]]) -> None:
        self._produce = produce

    def collect(self) -> Iterator[Metric]:
        return self._produce()

    def describe(self) -> list[Metric]:
        return []


def names() -> list[str]:
    return [family.name for family in read_registry()]


def test_a_collector_that_fails_keeps_what_came_before(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Iterator[Metric]:
        yield GaugeMetricFamily("half", "X.", value=1)
        raise RuntimeError("a bug")

    Counter("first", "X.", registry=registry)
    registry.register(Yielding(fail))
    assert names() == names() == ["first", "half"]
    assert len(caplog.records) == 1  # a scrape repeats it
    assert "a bug" in caplog.text


@pytest.mark.parametrize("value", ["word", None, 10**400])
def test_a_value_that_is_no_number_is_left_out(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, value: object
) -> None:
    def produce() -> Iterator[Metric]:
        bad = Metric("bad", "X.", "gauge")
        bad.add_sample("bad", {}, value)  # type: ignore[arg-type]  # as an app may
        yield bad

    registry.register(Yielding(produce))
    Gauge("good", "X.", registry=registry)
    assert names() == ["good"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_label_that_is_no_text_is_left_out(registry: CollectorRegistry) -> None:
    def produce() -> Iterator[Metric]:
        bad = GaugeMetricFamily("bad", "X.", labels=["who"])
        bad.add_metric([None], 1.0)  # type: ignore[list-item]  # as an app may
        yield bad

    registry.register(Yielding(produce))
    assert names() == []


@pytest.mark.parametrize(
    "name", ["wsgate_websockets", "wsgate_workers", "wsgate_message_size_bytes_count"]
)
def test_the_names_of_wsgate_are_its_own(registry: CollectorRegistry, name: str) -> None:
    Gauge(name, "X.", registry=registry)
    Counter("wsgate_websockets_opened", "X.", registry=registry)
    Gauge("wsgate_plugin", "X.", registry=registry)
    assert names() == ["wsgate_plugin"]


def test_surrogates_are_replaced(registry: CollectorRegistry) -> None:
    Gauge("x", "\udc80", ["who"], registry=registry).labels("\xe9\ud800").set(1)
    text, _ = expose(read_registry(), "")
    assert text.decode() == '# HELP x ?\n# TYPE x gauge\nx{who="\xe9?"} 1.0\n'


@pytest.mark.parametrize("character", ["x", "\u20ac", "\U0001f600"])
def test_no_text_is_too_long_for_a_part(registry: CollectorRegistry, character: str) -> None:
    gauge = Gauge("x", character * 2**20, ["who"], registry=registry)
    gauge.labels("short").set(1)
    gauge.labels(character * 2**20).set(1)
    found = read_registry()
    assert [labels for _, labels, _ in found[0].values] == [{"who": "short"}]
    assert max(len(json.dumps(part)) for part in json_parts(found)) < 2 * LARGEST_PART


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=abc",
        "text/plain; version=x.y",
        "application/openmetrics-text; version=1.0.0.\xe9",
        ",,;=,",
        "",
    ],
)
def test_an_odd_accept_header_gets_an_answer(accept: str) -> None:
    text, media_type = expose([Samples("x", "gauge", "X.", "", [("x", {}, 1.0)])], accept)
    assert b"\nx 1.0\n" in text
    assert media_type.encode("ascii").startswith((b"text/plain", b"application/openmetrics-text"))
