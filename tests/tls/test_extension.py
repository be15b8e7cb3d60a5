"""The value of the ASGI extension `tls`."""

import ssl
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.harness.tls import Files, TlsClient, load
from wsgate.tls.extension import distinguished_name
from wsgate.tls.session import TlsSession


def described(files: Files, context: ssl.SSLContext, **settings: Any) -> Any:
    server = load(**files.issue("server"), **settings)
    client, session = TlsClient(context), TlsSession(server)
    while data := client.output():
        session.receive(data)
        client.receive(session.take_output())
    return server, session.describe()


def test_a_session_without_a_client_certificate(files: Files) -> None:
    server, found = described(files, files.client_context())
    assert found == {
        "server_cert": server.default.pem,
        "client_cert_chain": (),
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": 0x0304,
        "cipher_suite": 0x1302,
    }


def test_tls_1_2(files: Files) -> None:
    context = files.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    _, found = described(files, context)
    assert (found["tls_version"], found["cipher_suite"]) == (0x0303, 0xC02B)


def test_sessions_share_what_they_agree_on(files: Files) -> None:
    server = load(**files.issue("server"))
    found = []
    for _ in range(2):
        client, session = TlsClient(files.client_context()), TlsSession(server)
        while data := client.output():
            session.receive(data)
            client.receive(session.take_output())
        found.append(session.describe())
    assert found[0] is found[1]


def test_a_client_certificate(files: Files) -> None:
    own = files.issue(
        "client", "me@example.org", organization_name="A, B", organization_unit_name="C"
    )
    context = files.client_context(**own)
    settings: dict[str, Any] = {"ssl_cert_reqs": 2, "ssl_ca_certs": files.ca}
    _, found = described(files, context, **settings)
    assert found["client_cert_name"] == r"OU=C,O=A\, B"
    assert found["client_cert_error"] is None
    assert found["client_cert_chain"][0].startswith("-----BEGIN CERTIFICATE-----\n")


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ((), ""),
        # The examples of RFC 4514 section 4, and its rules in section 2.4.
        (
            [(("domainComponent", "net"),), (("domainComponent", "x"),), (("userId", "j"),)],
            "UID=j,DC=x,DC=net",
        ),
        ([[("organizationalUnitName", "Sales"), ("commonName", "J")]], "OU=Sales+CN=J"),
        ([[("commonName", 'James "Jim" Smith, III')]], r"CN=James \"Jim\" Smith\, III"),
        ([[("commonName", " #a ")]], r"CN=\ #a\ "),
        ([[("commonName", "#a")]], r"CN=\#a"),
        ([[("commonName", " ")]], r"CN=\ "),
        ([[("commonName", "a\0b=c")]], r"CN=a\00b=c"),
        ([[("emailAddress", "a@b")]], "emailAddress=a@b"),
        ([[("1.2.3", "x")]], "1.2.3=x"),
    ],
)
def test_a_distinguished_name(subject: Any, text: str) -> None:
    assert distinguished_name(subject) == text


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_no_value_adds_a_part(values: list[str]) -> None:
    name = distinguished_name([[("commonName", value)] for value in values])
    unescaped = name.replace("\\\\", "").replace("\\,", "")
    assert unescaped.count(",") == len(values) - 1
