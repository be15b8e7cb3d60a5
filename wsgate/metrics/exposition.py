"""Samples <-> prometheus-client: its registry is read, its formats are written."""

from collections.abc import Collection, Iterable, Iterator
from urllib.parse import parse_qs

from prometheus_client import REGISTRY, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from wsgate.metrics.samples import Samples


def read_registry() -> list[Samples]:
    """Return the samples of this process: its own, and those of the app."""
    return [
        Samples(
            one.name,
            one.type,
            one.documentation,
            one.unit,
            [(sample.name, sample.labels, float(sample.value)) for sample in one.samples],
        )
        for one in REGISTRY.collect()
    ]


class _Families(Collector):
    """What an encoder of prometheus-client takes: families of samples."""

    def __init__(self, families: Iterable[Samples], wanted: Collection[str]) -> None:
        self._families = families
        self._wanted = wanted

    def collect(self) -> Iterator[Metric]:
        """Yield the families of which something is wanted."""
        for family in self._families:
            metric = Metric(family.name, family.help, family.kind)
            metric.unit = family.unit  # not by the constructor, which may append it to the name
            for name, labels, value in family.values:
                if not self._wanted or name in self._wanted:
                    metric.add_sample(name, labels, value)
            if metric.samples or not self._wanted:
                yield metric


def expose(families: Iterable[Samples], accept: str, query: str = "") -> tuple[bytes, str]:
    """Return the text that a scraper gets, and its media type.

    Args:
        families: What is exposed.
        accept: The scraper's Accept header: it chooses between Prometheus text and OpenMetrics.
        query: Of the request: `name[]=...` chooses series, and may be there several times.
    """
    encode, media_type = choose_encoder(accept)
    return encode(_Families(families, parse_qs(query).get("name[]", ()))), media_type
