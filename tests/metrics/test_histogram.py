"""A histogram counts values by bucket, and their sum."""

import pytest

from wsgate.metrics.histogram import Histogram, HistogramSnapshot


@pytest.mark.parametrize(
    ("value", "counts"),
    [
        (-1.0, (1, 0, 0)),
        (0.5, (1, 0, 0)),
        (1.0, (1, 0, 0)),  # a bound belongs to its bucket: Prometheus' `le`
        (1.5, (0, 1, 0)),
        (2.0, (0, 1, 0)),
        (2.5, (0, 0, 1)),
        (float("inf"), (0, 0, 1)),
    ],
)
def test_a_value_is_in_the_first_bucket_that_it_does_not_exceed(
    value: float, counts: tuple[int, ...]
) -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.observe(value)
    assert histogram.snapshot() == HistogramSnapshot(counts, value)


def test_a_snapshot_does_not_change() -> None:
    histogram = Histogram((1.0,))
    before = histogram.snapshot()
    for value in (0.5, 0.25, 4.0):
        histogram.observe(value)
    assert before == ((0, 0), 0.0)
    assert histogram.snapshot() == ((2, 1), 4.75)


def test_without_bounds_there_is_one_bucket() -> None:
    histogram = Histogram(())
    histogram.observe(3.0)
    assert histogram.snapshot() == ((1,), 3.0)
