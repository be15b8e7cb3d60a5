import sys

import pytest

from wsgate.brokers.redis.factory import make_redis_broker
from wsgate.brokers.redis.url import Kind, parse_redis_url
from wsgate.errors import ConfigError


def test_a_plain_url_has_the_default_port_and_database() -> None:
    url = parse_redis_url("redis://cache")
    assert (url.kind, url.addresses, url.database) == (Kind.SINGLE, (("cache", 6379),), 0)
    assert (url.username, url.password, url.is_secure) == (None, None, False)


def test_all_parts_of_a_url_are_read() -> None:
    url = parse_redis_url("rediss://me:p%40ss@[::1]:7000/3?ca=/etc/ca.pem&verify=false")
    assert url.addresses == (("::1", 7000),)
    assert (url.username, url.password, url.database) == ("me", "p@ss", 3)
    assert (url.is_secure, url.ca, url.verifies) == (True, "/etc/ca.pem", False)


def test_sentinels_have_a_service_and_another_default_port() -> None:
    url = parse_redis_url("redis+sentinel://:secret@a,b:1/main/2?tls=true&sentinel_password=x")
    assert url.kind is Kind.SENTINEL
    assert url.addresses == (("a", 26379), ("b", 1))
    assert (url.service, url.database, url.password) == ("main", 2, "secret")
    assert (url.is_secure, url.sentinel_password) == (True, "x")


def test_a_cluster_has_several_addresses() -> None:
    url = parse_redis_url("redis+cluster://a:1,b:2")
    assert (url.kind, url.addresses) == (Kind.CLUSTER, (("a", 1), ("b", 2)))


def test_the_text_of_a_url_has_no_password() -> None:
    assert str(parse_redis_url("redis://me:secret@a:1")) == "a:1"
    assert str(parse_redis_url("redis+sentinel://:secret@a,b/main")) == "a:26379,b:26379/main"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://a", "unknown scheme"),
        ("redis:a", "malformed address"),
        ("redis://", "malformed address"),
        ("redis://a b", "malformed address"),
        ("redis://a:x", "malformed address"),
        ("redis://a:0", "a port is from 1 to 65535, not 0"),
        ("redis://a:99999", "a port is from"),
        ("redis://a,b", "several addresses"),
        ("redis://a/x", "the database must be a number"),
        ("redis://a/1/2", "too many parts"),
        ("redis://[a/1", "the URL is malformed"),
        ("redis://:a#b@c", "write %23"),
        ("redis://a?db=1", "unknown option 'db'"),
        ("redis://a?verify=no", "verify must be true or false"),
        ("redis://a?ca=x&ca=y", "given twice"),
        ("redis+sentinel://a", "name of the service is missing"),
        ("redis+cluster://a/1", "a cluster has no databases"),
    ],
)
def test_a_malformed_url_is_one_line(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        parse_redis_url(url)
    assert "\n" not in str(caught.value)


def test_an_error_does_not_show_the_password() -> None:
    with pytest.raises(ConfigError, match="--topics: malformed address") as caught:
        make_redis_broker("redis://me:secret@a:x", max_bytes=1)
    assert "secret" not in str(caught.value)


def test_a_missing_extra_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match=r"pip install 'wsgate\[redis\]'"):
        make_redis_broker("redis://a", max_bytes=1)
