"""Samples <-> prometheus-client: its registry is read, its formats are written."""

from collections.abc import Callable, Collection, Iterable, Iterator
from urllib.parse import parse_qs

from prometheus_client import REGISTRY, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from wsgate import loggers
from wsgate.metrics.families import FAMILIES
from wsgate.metrics.samples import Labels, Samples

LONGEST_TEXT = 16_384  # characters of a sample or of a help text: what is longer fits into no part
_OURS = {family.name.removesuffix("_total") for family in FAMILIES}
_OURS = _OURS.union(*(family.series_names for family in FAMILIES))
_SHOWN = 200  # characters of a name in the log
_reported: set[str] = set()  # what was logged: a scrape would repeat it every few seconds


def read_registry() -> list[Samples]:
    """Return the samples of this process: its own, and those of the app.

    What the app has made wrong is left out, and the first of each kind is logged. A collector that
    fails ends the iteration of prometheus-client, so those that come after it are missing.
    """
    found: list[Samples] = []
    try:
        for metric in REGISTRY.collect():
            found += _read_usable(metric)
    except Exception as error:  # noqa: BLE001  # collectors are the app's
        text = "A collector of the app has failed: its metrics and those after it are missing"
        _report(text, exc_info=error)
    return found


def _read_usable(metric: Metric) -> list[Samples]:
    """Return the samples of a metric, nothing if it cannot be exposed."""
    try:
        if metric.name in _OURS:
            _report("The metric %r of the app has the name of one of wsgate: left out", metric.name)
            return []
        return [_read_metric(metric)]
    except Exception as error:  # noqa: BLE001  # what a collector yields is the app's, too
        _report("The app has a metric that cannot be exposed: it is left out", exc_info=error)
        return []


def _read_metric(metric: Metric) -> Samples:
    values: list[tuple[str, Labels, float]] = []
    for sample in metric.samples:
        labels = {name: _printable(value) for name, value in sample.labels.items()}
        if len(sample.name) + sum(map(len, labels.values())) > LONGEST_TEXT:
            _report(
                "The app has samples that are too long, such as one of %r: left out", sample.name
            )
        else:
            values.append((sample.name, labels, float(sample.value)))
    text = _printable(metric.documentation)[:LONGEST_TEXT]
    return Samples(metric.name, metric.type, text, metric.unit, values)


def _printable(text: str) -> str:
    """Return a text without surrogates, which UTF-8 does not have."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _report(text: str, *name: str, exc_info: Exception | None = None) -> None:
    """Log a fault of the app's metrics, the first of its kind only."""
    if text not in _reported:
        _reported.add(text)
        loggers.error.error(text, *(one[:_SHOWN] for one in name), exc_info=exc_info)


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
    encode, media_type = _choose_encoder(accept)
    return encode(_Families(families, parse_qs(query).get("name[]", ()))), media_type


def _choose_encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """Return an encoder and its media type; for a version that is no number, that of any scraper.

    prometheus-client puts the version into the media type, which is ASCII.
    """
    try:
        return choose_encoder(accept.encode("ascii", "ignore").decode())
    except TypeError:
        return choose_encoder("")
