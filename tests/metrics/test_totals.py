"""How the samples of several processes become those of one."""

from wsgate.metrics import families as f
from wsgate.metrics.samples import Samples, samples_of
from wsgate.metrics.totals import Totals


def counter(value: float, name: str = "app_things", **labels: str) -> Samples:
    return Samples(name, "counter", "Things.", "", [(f"{name}_total", labels, value)])


def values_of(totals: Totals) -> list[tuple[str, dict[str, str], float]]:
    return [value for family in totals.families() for value in family.values]


def test_counters_are_added_by_their_labels() -> None:
    totals = Totals()
    for worker, value in ((1, 1.0), (2, 10.0)):
        totals.add([counter(value, kind="a")], worker)
    totals.add([counter(100.0, kind="b")], 2)
    totals.add_ended([counter(1000.0, kind="a")])
    assert values_of(totals) == [
        ("app_things_total", {"kind": "a"}, 1011.0),
        ("app_things_total", {"kind": "b"}, 100.0),
    ]


def test_the_first_creation_of_a_series_counts() -> None:
    totals = Totals()
    for worker, created in ((1, 300.0), (2, 200.0)):
        values = [("x_total", dict[str, str](), 1.0), ("x_created", dict[str, str](), created)]
        totals.add([Samples("x", "counter", "X.", "", values)], worker)
    assert values_of(totals) == [("x_total", {}, 2.0), ("x_created", {}, 200.0)]


def test_gauges_get_the_number_of_their_worker_and_end_with_it() -> None:
    totals = Totals()
    for worker in (1, 2):
        totals.add([samples_of(f.WEBSOCKETS, [({}, 5.0 * worker)])], worker)
        totals.add([Samples("level", "gauge", "L.", "", [("level", {"of": "a"}, 3.0)])], worker)
    totals.add_ended([samples_of(f.WEBSOCKETS, [({}, 99.0)])])
    assert values_of(totals) == [
        ("wsgate_websockets", {"worker": "1"}, 5.0),
        ("wsgate_websockets", {"worker": "2"}, 10.0),
        ("level", {"worker": "1", "of": "a"}, 3.0),
        ("level", {"worker": "2", "of": "a"}, 3.0),
    ]


def test_a_counter_of_the_process_and_a_histogram_by_worker_are_not_added() -> None:
    totals = Totals()
    lag = Samples(f.LAG.name, "histogram", f.LAG.help, "", [(f"{f.LAG.name}_count", {}, 4.0)])
    for worker in (0, 1):
        totals.add([counter(2.0, "process_cpu_seconds"), lag], worker)
    totals.add_ended([counter(2.0, "process_cpu_seconds"), lag])
    assert values_of(totals) == [
        (name, {"worker": worker}, value)
        for name, value in (("process_cpu_seconds_total", 2.0), (f"{f.LAG.name}_count", 4.0))
        for worker in ("0", "1")
    ]


def test_two_apps_with_one_name_for_two_kinds_do_not_mix() -> None:
    totals = Totals()
    totals.add([Samples("x", "gauge", "X.", "", [("x", {}, 1.0)])], 1)
    totals.add([counter(5.0, "x")], 2)
    assert values_of(totals) == [("x", {"worker": "1"}, 1.0)]
