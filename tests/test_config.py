import dataclasses
import math
from typing import Any

import pytest

from wsgate.config import Config
from wsgate.errors import ConfigError


def test_the_defaults_are_those_of_the_documentation() -> None:
    assert dataclasses.asdict(Config()) == {
        "host": "127.0.0.1",
        "port": 8000,
        "uds": None,
        "uds_perms": None,
        "fd": None,
        "backlog": 2048,
        "loop": "auto",
        "http": "auto",
        "lifespan": "auto",
        "root_path": "",
        "reset_contextvars": False,
        "log_level": "info",
        "access_log": True,
        "limit_connections": None,
        "limit_connections_per_ip": None,
        "limit_concurrency": None,
        "limit_request_head": 65_536,
        "limit_request_target": None,
        "limit_request_fields": None,
        "ws_handshake_timeout": 10.0,
        "timeout_request_body": 60.0,
        "timeout_keep_alive": 5.0,
        "timeout_graceful_shutdown": 10.0,
        "drain_seconds": 0.0,
        "headers": (),
        "date_header": True,
        "server_header": True,
        "ws_origins": (),
        "ws_max_size": 16_777_216,
        "ws_max_fragments": 131_072,
        "ws_max_queue": 16,
        "ws_max_queue_size": 1_048_576,
        "ws_max_message_rate": 0.0,
        "ws_max_message_burst": None,
        "ws_ping_interval": 20.0,
        "ws_ping_timeout": 20.0,
        "ws_idle_timeout": 0.0,
        "ws_max_lifetime": 0.0,
        "ws_send_timeout": 60.0,
        "ws_close_timeout": 10.0,
        "ws_per_message_deflate": True,
        "ws_deflate_threshold": 1_024,
        "ws_deflate_context_takeover": False,
        "ws_deflate_window_bits": 15,
        "ws_fast_lane": True,
    }


def test_a_config_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "options",
    [
        {"port": 0},
        {"port": 65535},
        {"fd": 0},
        {"uds_perms": 0},
        {"uds_perms": 0o777},
        {"backlog": 2**31 - 1},
        {"limit_concurrency": 1},
        {"limit_request_target": 1, "limit_request_fields": 1},
        {"limit_request_target": 2**70},  # the head's limit holds as well
        {"timeout_graceful_shutdown": 0},
        {"ws_send_timeout": math.inf},
        {"ws_ping_interval": 0},
        {"ws_max_queue": 1},
        {"uds": "app.sock", "port": 1},
        *({"log_level": level} for level in ("critical", "error", "warning", "info", "debug")),
        *({"loop": loop} for loop in ("auto", "asyncio", "uvloop")),
        *({"http": http} for http in ("auto", "fast", "h11")),
        *({"lifespan": lifespan} for lifespan in ("auto", "on", "off")),
    ],
    ids=str,
)
def test_what_is_within_the_bounds(options: dict[str, Any]) -> None:
    config = Config(**options)
    assert {name: getattr(config, name) for name in options} == options


POSITIVE = [
    "ws-handshake-timeout",
    "timeout-request-body",
    "timeout-keep-alive",
    "ws-send-timeout",
    "limit-request-head",
    "limit-request-target",
    "limit-request-fields",
    "ws-max-size",
    "ws-max-queue",
    "ws-max-queue-size",
    "ws-ping-timeout",
    "ws-close-timeout",
    "limit-concurrency",
    "backlog",
]


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        *((option, value, "greater than 0") for option in POSITIVE for value in (0, -1, math.nan)),
        ("timeout-graceful-shutdown", -0.1, "0 or greater"),
        ("ws-ping-interval", -1, "0 or greater"),
        ("ws-ping-interval", math.nan, "0 or greater"),
        ("port", -1, "0 to 65535"),
        ("port", 65536, "0 to 65535"),
        ("uds-perms", -1, "octal, 0 to 777"),
        ("uds-perms", 0o1000, "octal, 0 to 777"),
        ("fd", -1, "0 to 2147483647"),
        ("fd", 2**31, "0 to 2147483647"),
        ("backlog", 2**31, "at most 2147483647"),
        ("ws-max-size", 2**62 + 1, "at most 4611686018427387904"),
        ("ws-max-queue", 2**63, "at most 4611686018427387904"),
        ("loop", "trio", "one of auto, asyncio, uvloop"),
        ("lifespan", "", "one of auto, on, off"),
        ("log-level", "INFO", "one of critical, error, warning, info, debug"),
    ],
)
def test_what_is_not_names_its_option(option: str, value: Any, wanted: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Config(**{option.replace("-", "_"): value})
    assert str(raised.value) == f"--{option} must be {wanted}"
    assert raised.value.setting == option.replace("-", "_")


def test_one_place_to_listen_is_enough() -> None:
    with pytest.raises(ConfigError) as raised:
        Config(uds="app.sock", fd=3)
    assert str(raised.value) == "--uds must be alone, without --fd"
