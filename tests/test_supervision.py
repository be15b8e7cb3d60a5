"""The settings of workers and reload: bounds, and the variable WEB_CONCURRENCY."""

from typing import Any

import pytest

from wsgate.errors import ConfigError
from wsgate.supervision import MOST_WORKERS, ONE_PROCESS, SUPERVISION_SETTINGS, Supervision

WANTED = "a number from 1 to 64, or auto"


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)


def settings(**options: Any) -> Supervision:
    """Return settings of any type, as they come from a program without type checks."""
    return Supervision(**options)


# -- the number of workers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "count"),
    [
        (None, "1"),
        (0, "1"),
        ("0", "1"),
        (1, "1"),
        ("1", "1"),
        (64, "64"),
        ("64", "64"),
        ("auto", "auto"),
        ("007", "007"),
    ],
)
def test_a_number_of_workers(given: Any, count: str) -> None:
    assert Supervision(workers=given).worker_count == count


@pytest.mark.parametrize(
    "given", [65, -1, "65", "", " 2", "2.0", "many", "AUTO", "1" * 7, "\u0663", "2\n"]
)
def test_other_numbers_are_refused(given: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        Supervision(workers=given)
    assert str(raised.value).startswith(f"--workers must be {WANTED}")
    assert raised.value.setting == "workers"


@pytest.mark.parametrize("given", [True, 2.0, [2], b"2"])
def test_other_types_are_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"^--workers must be "):
        Supervision(workers=given)


def test_the_variable_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    assert Supervision().worker_count == "3"
    assert settings(workers=2).worker_count == "2"
    monkeypatch.setenv("WEB_CONCURRENCY", "auto")
    assert Supervision().worker_count == "auto"
    for text in ("", "0"):
        monkeypatch.setenv("WEB_CONCURRENCY", text)
        assert Supervision().worker_count == "1"
        assert not Supervision().needs_supervisor


@pytest.mark.parametrize("value", ["-1", "65", "x", "1.5"])
def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", value)
    with pytest.raises(ConfigError) as raised:
        _ = Supervision().worker_count
    assert str(raised.value) == f"WEB_CONCURRENCY={value!r} must be {WANTED}"
    assert settings(workers=1).worker_count == "1", "it is not read"


def test_the_bound_is_that_of_the_text() -> None:
    assert str(MOST_WORKERS) in WANTED


# -- other settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout_worker_healthcheck", 0),
        ("worker_max_rss", 0),
        ("worker_max_lifetime", -1),
        ("reload_delay", 0),
        ("preload", "yes"),
        ("reload_dirs", [1]),
    ],
)
def test_a_value_out_of_bounds_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        settings(**{name: value})
    assert raised.value.setting == name


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({}, []),
        ({"reload": True, "reload_dirs": ["a"]}, []),
        ({"workers": 2, "restart_parallel": True}, []),
        (
            {"reload_dirs": ["a"], "reload_delay": 1.0},
            [
                "--reload-dir has no effect without --reload",
                "--reload-delay has no effect without --reload",
            ],
        ),
        ({"restart_parallel": True}, [f"--restart-parallel has no effect: {ONE_PROCESS}"]),
        (
            {"reload": True, "restart_parallel": True},
            ["--restart-parallel has no effect: --reload has one worker"],
        ),
    ],
)
def test_what_has_no_effect_is_named(options: dict[str, Any], lines: list[str]) -> None:
    assert settings(**options).without_effect == lines


def test_the_variable_has_no_effect_on_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    assert settings(reload=True).without_effect == [
        "WEB_CONCURRENCY=2 has no effect: --reload has one worker"
    ]
    assert settings(reload=True, workers=1).without_effect == []


def test_a_reload_has_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--reload and --workers cannot be used together"):
        settings(reload=True, workers=2)
    assert settings(reload=True, workers=1).reload
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    assert Supervision(reload=True).reload, "a variable of the machine does not count"


@pytest.mark.parametrize("name", [one.name for one in SUPERVISION_SETTINGS if one.repeated])
def test_a_single_text_is_a_list_of_one(name: str) -> None:
    assert getattr(settings(**{name: "a"}), name) == ("a",)
    assert getattr(settings(**{name: None}), name) == ()


# -- what needs a supervisor -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"reload": True}, "--reload"),
        ({"preload": True}, "--preload"),
        ({"worker_max_rss": 100}, "--worker-max-rss"),
        ({"worker_max_lifetime": 60.0}, "--worker-max-lifetime"),
        ({"workers": 2}, "--workers"),
        ({"workers": "auto"}, "--workers"),
    ],
)
def test_what_needs_a_supervisor(options: dict[str, Any], reason: str) -> None:
    made = settings(**options)
    assert made.needs_supervisor
    assert made.reason_text == reason


def test_the_variable_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    assert Supervision().needs_supervisor
    assert Supervision().reason_text == "WEB_CONCURRENCY=2"
    assert not settings(workers=1).needs_supervisor


def test_one_worker_needs_none() -> None:
    assert not Supervision().needs_supervisor
    assert not Supervision(restart_parallel=True, timeout_worker_healthcheck=1).needs_supervisor
