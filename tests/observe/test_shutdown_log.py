import pytest

from wsgate.observe.shutdown_log import progress_report


@pytest.mark.parametrize(
    ("connections", "app_calls", "seconds_left", "text"),
    [
        (2, 3, 8.6, "Waiting for 2 connections and 3 app calls, at most 9 s"),
        (1, 1, 5.0, "Waiting for 1 connection and 1 app call, at most 5 s"),
        (40, 0, 120.0, "Waiting for 40 connections, at most 120 s"),
        (0, 1, 0.2, "Waiting for 1 app call, at most 0 s"),
        (1, 0, -0.01, "Waiting for 1 connection, at most 0 s"),
    ],
)
def test_report_counts_what_the_shutdown_waits_for(
    connections: int, app_calls: int, seconds_left: float, text: str
) -> None:
    assert progress_report(connections, app_calls, seconds_left) == text
