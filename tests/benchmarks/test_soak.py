"""The soak, for some seconds: the metrics of a server are what its clients have counted."""

import pytest

from benchmarks.soak import Metrics, Plan, Tally, rows_of, soak


async def test_counters_add_up_over_a_restart(capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan(connections=60, seconds=3.0, restarts=1, pause=0.5)
    assert await soak(plan) == []
    shown = capsys.readouterr().out
    for when in ("after period 1:", "after period 2:", "at the end:"):
        assert when in shown


def test_a_counter_that_differs_is_seen() -> None:
    tally = Tally()
    tally.opened = 3
    tally.closed[1012] = 1
    metrics = Metrics('wsgate_websockets_opened_total{reconnect="false"} 2.0\n')
    different = {name for name, server, ours in rows_of(metrics, tally) if server != ours}
    assert different == {"WebSockets opened", "open", "closed with 1012"}
