"""Which peers are trusted: addresses, networks, `*`, and names of Unix sockets."""

import pytest
from hypothesis import given, strategies as st

from wsgate.proxies.trusted import TrustedPeers
from wsgate.types import Address

V4 = ["127.0.0.1", "10.0.0.0/8"]
V6 = ["2001:db8::", "2001:0db8:0001:0000:0000:0ab9:C0A8:0102", "::11.22.33.44"]
V6_NETWORK = ["2001:db8:abcd:0012::0/64"]
LITERALS = ["some-literal", " unix:/foo/bar ", "/foo/baz", "garba*gewith*", "", "*"]


@pytest.mark.parametrize(
    ("entries", "trusted", "untrusted"),
    [
        ([], [], ["127.0.0.1", "::1", "unix:", "*", ""]),
        ([""], [], ["127.0.0.1", ""]),
        (["*"], ["127.0.0.1", "::1", "unix:", "anything", ""], []),
        ([" * "], ["192.0.2.1"], []),
        (V4, ["127.0.0.1", "10.0.0.0", "10.255.255.255"], ["127.0.0.2", "11.0.0.0", "::1", ""]),
        (V4, ["::ffff:127.0.0.1", "::ffff:10.1.2.3"], ["::ffff:127.0.0.2", "::127.0.0.1"]),
        (["::ffff:10.0.0.0/104"], ["::ffff:10.1.2.3"], ["10.1.2.3"]),
        (V6, ["2001:db8::", "2001:db8:1::ab9:c0a8:102", "::b16:212c"], ["2001:db8::1", "::"]),
        (V6_NETWORK, ["2001:db8:abcd:12::1:1"], ["2001:db8:abcd:13::", "10.0.0.1"]),
        (["fe80::/10"], ["fe80::1%eth0", "fe80::1"], ["fec0::1%eth0"]),
        (["fe80::1"], ["fe80::1%eth0", "fe80::1"], ["fe80::2%eth0"]),
        (["fe80::1%eth0"], ["fe80::1%eth0"], ["fe80::1%eth1", "fe80::1"]),
        (["127.0.0.1"], [], ["127.0.0.1%eth0", "127.0.0.1%"]),
        (["127.0.0.1/32"], ["127.0.0.1"], ["127.0.0.2"]),
        (LITERALS, ["some-literal", "unix:/foo/bar", "*"], ["127.0.0.1", "/foo/bar", ""]),
        # Neither an address nor a network: as in uvicorn they match nothing.
        (["10.0.0.1/8", "10.0.0.0/33", "10.0.0.256"], [], ["10.0.0.1", "10.0.0.0"]),
        (["x" * 300], ["x" * 300], ["x" * 299]),
    ],
)
def test_names_that_are_trusted(
    entries: list[str], trusted: list[str], untrusted: list[str]
) -> None:
    peers = TrustedPeers(entries)
    for name in trusted:
        assert peers.trusts(name), name
    for name in untrusted:
        assert not peers.trusts(name), name


@pytest.mark.parametrize(
    ("entries", "client", "server", "is_trusted"),
    [
        (["127.0.0.1"], ("127.0.0.1", 5), ("127.0.0.1", 80), True),
        (["127.0.0.1"], ("127.0.0.2", 5), ("127.0.0.1", 80), False),
        (["*"], None, None, True),
        (["*"], ("192.0.2.1", 5), None, True),
        (["127.0.0.1", "::1"], None, ("/run/app.sock", None), False),
        (["/run/app.sock"], None, ("/run/app.sock", None), True),
        (["unix:/run/app.sock"], None, ("/run/app.sock", None), True),
        (["unix:///run/app.sock"], None, ("/run/app.sock", None), True),
        (["unix:"], None, ("/run/app.sock", None), True),
        (["/run/other.sock"], None, ("/run/app.sock", None), False),
        (["app.sock"], None, ("app.sock", None), True),
        # A client whose address is not known is not on a Unix socket.
        (["unix:"], None, ("127.0.0.1", 80), False),
        (["unix:", "127.0.0.1"], None, None, False),
    ],
)
def test_the_peer_of_a_connection(
    entries: list[str], client: Address | None, server: Address | None, is_trusted: bool
) -> None:
    assert TrustedPeers(entries).trusts_peer(client, server) is is_trusted


def test_entries_that_name_sockets_or_nothing() -> None:
    entries = ["::1", "10.0.0.0/8", "/run/x", "unix:/x", "10.0.0.1/8", "localhost", "*", ""]
    names = ["*", "/run/x", "10.0.0.1/8", "localhost", "unix:/x"]
    assert TrustedPeers([*entries, "unix:"]).names == names
    assert TrustedPeers(["*"]).names == []


def test_a_socket_that_an_entry_names_in_another_way() -> None:
    peers = TrustedPeers(["unix:app.sock"])
    server = ("/run/app.sock", None)
    assert not peers.trusts_peer(None, server)
    peers.trust_socket("/run/app.sock")
    assert peers.trusts_peer(None, server)
    assert not peers.trusts_peer(None, ("/run/other.sock", None))
    assert not peers.trusts("/run/app.sock"), "it is the name of no host"


@given(st.lists(st.text()), st.text())
def test_no_text_raises(entries: list[str], name: str) -> None:
    peers = TrustedPeers(entries)
    assert peers.trusts(name) is peers.trusts(name)
    assert peers.trusts_peer((name, 1), None) is peers.trusts(name)
