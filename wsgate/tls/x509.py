"""The few fields of an X.509 certificate that the server needs: its names and its validity.

Python's ssl has no public function for them: `getpeercert` needs a handshake with a peer that
trusts the certificate, and `get_ca_certs` lists authorities only. OpenSSL has already loaded the
certificate when it is read here, so its structure is that of RFC 5280 section 4.1.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

# Tags of ASN.1, in DER (ITU-T X.690).
_SEQUENCE, _OID, _OCTETS, _UTC_TIME = 0x30, 0x06, 0x04, 0x17
_VERSION, _EXTENSIONS, _DNS_NAME = 0xA0, 0xA3, 0x82
_SUBJECT_ALT_NAME = bytes.fromhex("551d11")  # 2.5.29.17
_LONG = 0x80  # a length of more than one octet
_CENTURY = 1950  # RFC 5280 section 4.1.2.5.1: years of two digits begin here


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says.

    names: the DNS names of its subjectAltName, in lower case. not_before, not_after: the time in
    which it is valid, in UTC.
    """

    names: tuple[str, ...]
    not_before: dt.datetime
    not_after: dt.datetime


def read(certificate: bytes) -> Facts:
    """Return the facts of a certificate.

    Args:
        certificate: In DER.

    Raises:
        ValueError: It is no certificate.
    """
    ((_, whole),) = _elements(certificate)
    (_, signed), *_ = _elements(whole)
    fields = [field for field in _elements(signed) if field[0] != _VERSION]
    # RFC 5280 section 4.1: serialNumber, signature, issuer, validity, subject ...
    begin, end = _elements(fields[3][1])
    return Facts(tuple(_dns_names(fields)), _time(*begin), _time(*end))


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of each element in a sequence."""
    at = 0
    while at < len(data):
        try:
            tag, size = data[at], data[at + 1]
        except IndexError:
            raise ValueError("an element is cut off") from None
        at += 2
        if size >= _LONG:
            count = size - _LONG
            size = int.from_bytes(data[at : at + count])
            at += count
        if at + size > len(data):
            raise ValueError("an element is cut off")
        yield tag, data[at : at + size]
        at += size


def _dns_names(fields: list[tuple[int, bytes]]) -> Iterator[str]:
    for _, extensions in (field for field in fields if field[0] == _EXTENSIONS):
        ((_, each),) = _elements(extensions)
        for _, extension in _elements(each):
            (_, kind), *_, (_, value) = _elements(extension)
            if kind == _SUBJECT_ALT_NAME:
                ((_, names),) = _elements(value)
                for tag, name in _elements(names):
                    if tag == _DNS_NAME:
                        yield name.decode("latin-1").lower()


def _time(tag: int, value: bytes) -> dt.datetime:
    """Return a time, which ends in Z (RFC 5280 section 4.1.2.5)."""
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        year = int(text[:2])
        text = f"{year + (1900 if year >= _CENTURY % 100 else 2000)}{text[2:]}"
    return dt.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=dt.UTC)
