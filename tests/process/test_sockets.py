import contextlib
import errno
import logging
import math
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.log import LogCapture, capture_log
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.process import activation, sockets
from wsgate.process.activation import PassedSocket
from wsgate.server.listener import name_of

LINUX = sys.platform == "linux"
ABSENT = "192.0.2.1"


@pytest.fixture(autouse=True)
def log() -> Iterator[LogCapture]:
    with capture_log() as lines:
        yield lines


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def listening(**options: Any) -> Iterator[list[socket.socket]]:
    opened = sockets.open_sockets(Config(**options))
    try:
        yield opened.sockets
    finally:
        opened.close()


def listen_error(**options: Any) -> str:
    """Return the error of sockets that cannot be opened."""
    with pytest.raises(ConfigError) as raised, listening(**options):
        pass
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a new folder, so that a Unix socket's path stays short."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- TCP -------------------------------------------------------------------------------------------


def test_a_free_port_is_taken() -> None:
    with listening(port=0) as (sock,):
        host, port = sock.getsockname()
        assert (host, port > 0) == ("127.0.0.1", True)
        assert name_of(sock) == f"http://127.0.0.1:{port}"
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


@pytest.mark.skipif(not LINUX, reason="the options are Linux's")
@pytest.mark.parametrize(
    ("send_timeout", "user_timeout"),
    [(60.0, 90_000), (1.0, 60_000), (600.0, 630_000), (math.inf, 2_000_000_000)],
)
def test_the_kernel_watches_over_the_connections(send_timeout: float, user_timeout: int) -> None:
    with listening(port=0, ws_send_timeout=send_timeout) as (listener,):
        listener.listen()
        with (
            socket.create_connection(listener.getsockname()),
            contextlib.closing(listener.accept()[0]) as accepted,
        ):
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            tcp = {
                name: accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                for name in (*sockets._KEEPALIVE, "TCP_USER_TIMEOUT")
            }
    assert tcp == {
        "TCP_KEEPIDLE": 60,
        "TCP_KEEPINTVL": 10,
        "TCP_KEEPCNT": 6,
        "TCP_USER_TIMEOUT": user_timeout,
    }


@pytest.mark.skipif(not LINUX, reason="the options are Linux's")
def test_other_systems_keep_their_own_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_USER_TIMEOUT_OPTION", None)
    before = default_of("TCP_KEEPIDLE")
    for name in sockets._KEEPALIVE:
        monkeypatch.delattr(socket, name)
    with listening(port=0) as (sock,):
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        monkeypatch.undo()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == before


def default_of(option: str) -> int:
    """Return the system's default of a TCP option."""
    with socket.socket() as sock:
        return sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, option))


def test_connections_do_not_wait_to_fill_a_segment() -> None:
    with listening(port=0) as (listener,):
        listener.listen()
        with (
            socket.create_connection(listener.getsockname()),
            contextlib.closing(listener.accept()[0]) as accepted,
        ):
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert listen_error(port=port) == (
            f"cannot listen on 127.0.0.1:{port}: {os.strerror(errno.EADDRINUSE)}"
        )


def test_a_host_that_cannot_be_one() -> None:
    host = "a" * 70 + ".example"
    assert listen_error(host=host, port=0).startswith(f"cannot listen on {host}:0: ")


def test_a_host_that_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", not_found)
    assert listen_error(host="nowhere.example", port=80) == (
        "cannot listen on nowhere.example:80: Name or service not known"
    )


def test_a_host_that_is_not_ours() -> None:
    # RFC 5737: 192.0.2.0/24 is for documentation, so no machine has it.
    assert listen_error(host=ABSENT, port=0) == (
        f"cannot listen on 192.0.2.1:0: {os.strerror(errno.EADDRNOTAVAIL)}"
    )


# -- several addresses -----------------------------------------------------------------------------


def resolve_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Have every name resolve to these addresses, as a hosts file does that names them all."""

    def resolved(_: object, port: int, **__: object) -> list[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, port, 0, 0))
            if ":" in host
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
            for host in hosts
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)


def fail_to_bind(
    monkeypatch: pytest.MonkeyPatch, host: str, number: int, *, times: int = 1_000
) -> list[int]:
    """Have the kernel refuse an address for some times; return the ports that were asked for."""
    asked: list[int] = []
    bind = socket.socket.bind

    def failing(sock: socket.socket, address: Any) -> None:
        if address[0] == host:
            asked.append(address[1])
            if len(asked) <= times:
                raise OSError(number, os.strerror(number))
        bind(sock, address)

    monkeypatch.setattr(socket.socket, "bind", failing)
    return asked


def without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernel be one that was built or started without IPv6."""
    original = socket.socket.__init__

    def refusing(sock: socket.socket, family: int = -1, *args: Any, **kwargs: Any) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        original(sock, family, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "__init__", refusing)


def test_a_host_with_several_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2", "127.0.0.1")
    with listening(host="several.example", port=0) as opened:
        assert [sock.getsockname()[0] for sock in opened] == ["127.0.0.1", "127.0.0.2"]


ABSENT_ERRORS = [errno.EADDRNOTAVAIL, errno.EINVAL, errno.ENODEV]


@pytest.mark.parametrize("number", ABSENT_ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("hosts", [(ABSENT, "127.0.0.1"), ("127.0.0.1", ABSENT)])
def test_an_address_that_is_absent_is_skipped(
    monkeypatch: pytest.MonkeyPatch, log: LogCapture, hosts: tuple[str, ...], number: int
) -> None:
    resolve_to(monkeypatch, *hosts)
    asked = fail_to_bind(monkeypatch, ABSENT, number)
    with listening(host="several.example", port=0) as (sock,):
        assert sock.getsockname()[0] == "127.0.0.1"
    assert log.warnings == [
        f"Not listening on 192.0.2.1:{asked[0]} (several.example): {os.strerror(number)}"
    ]


def bound_without_ipv6(
    monkeypatch: pytest.MonkeyPatch, host: str, *addresses: str
) -> tuple[str, int]:
    """Return the one address that is bound for a host if the kernel has no IPv6."""
    resolve_to(monkeypatch, *addresses)
    without_ipv6(monkeypatch)
    with listening(host=host, port=0) as (sock,):
        address, port = sock.getsockname()
        return address, port


def test_localhost_without_ipv6(monkeypatch: pytest.MonkeyPatch, log: LogCapture) -> None:
    address, _ = bound_without_ipv6(monkeypatch, "localhost", "::1", "127.0.0.1")
    assert address == "127.0.0.1"
    assert log.warnings == [
        f"Not listening on [::1]:0 (localhost): {os.strerror(errno.EAFNOSUPPORT)}"
    ]


def test_all_addresses_without_ipv6(monkeypatch: pytest.MonkeyPatch, log: LogCapture) -> None:
    address, port = bound_without_ipv6(monkeypatch, "", "0.0.0.0", "::")
    assert address == "0.0.0.0"
    assert log.warnings == [f"Not listening on [::]:{port}: {os.strerror(errno.EAFNOSUPPORT)}"]


def test_no_address_is_there(monkeypatch: pytest.MonkeyPatch, log: LogCapture) -> None:
    resolve_to(monkeypatch, "::1", ABSENT)
    without_ipv6(monkeypatch)
    assert listen_error(host="localhost", port=8000) == (
        f"cannot listen on [::1]:8000 (localhost): {os.strerror(errno.EAFNOSUPPORT)}; "
        f"192.0.2.1:8000 (localhost): {os.strerror(errno.EADDRNOTAVAIL)}"
    )
    assert not log.records


def test_an_ipv6_host_is_shown_in_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ipv6(monkeypatch)
    resolve_to(monkeypatch, "::1")
    assert listen_error(host="::1", port=8000) == (
        f"cannot listen on [::1]:8000: {os.strerror(errno.EAFNOSUPPORT)}"
    )


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EADDRINUSE, errno.ENOBUFS], ids=errno.errorcode.get
)
def test_any_other_error_ends_the_start(
    monkeypatch: pytest.MonkeyPatch, log: LogCapture, number: int
) -> None:
    resolve_to(monkeypatch, ABSENT, "127.0.0.1", "127.0.0.2")
    fail_to_bind(monkeypatch, "127.0.0.1", number)
    asked = fail_to_bind(monkeypatch, "127.0.0.2", number)
    assert listen_error(host="several.example", port=8000) == (
        f"cannot listen on 127.0.0.1:8000 (several.example): {os.strerror(number)}"
    )
    assert (asked, log.records) == ([], [])


def test_no_socket_stays_open_where_one_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
    made: list[socket.socket] = []

    def bind(sock: socket.socket, address: Any) -> None:
        made.append(sock)
        if address[0] == "127.0.0.2":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket.socket, "bind", bind)
    listen_error(host="several.example", port=0)
    assert [sock.fileno() for sock in made] == [-1, -1]


def test_a_free_port_is_the_same_on_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, ABSENT, "127.0.0.1", "127.0.0.2", "127.0.0.3")
    with listening(host="several.example", port=0) as opened:
        assert len(opened) == 3
        assert len({sock.getsockname()[1] for sock in opened}) == 1


def test_a_free_port_that_is_in_use_elsewhere_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
    asked = fail_to_bind(monkeypatch, "127.0.0.2", errno.EADDRINUSE, times=3)
    with listening(host="several.example", port=0) as opened:
        assert {sock.getsockname()[1] for sock in opened} == {asked[3]}
    assert len(asked) == 4


def test_few_free_ports_are_tried(monkeypatch: pytest.MonkeyPatch, log: LogCapture) -> None:
    resolve_to(monkeypatch, ABSENT, "127.0.0.1", "127.0.0.2")
    asked = fail_to_bind(monkeypatch, "127.0.0.2", errno.EADDRINUSE)
    line = listen_error(host="several.example", port=0)
    assert len(asked) == sockets.PORT_ATTEMPTS
    assert line == (
        f"cannot listen on 127.0.0.2:{asked[-1]} (several.example): {os.strerror(errno.EADDRINUSE)}"
    )
    assert not log.records


def test_a_given_port_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1")
    asked = fail_to_bind(monkeypatch, "127.0.0.1", errno.EADDRINUSE)
    listen_error(host="localhost", port=8000)
    assert asked == [8000]


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6_has_its_own_sockets() -> None:
    with listening(host="::1", port=0) as (sock,):
        assert sock.family == socket.AF_INET6
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        assert name_of(sock) == f"http://[::1]:{sock.getsockname()[1]}"


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_no_host_is_every_address() -> None:
    with listening(host="", port=0) as opened:
        assert {sock.getsockname()[0] for sock in opened} == {"0.0.0.0", "::"}


# -- several hosts ---------------------------------------------------------------------------------


def hosts_of(opened: list[socket.socket]) -> list[str]:
    return [sock.getsockname()[0] for sock in opened]


def test_without_an_address_it_is_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "DEFAULT_PORT", 0)
    with listening() as opened:
        assert hosts_of(opened) == ["127.0.0.1"]


def test_several_hosts_have_one_port() -> None:
    with listening(host=["127.0.0.2", "127.0.0.1", "127.0.0.3"], port=0) as opened:
        assert hosts_of(opened) == ["127.0.0.2", "127.0.0.1", "127.0.0.3"]
        (port,) = {sock.getsockname()[1] for sock in opened}
    with listening(host=["127.0.0.1", "127.0.0.2"], port=port) as opened:
        assert {sock.getsockname()[1] for sock in opened} == {port}


def test_a_free_port_is_free_on_all_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fail_to_bind(monkeypatch, "127.0.0.2", errno.EADDRINUSE, times=3)
    with listening(host=["127.0.0.1", "127.0.0.2"], port=0) as opened:
        assert {sock.getsockname()[1] for sock in opened} == {asked[3]}


def test_the_same_host_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(host=["127.0.0.1", "127.0.0.1"], port=0) as opened:
        assert hosts_of(opened) == ["127.0.0.1"]
    resolve_to(monkeypatch, "127.0.0.1")  # another name for it
    with listening(host=["127.0.0.1", "localhost"], port=0) as opened:
        assert hosts_of(opened) == ["127.0.0.1"]


@pytest.mark.parametrize(
    "hosts", [["0.0.0.0", "127.0.0.1"], ["127.0.0.1", "0.0.0.0"], ["127.0.0.2"] * 2 + ["0.0.0.0"]]
)
def test_a_wildcard_includes_all_of_its_family(hosts: list[str]) -> None:
    with listening(host=hosts, port=0) as opened:
        assert hosts_of(opened) == ["0.0.0.0"]
        for sock in opened:
            sock.listen()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_a_wildcard_does_not_include_the_other_family() -> None:
    with listening(host=["0.0.0.0", "::1"], port=0) as opened:
        assert hosts_of(opened) == ["0.0.0.0", "::1"]
    with listening(host=["::", "127.0.0.1", "::1"], port=0) as opened:
        assert hosts_of(opened) == ["::", "127.0.0.1"]
        for sock in opened:
            sock.listen()


def test_a_host_that_is_absent_is_not_skipped_because_of_another(log: LogCapture) -> None:
    for hosts in (["127.0.0.1", ABSENT], [ABSENT, "127.0.0.1"]):
        line = listen_error(host=hosts, port=0)
        assert line.startswith(f"cannot listen on {ABSENT}:")
        assert line.endswith(os.strerror(errno.EADDRNOTAVAIL))
    assert not log.records


def test_one_host_in_use_leaves_none_open() -> None:
    with socket.create_server(("127.0.0.2", 0)) as other:
        port = other.getsockname()[1]
        assert listen_error(host=["127.0.0.1", "127.0.0.2"], port=port) == (
            f"cannot listen on 127.0.0.2:{port}: {os.strerror(errno.EADDRINUSE)}"
        )
        with socket.create_server(("127.0.0.1", port)):
            pass


# -- several Unix sockets --------------------------------------------------------------------------


def paths_of(opened: list[socket.socket]) -> list[str]:
    return [sock.getsockname() for sock in opened if sock.family == socket.AF_UNIX]


def test_several_unix_sockets(here: Path) -> None:
    with listening(uds=["b", "a"], uds_perms=0o600) as opened:
        assert paths_of(opened) == ["b", "a"]
        assert len(opened) == 2
        assert {path.stat().st_mode & 0o777 for path in here.iterdir()} == {0o600}
    assert not list(here.iterdir())


def test_the_same_unix_socket_twice_is_one(here: Path) -> None:
    with listening(uds=["s", "./s", str(here / "s")]) as opened:
        assert paths_of(opened) == ["s"]
    assert not list(here.iterdir())


def test_an_explicit_host_is_listened_on_as_well(here: Path) -> None:
    with listening(uds="s", host="127.0.0.1", port=0) as opened:
        assert len(opened) == 2
        assert opened[0].getsockname()[0] == "127.0.0.1"
        assert paths_of(opened) == ["s"]
    assert not list(here.iterdir())
    with listening(uds="s", port=0) as opened:  # a port is no host
        assert len(opened) == len(paths_of(opened)) == 1


def test_one_unix_socket_in_use_leaves_nothing(here: Path) -> None:
    port = free_port()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind("used")
        other.listen()
        line = listen_error(uds=["new", "used"], host="127.0.0.1", port=port)
        assert line == "--uds used is in use by another server"
        assert [path.name for path in here.iterdir()] == ["used"]
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_a_folder_that_is_missing_leaves_nothing(here: Path) -> None:
    assert listen_error(uds=["new", "no/s"]) == f"--uds no/s: there is no folder {here}/no"
    assert not list(here.iterdir())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


# -- an inherited socket ---------------------------------------------------------------------------


def test_an_inherited_socket() -> None:
    given = socket.create_server(("127.0.0.1", 0))
    address = given.getsockname()
    with listening(fd=given.detach()) as (sock,):
        assert sock.getsockname() == address
        assert name_of(sock) == f"http://127.0.0.1:{address[1]}"


def test_an_inherited_socket_may_be_of_unix() -> None:
    given = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listening(fd=given.detach()) as (sock,):
        assert name_of(sock) == "unix socket (unnamed)"


@pytest.mark.skipif(not LINUX, reason="only Linux has names outside the file system")
def test_an_inherited_socket_may_have_an_abstract_name() -> None:
    given = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    name = f"wsgate-{os.getpid()}"
    given.bind(f"\0{name}")
    with listening(fd=given.detach()) as (sock,):
        assert name_of(sock) == f"unix socket @{name}"


def test_what_is_not_open_is_no_socket() -> None:
    fd = 2**31 - 1
    assert listen_error(fd=fd) == f"--fd {fd} is not a socket: {os.strerror(errno.EBADF)}"


def test_what_is_no_socket_stays_open(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        fd = file.fileno()
        assert listen_error(fd=fd) == f"--fd {fd} is not a socket: {os.strerror(errno.ENOTSOCK)}"
        file.write("still")


def test_a_datagram_socket_does_not_listen() -> None:
    fd = socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()
    assert listen_error(fd=fd) == f"--fd {fd} is not a stream socket"


def test_child_processes_do_not_inherit_an_inherited_socket() -> None:
    given = socket.create_server(("127.0.0.1", 0))
    given.set_inheritable(True)
    with listening(fd=given.detach()) as (sock,):
        assert not sock.get_inheritable()


@pytest.mark.skipif(not LINUX, reason="the options are Linux's")
def test_an_inherited_socket_gets_the_options_that_its_opener_has_not_set() -> None:
    given = socket.create_server(("127.0.0.1", 0))
    with listening(fd=given.detach()) as (sock,):
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 90_000


@pytest.mark.skipif(not LINUX, reason="the options are Linux's")
def test_an_inherited_socket_keeps_the_options_of_its_opener() -> None:
    given = socket.create_server(("127.0.0.1", 0))
    given.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    given.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 7)
    given.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 8_000)
    with listening(fd=given.detach()) as (sock,):
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 8_000


def test_an_inherited_socket_may_refuse_options(monkeypatch: pytest.MonkeyPatch) -> None:
    given = socket.create_server(("127.0.0.1", 0)).detach()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))

    monkeypatch.setattr(socket.socket, "setsockopt", refuse)
    with listening(fd=given) as opened:
        assert len(opened) == 1


# -- sockets of systemd ----------------------------------------------------------------------------


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, socket.socket]]:
    """Pass three sockets, as far as this process can see: http, admin, and http again."""
    made = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    names = ["http", "admin", "http"]
    found = [
        PassedSocket(os.dup(sock.fileno()), name) for sock, name in zip(made, names, strict=True)
    ]
    monkeypatch.setattr(activation, "passed_sockets", lambda: found)
    monkeypatch.setenv("LISTEN_FDS", "3")
    yield dict(zip(["http", "admin", "http again"], made, strict=True))
    for sock in made:
        sock.close()
    for one in found:
        with contextlib.suppress(OSError):
            os.close(one.fd)


def names_of(opened: list[socket.socket]) -> list[object]:
    return [sock.getsockname() for sock in opened]


def test_the_sockets_of_systemd_are_used_if_no_address_is_given(
    passed: dict[str, socket.socket], log: LogCapture
) -> None:
    opened = sockets.open_sockets(Config())
    assert names_of(opened.sockets) == names_of([*passed.values()])
    assert opened.inherited == set(opened.sockets)
    assert "LISTEN_FDS" not in os.environ
    opened.close()
    text = "Using the sockets that systemd has passed: http, admin, http"
    assert log.messages(logging.INFO) == [text]
    assert not log.warnings


@pytest.mark.parametrize("options", [{"host": "127.0.0.1", "port": 0}, {"port": 0}, {"uds": "s"}])
def test_an_address_excludes_the_sockets_of_systemd(
    passed: dict[str, socket.socket], here: Path, log: LogCapture, options: dict[str, Any]
) -> None:
    with listening(**options) as (sock,):
        assert sock.getsockname() not in names_of([*passed.values()])
    assert os.environ["LISTEN_FDS"] == "3"  # the app may want to use them
    assert not log.records
    sockets.warn_of_unused(Config(**options))
    (line,) = log.warnings
    assert line == (
        "Sockets that systemd has passed are not used, because another address is given: "
        "http, admin, http (see --systemd-socket)"
    )


@pytest.mark.parametrize("options", [{}, {"systemd_sockets": "http", "port": 0}])
def test_no_socket_of_systemd_is_unused(
    passed: dict[str, socket.socket], log: LogCapture, options: dict[str, Any]
) -> None:
    sockets.warn_of_unused(Config(**options))
    assert not log.records


def test_the_descriptor_of_a_socket_of_systemd_is_used(
    monkeypatch: pytest.MonkeyPatch, log: LogCapture
) -> None:
    monkeypatch.setattr(activation, "passed_sockets", lambda: [PassedSocket(3, "http")])
    sockets.warn_of_unused(Config(fd=3))
    assert not log.records
    sockets.warn_of_unused(Config(fd=4))
    assert len(log.warnings) == 1


def test_malformed_variables_that_nobody_needs_are_ignored(
    monkeypatch: pytest.MonkeyPatch, log: LogCapture
) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "many")
    sockets.warn_of_unused(Config(port=0))
    with listening(port=0):
        pass
    assert not log.records
    assert listen_error() == "LISTEN_FDS='many' is not a number of sockets"


def test_names_select_sockets_of_systemd(passed: dict[str, socket.socket]) -> None:
    with listening(systemd_sockets="http") as opened:
        assert names_of(opened) == names_of([passed["http"], passed["http again"]])


def test_selected_sockets_of_systemd_do_not_exclude_others(
    passed: dict[str, socket.socket], here: Path
) -> None:
    config = Config(systemd_sockets="admin", host="127.0.0.1", port=0, uds="s")
    found = sockets.open_sockets(config)
    admin, tcp, unix = names_of(found.sockets)
    assert (admin, unix) == (passed["admin"].getsockname(), "s")
    assert tcp not in names_of([*passed.values()])
    assert found.inherited == {found.sockets[0]}
    found.close()


def test_a_name_that_systemd_has_not_passed(
    passed: dict[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert listen_error(systemd_sockets=["http", "htpp"]) == (
        "--systemd-socket htpp: systemd has passed only admin, http"
    )
    monkeypatch.setattr(activation, "passed_sockets", list)
    assert listen_error(systemd_sockets="http") == (
        "--systemd-socket http: systemd has passed no sockets"
    )


def test_a_socket_of_systemd_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    fd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach()
    monkeypatch.setattr(activation, "passed_sockets", lambda: [PassedSocket(fd, "journal")])
    assert listen_error() == "the socket journal of systemd is not a stream socket"
