"""The names in an expression of PromQL are found, and unknown ones are reported."""

import pytest

from tests.deploy.promql import faults, names_in, result_labels

LAG = "wsgate_event_loop_lag_seconds_bucket"


def test_series_and_labels_are_found() -> None:
    names = names_in(
        'histogram_quantile(0.99, sum by (le, worker) (rate(a:b{x="}", y=~"$z"}[5m] offset 1h)))'
        " / ignoring (q) c > bool 2e3 or vector(1) unless on() d"
    )
    none = frozenset[str]()
    assert names.series == (("a:b", frozenset({"x", "y"})), ("c", none), ("d", none))
    assert names.kept == {"le", "worker"}
    assert names.removed == {"q"}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (f"sum by (le, worker, job) (rate({LAG}[5m]))", []),
        ('up{job="wsgate"} == 0', []),
        ("time() - process_start_time_seconds", []),
        ("sum(wsgate_websocket)", ["there is no series wsgate_websocket"]),
        # A histogram has no series with its own name.
        ("wsgate_ping_round_trip_seconds", ["there is no series wsgate_ping_round_trip_seconds"]),
        ('wsgate_workers{worker="1"}', ["wsgate_workers has no label worker"]),
        ("sum by (cause) (wsgate_workers)", ["no series has the label cause"]),
        ("sum without (cause) (wsgate_workers)", ["no series has the label cause"]),
        ("vector(1)", ["no series is named"]),
    ],
)
def test_what_does_not_exist_is_reported(expression: str, expected: list[str]) -> None:
    assert faults(expression) == expected


def test_the_labels_of_a_result() -> None:
    assert result_labels("sum by (state) (wsgate_workers)") == {"state"}
    assert result_labels("sum without (state) (wsgate_workers)") == {"job", "instance"}
    assert result_labels("wsgate_websockets") == {"job", "instance", "worker"}
