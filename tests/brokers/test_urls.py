"""What --topics takes."""

import pytest

from wsgate.brokers.urls import WANTED, is_broker_url, is_local, is_redis, socket_path
from wsgate.config import Config
from wsgate.errors import ConfigError


@pytest.mark.parametrize(
    "url",
    [
        "memory:",
        "local:",
        "local:/run/hub.sock",
        "redis://cache",
        "redis+cluster://a,b",
        "a.b:make",
        "\u00e9:C.of",
    ],
)
def test_a_url_is_accepted(url: str) -> None:
    assert is_broker_url(url)
    assert Config(topics=url).topics == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "memory",
        "memory:x",
        "local",
        "local:hub.sock",
        "local:/run/",
        "http://x",
        "Local:",
        "a:",
        "a.:b",
        "a:b()",
    ],
)
def test_another_url_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Config(topics=url)
    assert str(raised.value) == f"--topics must be {WANTED}"


def test_a_redis_url_is_known_by_its_scheme() -> None:
    urls = ("redis://a", "rediss://a", "redis+sentinel://a/b", "redis+cluster://a", "local:")
    assert [is_redis(url) for url in urls] == [True, True, True, True, False]


def test_a_local_url_may_have_a_path() -> None:
    assert socket_path("local:") is None
    assert socket_path("local:/run/hub.sock") == "/run/hub.sock"
    assert [is_local(url) for url in (None, "memory:", "local:", "local:/x")] == [
        *(False, False, True, True)
    ]
