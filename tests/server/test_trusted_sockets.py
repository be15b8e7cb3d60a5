"""Which listening Unix sockets the entries of trusted proxies name, and which name none."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.log import LogCapture, capture_log
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.proxies.trusted import TrustedPeers
from wsgate.server.trusted_sockets import trust_named_sockets
from wsgate.server.worker import Worker
from wsgate.types import Receive, Scope, Send

OPTION = "--forwarded-allow-ips"


async def null_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Do nothing."""


@pytest.fixture
def log() -> Iterator[LogCapture]:
    with capture_log() as captured:
        yield captured


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, with links to it and to the socket in it."""
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (tmp_path / "link").symlink_to("run")
    Path("link.sock").symlink_to("app.sock")
    Path("loop").symlink_to("loop")
    Path("other.sock").touch()
    return folder


def is_trusted(entry: str, bound: str) -> bool:
    """Return whether an entry trusts the clients of a socket that is bound to a path."""
    peers = TrustedPeers([entry])
    with socket.socket(socket.AF_UNIX) as sock, socket.socket() as tcp:
        sock.bind(bound)
        trust_named_sockets(OPTION, peers, [tcp, sock])
        return peers.trusts_peer(None, (sock.getsockname(), None))


@pytest.mark.parametrize("bound", ["{folder}/app.sock", "app.sock", "../link/app.sock"])
@pytest.mark.parametrize(
    "spelling",
    [
        *("app.sock", "./app.sock", ".//app.sock", "../run/app.sock", "link.sock"),
        *("{folder}/app.sock", "/{folder}/app.sock", "//{folder}//./app.sock"),
        *("{folder}/../link/app.sock", "{folder}/link.sock"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "unix:"])
def test_spellings_of_one_path(
    folder: Path, log: LogCapture, bound: str, spelling: str, prefix: str
) -> None:
    entry = prefix + spelling.format(folder=folder)
    assert is_trusted(entry, bound.format(folder=folder))
    assert not log.records


@pytest.mark.parametrize("entry", ["unix:link/app.sock", "unix:hard.sock"])
def test_other_names_of_the_file(folder: Path, log: LogCapture, entry: str) -> None:
    peers = TrustedPeers([entry])
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "app.sock"))
        os.link("app.sock", "hard.sock")
        Path("link").symlink_to(".")
        trust_named_sockets(OPTION, peers, [sock])
        assert peers.trusts_peer(None, (sock.getsockname(), None))
    assert not log.records


def test_the_file_of_an_inherited_socket_is_gone(folder: Path, log: LogCapture) -> None:
    peers = TrustedPeers([f"unix:{folder}/./app.sock"])
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "app.sock"))
        Path("app.sock").unlink()
        trust_named_sockets(OPTION, peers, [sock])
        assert peers.trusts_peer(None, (sock.getsockname(), None))
    assert not log.records


@pytest.mark.parametrize(
    "entry",
    ["/run/other.sock", "./other.sock", "unix:other.sock", "unix:loop", "unix:/a\0b", "unix://"],
)
def test_a_socket_on_which_nobody_listens_is_logged_once(
    folder: Path, log: LogCapture, entry: str
) -> None:
    assert not is_trusted(entry, "app.sock")
    (line,) = log.warnings
    assert line == (
        f"{OPTION}: {entry!r} is no Unix socket that this server listens on; it trusts nobody"
    )


@pytest.mark.parametrize("entry", ["localhost", "10.0.0.1/8"])
def test_an_entry_that_is_no_path(folder: Path, log: LogCapture, entry: str) -> None:
    assert not is_trusted(entry, "app.sock")
    (line,) = log.warnings
    assert line == f"{OPTION}: {entry!r} is neither an address nor a network; it trusts nobody"


@pytest.mark.parametrize("entry", ["unix:", "*", "127.0.0.1", "10.0.0.0/8"])
def test_entries_that_name_no_socket_are_not_logged(log: LogCapture, entry: str) -> None:
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unnamed:
        trust_named_sockets(OPTION, TrustedPeers([entry]), [tcp, unnamed])
    assert not log.records


# -- a server that no proxy could reach ------------------------------------------------------------


async def start_with(*entries: str) -> None:
    worker = Worker(null_app, Config(proxy_protocol=True, proxy_allow_from=entries), lambda: 0.0)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("app.sock")
        worker.trust_named_sockets([sock])


@pytest.mark.parametrize("entries", [(), ("foo",), ("10.0.0.1/8", "unix:other.sock")])
async def test_a_server_whose_proxies_are_all_misspelt_is_refused(
    folder: Path, log: LogCapture, entries: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as raised:
        await start_with(*entries)
    assert str(raised.value) == "--proxy-allow-from names no proxy that could connect"
    assert raised.value.setting == "proxy_allow_from"
    assert len(log.warnings) == len(entries)


@pytest.mark.parametrize("entry", ["*", "::1", "10.0.0.0/8", "unix:", "unix:./app.sock"])
async def test_one_usable_entry_is_enough(folder: Path, log: LogCapture, entry: str) -> None:
    await start_with("foo", entry) if entry != "*" else await start_with(entry)
    assert len(log.warnings) == (entry != "*")
