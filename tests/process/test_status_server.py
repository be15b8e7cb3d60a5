"""The address of the metrics beside those of the server itself."""

from typing import Any

import pytest

from wsgate import Config, ConfigError
from wsgate.process.status_server import StatusServer


def make(**settings: Any) -> StatusServer:
    """Make a server of metrics, which asks nothing before its start."""
    commands: Any = None
    return StatusServer(Config(**settings), commands)


@pytest.mark.parametrize(
    "settings",
    [
        {"metrics": "127.0.0.1:8000"},
        {"metrics": "127.0.0.1:9464", "port": 9464},
        {"metrics": "10.0.0.1:80", "port": 80, "host": ["127.0.0.1", "10.0.0.1"]},
        {"metrics": "unix:/run/app.sock", "uds": ["/run/app.sock"]},
    ],
)
def test_the_address_of_the_server_itself_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the server itself listens there") as raised:
        make(**settings)
    assert raised.value.setting == "metrics"
    assert str(raised.value).startswith(f"--metrics {settings['metrics']}: ")


@pytest.mark.parametrize(
    "settings",
    [
        {"metrics": "127.0.0.1:9464"},
        {"metrics": "127.0.0.1:0", "port": 0},
        {"metrics": "127.0.0.1:8000", "host": ["10.0.0.1"]},
        {"metrics": "127.0.0.1:8000", "uds": ["/run/app.sock"]},
        {"metrics": "127.0.0.1:8000", "fd": 0},
        {"metrics": "unix:/run/metrics.sock", "uds": ["/run/app.sock"]},
    ],
)
def test_any_other_address_is_taken(settings: dict[str, Any]) -> None:
    assert make(**settings).names == ()
