"""The reader of certificates, beside `cryptography`."""

import contextlib
import datetime as dt
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509 as reference
from hypothesis import given, strategies as st

from wsgate.tls import x509

AUTHORITY = trustme.CA()
moments = st.integers(1_951, 9_998).flatmap(
    lambda year: st.integers(0, 364 * 86_400 - 1).map(
        lambda second: dt.datetime(year, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=second)
    )
)


def der_of(*names: str, **options: Any) -> bytes:
    issued = AUTHORITY.issue_cert(*names, **options)
    return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())


@given(moments, moments)
def test_the_validity_is_read_in_both_formats(begin: dt.datetime, end: dt.datetime) -> None:
    begin, end = sorted((begin, end))
    data = der_of("a.example", not_before=begin, not_after=end)
    facts = x509.read(data)
    parsed = reference.load_der_x509_certificate(data)
    assert facts.not_before == parsed.not_valid_before_utc == begin
    assert facts.not_after == parsed.not_valid_after_utc == end


@given(st.lists(st.from_regex(r"(\*\.)?[a-z]{1,9}(\.[A-Za-z]{1,9}){1,20}", fullmatch=True)))
def test_the_dns_names_are_read_in_lower_case(names: list[str]) -> None:
    facts = x509.read(der_of(*names, "127.0.0.1", "me@example.org"))
    assert facts.names == tuple(name.lower() for name in names)


def test_the_authority_of_certificates_has_no_names() -> None:
    data = ssl.PEM_cert_to_DER_cert(AUTHORITY.cert_pem.bytes().decode())
    assert x509.read(data).names == ()


@pytest.mark.parametrize("path", sorted(Path("/etc/ssl/certs").glob("*.pem"))[:50], ids=str)
def test_certificates_of_the_system(path: Path) -> None:
    data = ssl.PEM_cert_to_DER_cert(path.read_text())
    parsed = reference.load_der_x509_certificate(data)
    assert x509.read(data).not_after == parsed.not_valid_after_utc


CERTIFICATE = der_of("a.example", "*.b.example")  # one: its size varies


@given(st.data())
def test_damaged_certificates_raise_only_value_error(data: st.DataObject) -> None:
    certificate = bytearray(CERTIFICATE)
    for _ in range(data.draw(st.integers(0, 3))):
        certificate[data.draw(st.integers(0, len(certificate) - 1))] = data.draw(
            st.integers(0, 255)
        )
    del certificate[data.draw(st.integers(1, len(certificate))) :]
    with contextlib.suppress(ValueError):
        x509.read(bytes(certificate))
