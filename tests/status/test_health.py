"""When a server is ready."""

from typing import Any

import pytest

from wsgate.status.health import reasons_not_ready


def status(state: str, *workers: tuple[str, float | None]) -> dict[str, Any]:
    return {
        "server": {"state": state},
        "workers": [{"state": one, "broker_away": away} for one, away in workers],
    }


@pytest.mark.parametrize(
    "ready",
    [
        status("ready", ("ready", None)),
        status("ready", ("ready", 29.0)),
        status("ready", ("starting", 99.0), ("ready", None), ("stopping", 99.0)),
        status("ready", ("ready", 99.0), ("ready", None)),
        status("restarting", ("outdated", None), ("starting", None)),
    ],
)
def test_it_is_ready(ready: dict[str, Any]) -> None:
    assert reasons_not_ready(ready, 30.0) == []


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (status("starting"), "the server is starting"),
        (status("starting", ("ready", None)), "the server is starting"),
        (status("stopping", ("ready", None)), "the server is stopping"),
        (status("ready"), "no worker is ready"),
        (status("restarting", ("starting", None), ("stopping", None)), "no worker is ready"),
        (
            status("ready", ("ready", 45.0), ("ready", 31.0), ("starting", None)),
            "the broker of topics has been out of reach for 31 s",
        ),
    ],
)
def test_it_is_not_ready(found: dict[str, Any], reason: str) -> None:
    assert reasons_not_ready(found, 30.0) == [reason]
