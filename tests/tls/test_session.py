"""A TLS session over memory: whole, in pieces, with trailing data; its ends and its failures."""

import ssl
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.harness.tls import Files, TlsClient, load
from wsgate.tls.certificates import Certificates
from wsgate.tls.session import RECORD, State, TlsSession

Cut = Callable[[bytes], Iterable[bytes]]


def whole(data: bytes) -> Iterable[bytes]:
    return [data] if data else []


def bytewise(data: bytes) -> Iterable[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


cuts = pytest.mark.parametrize("cut", [whole, bytewise])


def feed(session: TlsSession, data: bytes, cut: Cut = whole) -> bytes:
    """Return the plaintext of data."""
    return b"".join(session.receive(piece) for piece in cut(data))


def shake(client: TlsClient, session: TlsSession, cut: Cut = whole) -> None:
    """Complete the handshake, as far as it goes."""
    while data := client.output():
        assert feed(session, data, cut) == b""
        client.receive(session.take_output())


def opened(context: ssl.SSLContext, server: Certificates) -> tuple[TlsClient, TlsSession]:
    client, session = TlsClient(context), TlsSession(server)
    shake(client, session)
    assert client.is_open
    assert session.state is State.OPEN
    return client, session


@cuts
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_echo(
    context: ssl.SSLContext, server: Certificates, cut: Cut, version: ssl.TLSVersion
) -> None:
    context.maximum_version = version
    client, session = TlsClient(context), TlsSession(server)
    shake(client, session, cut)
    assert session.state is State.OPEN
    assert feed(session, client.write(b"ping") + client.write(b"pong"), cut) == b"pingpong"
    client.receive(session.encrypt(b"echo"))
    assert client.received == b"echo"
    assert not session.has_output


@cuts
def test_plaintext_right_after_the_handshake(
    context: ssl.SSLContext, server: Certificates, cut: Cut
) -> None:
    client, session = TlsClient(context), TlsSession(server)
    session.receive(client.output())
    client.receive(session.take_output())
    last = client.output() + client.write(b"early") + client.close()
    assert feed(session, last, cut) == b"early"
    assert session.state is State.CLOSED


def test_alpn_agrees_on_http(files: Files, server: Certificates) -> None:
    context = files.client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    client, _ = opened(context, server)
    assert client.tls.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize("size", [1, RECORD, RECORD + 1, 1_000_000])
def test_data_of_any_size_both_ways(
    context: ssl.SSLContext, server: Certificates, size: int
) -> None:
    client, session = opened(context, server)
    data = bytes(range(256)) * (size // 256 + 1)
    assert session.receive(client.write(data)) == data
    for kind in (bytes, bytearray, memoryview):
        client.received.clear()
        client.receive(session.encrypt(kind(data)))
        assert client.received == data


def test_many_small_records_at_once(context: ssl.SSLContext, server: Certificates) -> None:
    client, session = opened(context, server)
    assert session.receive(b"".join(client.write(b"x") for _ in range(5_000))) == b"x" * 5_000


class CountedReads:
    """The TLS object of a session. reads: how often it was read."""

    def __init__(self, tls: ssl.SSLObject) -> None:
        self._tls = tls
        self.reads = 0

    def read(self, size: int) -> bytes:
        self.reads += 1
        return self._tls.read(size)

    def pending(self) -> int:
        return self._tls.pending()


def test_a_record_whose_last_byte_comes_alone_is_not_read_byte_by_byte(
    context: ssl.SSLContext, server: Certificates
) -> None:
    client, session = opened(context, server)
    counted: Any = CountedReads(session._tls)
    session._tls = counted
    data = client.write(b"x" * RECORD) + client.write(b"y")
    last = len(data) - len(client.write(b"y"))
    assert session.receive(data[: last - 1]) == b""
    assert session.receive(data[last - 1 :]) == b"x" * RECORD + b"y"
    assert counted.reads <= 5


# -- the end ---------------------------------------------------------------------------------------


@cuts
def test_after_the_peers_close_notify_the_answer_still_leaves(
    context: ssl.SSLContext, server: Certificates, cut: Cut
) -> None:
    client, session = opened(context, server)
    assert feed(session, client.write(b"last") + client.close(), cut) == b"last"
    assert session.state is State.CLOSED
    client.receive(session.encrypt(b"answer"))
    assert (bytes(client.received), client.is_ended) == (b"answer", False)
    client.receive(session.close())
    assert client.is_ended
    assert session.receive(b"after the end") == b""
    assert session.state is State.CLOSED


def test_after_our_close_notify_data_still_arrives(
    context: ssl.SSLContext, server: Certificates
) -> None:
    client, session = opened(context, server)
    late = client.write(b"late")
    client.receive(session.close())
    assert client.is_ended
    assert session.receive(late) == b"late"
    session.receive(client.close())
    assert session.state is State.CLOSED
    assert session.close() == b""


def test_a_close_before_the_handshake_sends_nothing(server: Certificates) -> None:
    assert TlsSession(server).close() == b""


# -- failures --------------------------------------------------------------------------------------


@cuts
@pytest.mark.parametrize(
    ("data", "alert"),
    [
        (b"\x00" * 20, b""),  # no record of TLS: OpenSSL says nothing
        (b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\xff" * 9, b"\x15"),
    ],
)
def test_garbage_fails(server: Certificates, cut: Cut, data: bytes, alert: bytes) -> None:
    session = TlsSession(server)
    assert feed(session, data, cut) == b""
    assert session.state is State.FAILED
    assert session.failure
    assert session.take_output()[:1] == alert
    assert session.receive(b"more") == b""
    assert not session.has_output


def test_a_client_that_is_too_old_gets_an_alert(files: Files, context: ssl.SSLContext) -> None:
    server = load(**files.issue("new"), ssl_min_version="TLSv1.3")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    client, session = TlsClient(context), TlsSession(server)
    session.receive(client.output())
    assert (session.state, session.failure) == (State.FAILED, "unsupported protocol")
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        client.receive(session.take_output())


def test_a_client_that_does_not_trust_us(server: Certificates) -> None:
    client, session = TlsClient(ssl.create_default_context()), TlsSession(server)
    session.receive(client.output())
    with pytest.raises(ssl.SSLCertVerificationError):
        client.receive(session.take_output())
    session.receive(client._outgoing.read())
    assert (session.state, session.failure) == (State.FAILED, "tlsv1 alert unknown ca")


def test_plaintext_before_a_bad_record_is_returned(
    context: ssl.SSLContext, server: Certificates
) -> None:
    client, session = opened(context, server)
    good, bad = client.write(b"good"), bytearray(client.write(b"bad"))
    bad[-1] ^= 1
    assert session.receive(good + bytes(bad)) == b"good"
    assert session.state is State.FAILED
    assert session.has_output


@pytest.mark.parametrize("required", [1, 2])
def test_client_certificates(files: Files, required: int) -> None:
    settings: dict[str, Any] = {"ssl_cert_reqs": required, "ssl_ca_certs": files.ca}
    server = load(**files.issue("server"), **settings)

    def end_of(context: ssl.SSLContext) -> TlsSession:
        client, session = TlsClient(context), TlsSession(server)
        session.receive(client.output())
        client.receive(session.take_output())
        session.receive(client.output())
        return session

    known = end_of(files.client_context(**files.issue("client", "me@example.org")))
    assert known.state is State.OPEN
    assert len(known.describe()["client_cert_chain"]) >= 1
    without = end_of(files.client_context())
    stranger = Files(Path(tempfile.mkdtemp(dir=files.folder)))
    forged = end_of(files.client_context(**stranger.issue("stranger", "me@example.org")))
    assert (forged.state, forged.failure[:25]) == (State.FAILED, "the client's certificate:")
    if required == 1:
        assert without.state is State.OPEN
        assert without.describe()["client_cert_chain"] == ()
    else:
        assert without.failure == "the client's certificate: it is missing"


# -- resumption ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed(
    context: ssl.SSLContext, server: Certificates, version: ssl.TLSVersion
) -> None:
    context.maximum_version = version
    first, session = opened(context, server)
    first.receive(session.encrypt(b"tickets come before this"))
    again, session = TlsClient(context, session=first.tls.session), TlsSession(server)
    shake(again, session)
    assert again.is_open
    assert again.tls.session_reused


# -- anything --------------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1, max_size=400), max_size=8))
def test_no_bytes_make_it_raise(server: Certificates, pieces: list[bytes]) -> None:
    session = TlsSession(server)
    for piece in pieces:
        assert session.receive(piece) == b""
    session.take_output()
    assert session.state in {State.HANDSHAKE, State.FAILED}


@given(st.data())
def test_one_wrong_byte_never_becomes_plaintext(
    files: Files, server: Certificates, data: st.DataObject
) -> None:
    client, session = opened(files.client_context(), server)
    messages = [b"first", b"second" * 100, b"third"]
    stream = bytearray(b"".join(map(client.write, messages)))
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(1, len(stream)))
    found = b"".join(session.receive(bytes(p)) for p in (stream[:cut], stream[cut:]) if p)
    assert b"".join(messages).startswith(found)
    assert found != b"".join(messages) or session.state is State.FAILED
