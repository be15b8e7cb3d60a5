"""The harness itself: what it skips, what it refuses, and that its ports can be used."""

import socket
from pathlib import Path

import pytest

from tests.harness import proxies


def test_a_missing_proxy_skips_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_PROXIES", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"^needs no-such-proxy: run .ci/install-"):
        proxies.program("no-such-proxy")


def test_a_missing_proxy_fails_a_test_where_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_PROXIES", "required")
    with pytest.raises(pytest.fail.Exception, match=r"^needs no-such-proxy"):
        proxies.program("no-such-proxy")


@pytest.mark.parametrize("old", ["listen 81;", "listen"])
def test_a_string_that_is_replaced_must_occur_once(tmp_path: Path, old: str) -> None:
    path = tmp_path / "a.conf"
    path.write_text("listen 80; listen 443;")
    assert proxies.substitute(path, {"80": "8080", "443": "8443"}) == "listen 8080; listen 8443;"
    with pytest.raises(AssertionError, match="occurs"):
        proxies.substitute(path, {old: ""})


def test_a_reserved_port_can_be_used_repeatedly_and_by_nobody_else() -> None:
    with proxies.reserved_ports(2) as (port, other):
        assert port != other
        for _ in range(2):
            with socket.create_server(("127.0.0.1", port)), pytest.raises(OSError, match="in use"):
                socket.create_server(("127.0.0.1", port))


def test_the_changes_of_a_test_are_made_in_one_file(tmp_path: Path) -> None:
    site = proxies.Site(
        folder=tmp_path,
        http=1,
        https=2,
        backends=["127.0.0.1:3", "/run/app.sock"],
        certificate=tmp_path,
        key=tmp_path,
        changes={"least_conn;": "random;"},
    )
    assert site.servers("unix:", lambda number, at: f"{number} {at};") == (
        "1 127.0.0.1:3;",
        "2 unix:/run/app.sock;",
    )
    text = site.write("nginx/app.conf", {"listen 80;": "listen 1;"}, "# end").read_text()
    assert "random;" in text
    assert "listen 1;" in text
    assert text.endswith("# end")
    main = proxies.EXAMPLES / "nginx" / "nginx.conf"
    assert site.write("nginx/nginx.conf", {}).read_text() == main.read_text()
