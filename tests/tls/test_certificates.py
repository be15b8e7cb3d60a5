"""The files that the settings name: what is loaded, what SNI chooses, and each error in a line."""

import datetime as dt
import re
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from tests.harness.tls import Files, TlsClient, load, now
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.tls import certificates, x509
from wsgate.tls.session import TlsSession

DAY = dt.timedelta(days=1)


def error_of(*, at: dt.datetime | None = None, **settings: Any) -> tuple[str, str | None]:
    """Return the error of settings without the folders of its files, and the setting it names."""
    with pytest.raises(ConfigError) as raised:
        certificates.load(Config(**settings), at or now())
    text = str(raised.value)
    assert "\n" not in text
    assert text.startswith(f"--{str(raised.value.setting).replace('_', '-')}")
    return re.sub(r"/\S+/", "", text), raised.value.setting


def copy(files: Files, name: str, content: str | bytes) -> str:
    path = files.folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


# -- what is loaded --------------------------------------------------------------------------------


def test_certificate_and_key_in_one_file(files: Files) -> None:
    pair = files.issue("a", "a.example")
    both = Path(pair["ssl_certfile"]).read_text() + Path(pair["ssl_keyfile"]).read_text()
    loaded = load(ssl_certfile=copy(files, "both.pem", "a comment: \xe9\n" + both))
    assert loaded.default.facts is not None
    assert loaded.default.facts.names == ("a.example",)
    assert load(**pair).default.pem == loaded.default.pem


def test_the_pem_of_a_certificate_is_its_first_block(files: Files) -> None:
    pair = files.issue("a", "a.example")
    chain = Path(pair["ssl_certfile"]).read_text() + files.ca.read_text()
    loaded = load(ssl_certfile=copy(files, "chain.pem", chain), ssl_keyfile=pair["ssl_keyfile"])
    pem = loaded.default.pem
    assert pem is not None
    assert chain.startswith(pem)
    assert pem.count("BEGIN") == 1


def test_an_encrypted_key(files: Files) -> None:
    pair = files.issue("a")
    plain = serialization.load_pem_private_key(Path(pair["ssl_keyfile"]).read_bytes(), None)
    encrypted = plain.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    key = copy(files, "encrypted.key", encrypted)
    names = {"ssl_certfile": pair["ssl_certfile"], "ssl_keyfile": key}
    load(**names, ssl_keyfile_password="secret")
    assert error_of(**names, ssl_keyfile_password="wrong") == (
        "--ssl-keyfile encrypted.key: --ssl-keyfile-password does not decrypt it",
        "ssl_keyfile",
    )
    assert error_of(**names) == (
        "--ssl-keyfile encrypted.key: --ssl-keyfile-password is missing: the key is encrypted",
        "ssl_keyfile",
    )
    assert error_of(**names, ssl_keyfile_password="x" * 2000)[1] == "ssl_keyfile"


def test_versions_and_options(files: Files) -> None:
    pair = files.issue("a")
    context = load(**pair).default.context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.maximum_version == ssl.TLSVersion.MAXIMUM_SUPPORTED
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.verify_mode == ssl.CERT_NONE
    only = load(**pair, ssl_version=5, ssl_ciphers="ECDHE+AESGCM").default.context
    assert only.maximum_version == ssl.TLSVersion.TLSv1_2
    names = {one["name"] for one in only.get_ciphers()} - {"TLS_AES_256_GCM_SHA384"}
    assert all("GCM" in name or name.startswith("TLS_") for name in names)
    newest = load(**pair, ssl_min_version="TLSv1.3").default.context
    assert newest.minimum_version == ssl.TLSVersion.TLSv1_3


def test_the_files_that_are_read(files: Files) -> None:
    config = Config(ssl_certfile=["a", "b"], ssl_keyfile=["c", "d"], ssl_ca_certs=Path("e"))
    assert certificates.files_of(config) == ["a", "b", "c", "d", "e"]
    assert certificates.files_of(Config(ssl_certfile="a")) == ["a"]


# -- SNI -------------------------------------------------------------------------------------------


@pytest.fixture
def several(files: Files) -> certificates.Certificates:
    pairs = [
        files.issue("default", "default.example"),
        files.issue("exact", "www.example.com", "www.example.net"),
        files.issue("wild", "*.example.com", "example.com", "WWW.example.com"),
    ]
    return load(
        ssl_certfile=[pair["ssl_certfile"] for pair in pairs],
        ssl_keyfile=[pair["ssl_keyfile"] for pair in pairs],
    )


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("default.example", 0),
        ("www.example.com", 1),
        ("WWW.Example.NET", 1),
        ("a.example.com", 2),
        ("example.com", 2),
        ("a.b.example.com", 0),  # a wildcard stands for one label
        ("example.org", 0),
        ("com", 0),
        (None, 0),
    ],
)
def test_the_certificate_of_a_name(
    files: Files, several: certificates.Certificates, name: str | None, chosen: int
) -> None:
    context = files.client_context()
    context.check_hostname = False
    client, session = TlsClient(context, name), TlsSession(several)
    while data := client.output():
        session.receive(data)
        client.receive(session.take_output())
    got = ssl.DER_cert_to_PEM_cert(client.tls.getpeercert(binary_form=True) or b"")
    assert got == several.all[chosen].pem
    assert session.describe()["server_cert"] == got


# -- errors ----------------------------------------------------------------------------------------


def test_files_that_are_missing(files: Files) -> None:
    pair = files.issue("a")
    gone = str(files.folder / "gone")
    why = "No such file or directory"
    assert error_of(ssl_certfile=gone) == (f"--ssl-certfile gone: {why}", "ssl_certfile")
    assert error_of(**pair | {"ssl_keyfile": gone}) == (f"--ssl-keyfile gone: {why}", "ssl_keyfile")
    assert error_of(**pair, ssl_ca_certs=gone) == (f"--ssl-ca-certs gone: {why}", "ssl_ca_certs")
    assert error_of(**pair | {"ssl_keyfile": ""}) == (f"--ssl-keyfile : {why}", "ssl_keyfile")
    assert error_of(ssl_certfile="") == (f"--ssl-certfile : {why}", "ssl_certfile")
    assert error_of(ssl_certfile="a\0b")[1] == "ssl_certfile"
    assert error_of(ssl_certfile="a\nb") == (rf"--ssl-certfile a\nb: {why}", "ssl_certfile")
    assert error_of(ssl_certfile="a\udcffb")[1] == "ssl_certfile"
    assert error_of(ssl_certfile=str(files.folder))[0].endswith("Is a directory")


def test_a_key_of_another_certificate(files: Files) -> None:
    one, other = files.issue("one"), files.issue("other")
    assert error_of(ssl_certfile=one["ssl_certfile"], ssl_keyfile=other["ssl_keyfile"]) == (
        "--ssl-keyfile other.key: the key is not that of the certificate in one.pem",
        "ssl_keyfile",
    )
    both = Path(one["ssl_certfile"]).read_text() + Path(other["ssl_keyfile"]).read_text()
    assert error_of(ssl_certfile=copy(files, "both.pem", both)) == (
        "--ssl-certfile both.pem: the key is not that of its first certificate",
        "ssl_certfile",
    )


def test_a_key_of_another_type(files: Files) -> None:
    one = files.issue("one", key_type=trustme.KeyType.ECDSA)
    other = files.issue("other", key_type=trustme.KeyType.RSA)
    for cert, key in ((one, other), (other, one)):
        text, setting = error_of(ssl_certfile=cert["ssl_certfile"], ssl_keyfile=key["ssl_keyfile"])
        assert "the key is not that of the certificate in " in text
        assert setting == "ssl_keyfile"


def test_the_second_pair_is_checked_too(files: Files) -> None:
    one, other = files.issue("one"), files.issue("other")
    text, _ = error_of(
        ssl_certfile=[one["ssl_certfile"], other["ssl_certfile"]],
        ssl_keyfile=[one["ssl_keyfile"], one["ssl_keyfile"]],
    )
    assert text == "--ssl-keyfile one.key: the key is not that of the certificate in other.pem"


def test_files_without_what_they_should_have(files: Files) -> None:
    pair = files.issue("a")
    pem, key = Path(pair["ssl_certfile"]), Path(pair["ssl_keyfile"])
    none = "it has no certificate in PEM"
    for content in ("", "junk", key.read_text(), pem.read_text()[:200]):
        file = copy(files, "bad.pem", content)
        assert error_of(ssl_certfile=file)[0] == f"--ssl-certfile bad.pem: {none}"
    for content in (
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
        pem.read_text() + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ):
        file = copy(files, "bad.pem", content)
        text, _ = error_of(ssl_certfile=file, ssl_keyfile=str(key))
        assert text == "--ssl-certfile bad.pem: a certificate in it is damaged"
    assert error_of(ssl_certfile=str(pem))[0] == (
        "--ssl-certfile a.pem: it has no private key; name it by --ssl-keyfile"
    )
    for content in ("junk", pem.read_text(), key.read_text()[:90]):
        file = copy(files, "bad.key", content)
        assert error_of(ssl_certfile=str(pem), ssl_keyfile=file)[0] == (
            "--ssl-keyfile bad.key: it has no private key in PEM, or a damaged one"
        )
    for content in ("junk", pem.read_text()[:200]):
        text, _ = error_of(**pair, ssl_ca_certs=copy(files, "bad-ca.pem", content))
        assert text.startswith("--ssl-ca-certs bad-ca.pem: ")


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl")
def test_a_key_that_openssl_considers_too_weak(files: Files) -> None:
    key, pem = str(files.folder / "weak.key"), str(files.folder / "weak.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:512", "-nodes", "-subj", "/CN=a"]
    subprocess.run([*command, "-keyout", key, "-out", pem], check=True, capture_output=True)
    text, _ = error_of(ssl_certfile=pem, ssl_keyfile=key)
    assert text == "--ssl-certfile weak.pem: ee key too small"


def test_certificates_out_of_their_time(files: Files) -> None:
    begin, end = now() - 2 * DAY, now() - DAY
    pair = files.issue("old", not_before=begin, not_after=end)
    assert error_of(**pair) == (
        f"--ssl-certfile old.pem: it expired on {end:%Y-%m-%d %H:%M:%S} UTC",
        "ssl_certfile",
    )
    text, _ = error_of(**pair, at=begin - DAY)
    assert text == f"--ssl-certfile old.pem: it is not valid before {begin:%Y-%m-%d %H:%M:%S} UTC"
    certificates.load(Config(**pair), end - DAY / 2)


def test_a_certificate_whose_facts_cannot_be_read(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: bytes) -> None:
        raise ValueError("a time without Z")

    monkeypatch.setattr(x509, "read", read)
    text, _ = error_of(**files.issue("a"))
    assert text == "--ssl-certfile a.pem: its names or its validity are malformed"


def test_several_certificates_are_not_separated_by_commas(files: Files) -> None:
    text, setting = error_of(ssl_certfile="a.pem,b.pem", ssl_keyfile="a.key")
    reason = "No such file or directory; for several files repeat the option"
    assert (text, setting) == (f"--ssl-certfile a.pem,b.pem: {reason}", "ssl_certfile")


def test_ciphers_that_do_not_exist(files: Files) -> None:
    pair = files.issue("a")
    for ciphers in ("nonsense", "\udcff", "AES\0", "TLS_AES_128_GCM_SHA256", "\n"):
        assert error_of(**pair, ssl_ciphers=ciphers) == (
            f"--ssl-ciphers: OpenSSL has none of {ciphers!r}",
            "ssl_ciphers",
        )


def test_an_rsa_key(files: Files) -> None:
    assert load(**files.issue("rsa", key_type=trustme.KeyType.RSA)).default.facts
