"""Contexts that the program makes, with uvicorn's keyword `ssl_context_factory`."""

import ssl
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.tls import Files, TlsClient, load
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.tls.certificates import Certificates
from wsgate.tls.session import TlsSession

Default = Callable[[], ssl.SSLContext]


def described(files: Files, server: Certificates, name: str = "localhost") -> tuple[str, Any]:
    """Return the certificate that a client gets, and the value of the extension."""
    context = files.client_context()
    context.check_hostname = False
    client, session = TlsClient(context, name), TlsSession(server)
    while data := client.output():
        session.receive(data)
        client.receive(session.take_output())
    der = client.tls.getpeercert(binary_form=True) or b""
    return ssl.DER_cert_to_PEM_cert(der), session.describe()


def error_of(factory: Any, **settings: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        load(ssl_context_factory=factory, **settings)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_the_default_context_is_what_the_settings_describe(files: Files) -> None:
    given: list[Config] = []

    def factory(config: Config, default: Default) -> ssl.SSLContext:
        given.append(config)
        context = default()
        assert context.minimum_version == ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(["special"])
        return context

    settings = files.issue("server") | {"ssl_min_version": "TLSv1.3"}
    server = load(ssl_context_factory=factory, **settings)
    assert given == [Config(ssl_context_factory=factory, **settings)]
    _, found = described(files, server)
    assert (found["server_cert"], found["tls_version"]) == (None, 0x0304)
    assert found["cipher_suite"] == 0x1302
    assert server.default.facts is not None


def test_a_context_of_its_own_needs_no_file(files: Files) -> None:
    pair = files.issue("own")

    def factory(config: Config, default: Default) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pair["ssl_certfile"], pair["ssl_keyfile"])
        return context

    server = load(ssl_context_factory=factory)
    assert server.default.facts is None
    pem, found = described(files, server)
    assert pem in (files.folder / "own.pem").read_text()
    assert found["server_cert"] is None


def test_each_certificate_has_a_context(files: Files) -> None:
    pairs = [files.issue("one", "one.example"), files.issue("two", "two.example")]
    made: list[ssl.SSLContext] = []

    def factory(config: Config, default: Default) -> ssl.SSLContext:
        made.append(default())
        return made[-1]

    names = ("ssl_certfile", "ssl_keyfile")
    lists = {name: [pair[name] for pair in pairs] for name in names}
    server = load(ssl_context_factory=factory, **lists)
    assert [one.context for one in server.all] == made
    for name in ("one", "two"):
        pem, _ = described(files, server, f"{name}.example")
        assert pem in (files.folder / f"{name}.pem").read_text()


def test_the_factory_may_choose_by_name_itself(files: Files) -> None:
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = files.issue("other")
    other.load_cert_chain(pair["ssl_certfile"], pair["ssl_keyfile"])

    def choose(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        tls.context = other

    def factory(config: Config, default: Default) -> ssl.SSLContext:
        context = default()
        context.sni_callback = choose
        return context

    pairs = [files.issue("one", "one.example"), files.issue("two", "two.example")]
    lists = {name: [pair[name] for pair in pairs] for name in ("ssl_certfile", "ssl_keyfile")}
    pem, found = described(files, load(ssl_context_factory=factory, **lists), "two.example")
    assert pem in (files.folder / "other.pem").read_text()
    assert found["server_cert"] is None


def test_errors_are_one_line(files: Files) -> None:
    pair = files.issue("server")
    cause = ValueError("two\nlines")

    def fail(config: Config, default: Default) -> ssl.SSLContext:
        raise cause

    assert error_of(fail) == r"ssl_context_factory failed: ValueError('two\nlines')"
    with pytest.raises(ConfigError) as raised:
        load(ssl_context_factory=fail)
    assert raised.value.__cause__ is cause
    assert error_of(lambda _, default: default()) == (
        "ssl_context_factory: the default context needs ssl_certfile"
    )
    assert error_of(lambda *_: None, **pair) == (
        "ssl_context_factory must return an ssl.SSLContext, not a NoneType"
    )
    assert error_of(lambda *_: ssl.create_default_context(), **pair).startswith(
        "ssl_context_factory returned a context that no server can use: "
    )
    assert error_of(lambda: None).startswith("ssl_context_factory failed: TypeError(")
    (files.folder / "server.key").write_text("junk")
    assert error_of(lambda _, default: default(), **pair).startswith("--ssl-keyfile ")
