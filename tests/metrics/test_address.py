"""The address of the metrics."""

import pytest

from wsgate import Config, ConfigError
from wsgate.metrics.address import Address, parse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9090", Address("127.0.0.1", 9090)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:9090", Address("::1", 9090)),
        ("[fe80::1%eth0]:1", Address("fe80::1%eth0", 1)),
        ("unix:/run/wsgate/metrics.sock", Address("", 0, "/run/wsgate/metrics.sock")),
        ("unix:metrics.sock", Address("", 0, "metrics.sock")),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert parse(text) == address
    assert Config(metrics=text).metrics == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "9090", ":9090", "localhost", "localhost:", "::1:9090", "127.0.0.1:65536"),
        *("127.0.0.1:port", "http://127.0.0.1:9090", "unix:", "unix:a\0b", "a b:1", "[]:1"),
        "127.0.0.1:-1",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    assert parse(text) is None
    with pytest.raises(ConfigError, match=r"--metrics must be HOST:PORT such as") as raised:
        Config(metrics=text)
    assert raised.value.setting == "metrics"


@pytest.mark.parametrize("token", ["short", "0123456789abcd\xe9f", "0123456789abcde\n"])
def test_a_weak_token_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="at least 16 printable ASCII characters") as raised:
        Config(metrics="127.0.0.1:0", status_token=token)
    assert token not in str(raised.value)
