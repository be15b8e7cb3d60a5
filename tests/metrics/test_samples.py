"""Samples as data, and how those of several processes become one."""

import json

from hypothesis import given, strategies as st

from wsgate.metrics import families as f
from wsgate.metrics.samples import LARGEST_PART, Samples, Totals, parts_of, read_part
from wsgate.metrics.state import samples_of

NAMES = st.sampled_from(["a", "b", "\xe9\U0001f600", ""])
VALUES = st.lists(
    st.tuples(
        NAMES,
        st.dictionaries(NAMES, NAMES, max_size=3),
        st.floats(allow_nan=False, allow_infinity=False) | st.just(float("inf")),
    ),
    max_size=5,
)
FAMILIES = st.lists(
    st.builds(Samples, NAMES, st.sampled_from(["counter", "gauge"]), NAMES, NAMES, VALUES),
    max_size=5,
)


def counter(value: float, name: str = "app_things", **labels: str) -> Samples:
    return Samples(name, "counter", "Things.", "", [(f"{name}_total", labels, value)])


def values_of(totals: Totals) -> list[tuple[str, dict[str, str], float]]:
    return [value for family in totals.families() for value in family.values]


@given(families=FAMILIES)
def test_they_survive_json(families: list[Samples]) -> None:
    found: list[Samples] = []
    for part in parts_of(families):
        found += read_part(json.loads(json.dumps(part)))
    assert found == families


def test_what_does_not_fit_into_a_part_is_split() -> None:
    value = ("x", {"label": "y" * 1000}, 1.0)
    families = [Samples("x", "gauge", "X.", "", [value] * 1000), counter(2.0)]
    parts = list(parts_of(families))
    assert len(parts) > 3
    assert max(len(json.dumps(part)) for part in parts) < LARGEST_PART + 10_000
    found = [family for part in parts for family in read_part(part)]
    assert sum(len(family.values) for family in found if family.name == "x") == 1000
    assert found[-1] == families[1]


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
