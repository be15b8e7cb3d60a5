"""Which sockets systemd has passed, by the variables of sd_listen_fds(3)."""

import os

import pytest

from wsgate.errors import ConfigError
from wsgate.process import activation
from wsgate.process.activation import PassedSocket, passed_sockets

ME = str(os.getpid())


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in activation._VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def set_variables(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"LISTEN_{name}", value)


def test_descriptors_begin_with_3_and_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, PID=ME, FDS="3", FDNAMES="http:app.socket:")
    assert passed_sockets() == [
        PassedSocket(3, "http"),
        PassedSocket(4, "app.socket"),
        PassedSocket(5, ""),
    ]


def test_without_names_all_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, PID=ME, FDS="2")
    assert passed_sockets() == [PassedSocket(3, "unknown"), PassedSocket(4, "unknown")]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"FDS": "1"},
        {"PID": "", "FDS": "1"},
        {"PID": "1", "FDS": "1", "FDNAMES": "http"},
        {"PID": ME + "0", "FDS": "1"},
        {"PID": "me", "FDS": "1"},
        {"PID": "1", "FDS": "malformed"},  # those of another process
        {"PID": ME, "FDS": "0"},
        {"PID": ME, "FDS": "0", "FDNAMES": ""},
    ],
)
def test_no_sockets_are_passed(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    set_variables(monkeypatch, **values)
    assert passed_sockets() == []


@pytest.mark.parametrize("count", ["", "-1", "1.0", "two", " 1", "1048577", "9" * 10_000, "\u0663"])
def test_a_number_that_cannot_be_one(monkeypatch: pytest.MonkeyPatch, count: str) -> None:
    set_variables(monkeypatch, PID=ME, FDS=count)
    with pytest.raises(ConfigError) as raised:
        passed_sockets()
    assert str(raised.value) == f"LISTEN_FDS={count!r} is not a number of sockets"


@pytest.mark.parametrize(("count", "names"), [("1", "a:b"), ("2", "a"), ("2", ""), ("2", "a:b:")])
def test_names_that_do_not_fit_the_number(
    monkeypatch: pytest.MonkeyPatch, count: str, names: str
) -> None:
    set_variables(monkeypatch, PID=ME, FDS=count, FDNAMES=names)
    with pytest.raises(ConfigError) as raised:
        passed_sockets()
    expected = f"LISTEN_FDNAMES={names!r} has not the {count} names of LISTEN_FDS"
    assert str(raised.value) == expected


def test_forgotten_variables_are_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, PID=ME, FDS="1", FDNAMES="http", PIDFDID="7")
    activation.forget()
    assert not [name for name in os.environ if name.startswith("LISTEN_")]
    assert passed_sockets() == []
    activation.forget()
