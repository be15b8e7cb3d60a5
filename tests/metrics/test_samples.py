"""Samples as data, and as JSON."""

import json

from hypothesis import given, strategies as st

from wsgate.metrics.samples import LARGEST_PART, Samples, json_parts, read_part

NAMES = st.sampled_from(["a", "b", "\xe9\U0001f600", ""])
VALUES = st.lists(
    st.tuples(
        NAMES,
        st.dictionaries(NAMES, NAMES, max_size=3),
        st.floats(allow_nan=False, allow_infinity=False) | st.just(float("inf")),
    ),
    max_size=5,
)
OTHER = Samples("things", "counter", "Things.", "", [("things_total", {}, 2.0)])
FAMILIES = st.lists(
    st.builds(Samples, NAMES, st.sampled_from(["counter", "gauge"]), NAMES, NAMES, VALUES),
    max_size=5,
)


@given(families=FAMILIES)
def test_they_survive_json(families: list[Samples]) -> None:
    found: list[Samples] = []
    for part in json_parts(families):
        found += read_part(json.loads(json.dumps(part)))
    assert found == families


def test_what_does_not_fit_into_a_part_is_split() -> None:
    value = ("x", {"label": "y" * 1000}, 1.0)
    families = [Samples("x", "gauge", "X.", "", [value] * 1000), OTHER]
    parts = list(json_parts(families))
    assert len(parts) > 3
    assert max(len(json.dumps(part)) for part in parts) < LARGEST_PART + 10_000
    found = [family for part in parts for family in read_part(part)]
    assert sum(len(family.values) for family in found if family.name == "x") == 1000
    assert found[-1] == families[1]


def test_families_without_values_are_split_as_well() -> None:
    families = [Samples(f"x{number}", "gauge", "y" * 1000, "", []) for number in range(1000)]
    parts = list(json_parts(families))
    assert max(len(json.dumps(part)) for part in parts) < LARGEST_PART + 10_000
    assert [family for part in parts for family in read_part(part)] == families
