"""What --topics takes."""

import pytest

from wsgate.brokers.urls import is_broker_url, is_local, socket_path
from wsgate.config import Config
from wsgate.errors import ConfigError


@pytest.mark.parametrize("url", ["memory:", "local:", "local:/run/hub.sock"])
def test_a_url_is_accepted(url: str) -> None:
    assert is_broker_url(url)
    assert Config(topics=url).topics == url


@pytest.mark.parametrize(
    "url",
    ["", "memory", "memory:x", "local", "local:hub.sock", "local:/run/", "http://x", "Local:"],
)
def test_another_url_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Config(topics=url)
    assert str(raised.value) == "--topics must be memory:, local: or local:/path/of/a/socket"


def test_a_local_url_may_have_a_path() -> None:
    assert socket_path("local:") is None
    assert socket_path("local:/run/hub.sock") == "/run/hub.sock"
    assert [is_local(url) for url in (None, "memory:", "local:", "local:/x")] == [
        *(False, False, True, True)
    ]
