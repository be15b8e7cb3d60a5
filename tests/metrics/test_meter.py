"""What a meter counts, and the text that a scraper gets."""

from collections.abc import Iterable

import pytest
from prometheus_client import Counter as AppCounter
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from wsgate.errors import Refusal
from wsgate.metrics import families as f
from wsgate.metrics.exposition import expose, read_registry
from wsgate.metrics.meter import MOST_CODES, RECENT, Meter
from wsgate.metrics.readings import Readings
from wsgate.metrics.samples import Samples
from wsgate.metrics.supervisor_meter import SupervisorMeter
from wsgate.metrics.totals import Totals
from wsgate.observe.causes import Cause
from wsgate.observe.events import (
    HandshakeRefused,
    RequestDone,
    ServerStarted,
    WebSocketClosed,
    WebSocketOpened,
)
from wsgate.server.message_meter import PlainMessageMeter

# As docs/reference/metrics.md has them: dashboards and alerts depend on them.
LABELS_OF_REFUSALS = {
    *("origin", "version", "malformed", "limit", "stopping"),
    *("app_refused", "app_failed", "app_timeout"),
}
APP = AppCounter("tests_meter_app_total", "Counted by an app of the tests.", ["kind"])


@pytest.fixture
def meter() -> Meter:
    meter = Meter(lambda: 1234.5)
    meter.messages = PlainMessageMeter()
    return meter


def closed(code: int = 1000, cause: Cause = Cause.CLIENT_CLOSED) -> WebSocketClosed:
    return WebSocketClosed(None, b"/chat", code, "", cause, "", 5.0, 1, 2, 3, 4, 0)


def value(samples: Iterable[Samples], name: str, **labels: str) -> float:
    """Return the value of one series, 0 without it."""
    found = [
        number
        for family in samples
        for one, own, number in family.values
        if one == name and labels.items() <= own.items()
    ]
    assert len(found) < 2
    return sum(found)


def test_websockets_are_counted(meter: Meter) -> None:
    for reconnect in (None, None, "12-abcd-1"):
        meter.take(WebSocketOpened(None, b"/", reconnect=reconnect))
    meter.take(closed())
    meter.take(closed(1006, Cause.PING_TIMEOUT))
    samples = meter.samples(Readings())
    opened, ended = f.OPENED.name, f.CLOSED.name
    assert value(samples, opened, reconnect="false") == 2
    assert value(samples, opened, reconnect="true") == 1
    assert value(samples, ended, code="1000", cause="client_closed", initiator="client") == 1
    assert value(samples, ended, code="1006", cause="ping_timeout", initiator="server") == 1
    assert value(samples, f.WEBSOCKETS.name) == 1
    assert value(samples, f"{f.DURATION.name}_sum") == 10.0
    assert [(one.number, one.at) for one in meter.ended] == [(1, 1234.5), (2, 1234.5)]


def test_each_cause_has_a_series_before_it_happens(meter: Meter) -> None:
    found = {
        (labels["cause"], labels["code"], labels["initiator"]): number
        for family in meter.samples(Readings())
        for name, labels, number in family.values
        if name == f.CLOSED.name
    }
    assert {cause for cause, *_ in found} == {cause.value for cause in Cause}
    assert {("app_failed", "1011", "app"), ("slow_consumer", "1013", "server")} <= set(found)
    assert set(found.values()) == {0.0}


def test_the_latest_ends_are_kept_only(meter: Meter) -> None:
    for _ in range(RECENT + 5):
        meter.take(closed())
    assert [meter.ended[0].number, meter.ended[-1].number] == [6, RECENT + 5]


def test_codes_of_clients_do_not_make_series_without_end(meter: Meter) -> None:
    for code in (1002, *range(3000, 4000), 1003, 3000):
        meter.take(closed(code))
    samples = meter.samples(Readings())
    codes = [
        labels["code"]
        for family in samples
        for name, labels, _ in family.values
        if name == f.CLOSED.name
    ]
    of_clients = {code for code in codes if code == "other" or int(code) >= 3000}
    assert len(of_clients) == MOST_CODES + 1
    assert value(samples, f.CLOSED.name, code="other") == 1000 - MOST_CODES
    assert value(samples, f.CLOSED.name, code="3000") == 2


def test_refused_handshakes_are_counted_by_the_kind_of_reason(meter: Meter) -> None:
    for refusal in Refusal:
        meter.take(HandshakeRefused(None, b"/", 403, "a text that may change", refusal))
    meter.take(HandshakeRefused(None, b"/", 503, "", Refusal.LIMIT))
    samples = meter.samples(Readings())
    found = {
        reason: value(samples, f.HANDSHAKES_REFUSED.name, status="403", reason=reason)
        for reason in LABELS_OF_REFUSALS
    }
    assert found == dict.fromkeys(LABELS_OF_REFUSALS, 1)
    assert value(samples, f.HANDSHAKES_REFUSED.name, status="503", reason="limit") == 1


def test_requests_are_counted_by_method_and_class(meter: Meter) -> None:
    for method, status in (("GET", 200), ("GET", 204), ("POST", 500), ("MADE-UP", 404)):
        for _ in range(2):
            meter.take(RequestDone(None, method, b"/", "1.1", status, duration=0.5, sent_bytes=10))
    samples = meter.samples(Readings())
    assert value(samples, f.HTTP_REQUESTS.name, method="GET", status="2xx") == 4
    assert value(samples, f.HTTP_REQUESTS.name, method="POST", status="5xx") == 2
    assert value(samples, f.HTTP_REQUESTS.name, method="other", status="4xx") == 2
    assert value(samples, f"{f.HTTP_TIME.name}_sum") == 4.0
    assert value(samples, f.HTTP_BYTES.name) == 80


def test_other_events_are_nothing_to_count(meter: Meter) -> None:
    before = meter.samples(Readings())
    meter.take(ServerStarted(("http://127.0.0.1:8000",)))
    assert meter.samples(Readings()) == before


def test_messages_and_times_are_in_buckets(meter: Meter) -> None:
    meter.messages.record_sent("abc", 5)
    meter.count_delivery("room", bytes(100), 2)
    meter.tick(0.02, 10.0)
    meter.count_round_trip(0.3)
    meter.count_drain(100.0)
    meter.count_bad_request(431)
    samples = meter.samples(Readings())
    assert value(samples, f.MESSAGES.name, direction="sent") == 7
    assert value(samples, f.MESSAGE_BYTES.name, direction="sent") == 215
    size = f"{f.MESSAGE_SIZE.name}_bucket"
    buckets = [value(samples, size, direction="sent", le=le) for le in ("16.0", "64.0", "256.0")]
    assert buckets == [5, 5, 7]
    assert value(samples, size, direction="sent", le="+Inf") == 7
    assert value(samples, f"{f.LAG.name}_bucket", le="0.025") == 1
    assert value(samples, f"{f.ROUND_TRIP.name}_bucket", le="0.25") == 0
    assert value(samples, f"{f.DRAIN.name}_bucket", le="10.0") == 0
    assert value(samples, f"{f.DRAIN.name}_count") == 1
    assert value(samples, f.BAD_REQUESTS.name, status="431") == 1


def test_each_family_of_the_table_is_exposed_and_no_other(meter: Meter) -> None:
    meter.take(HandshakeRefused(None, b"/", 403, "x", Refusal.ORIGIN))
    meter.take(RequestDone(None, "GET", b"/", "1.1", 200))
    meter.take(closed())
    meter.count_bad_request(400)
    readings = Readings()
    pushed = {one.name for one in meter.samples(Readings())}
    for family in f.WORKER_FAMILIES:
        if family.name.removesuffix("_total") not in pushed:
            labels = {label: "x" for label in family.labels if label != f.WORKER}
            readings.set(family, 1.0, **labels)
    totals = Totals()
    totals.add(meter.samples(readings), 1)
    supervisor = SupervisorMeter()
    supervisor.count_end("killed", None)
    supervisor.count_end("replaced", 0.3)
    text, _ = expose([*totals.families(), *supervisor.samples()], "")
    found: dict[str, set[str]] = {}
    for one in text_string_to_metric_families(text.decode()):
        for sample in one.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    expected: dict[str, set[str]] = {}
    for family in (*f.WORKER_FAMILIES, f.RESTARTS, f.STOP_TIME):
        parts = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
        for part in parts:
            expected[family.name + part] = {*family.labels, *(["le"] if part == "_bucket" else [])}
    assert found == expected


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=1.0.0,text/plain", "application/openmetrics-text"),
    ],
)
def test_the_scraper_chooses_the_format(meter: Meter, accept: str, media_type: str) -> None:
    APP.labels('a "quoted"\nkind').inc(3)
    text, found = expose([*meter.samples(Readings()), *read_registry()], accept)
    assert found.startswith(media_type)
    is_open = "openmetrics" in found
    parse = openmetrics_families if is_open else text_string_to_metric_families
    samples = [sample for one in parse(text.decode()) for sample in one.samples]
    assert next(one.value for one in samples if one.labels.get("kind") == 'a "quoted"\nkind') >= 3
    assert text.endswith(b"# EOF\n") is is_open


def test_a_scraper_may_choose_series(meter: Meter) -> None:
    query = "name[]=wsgate_messages_total&name%5B%5D=wsgate_websockets"
    text, _ = expose(meter.samples(Readings()), "", query)
    names = {
        sample.name
        for one in text_string_to_metric_families(text.decode())
        for sample in one.samples
    }
    assert names == {"wsgate_messages_total", "wsgate_websockets"}
