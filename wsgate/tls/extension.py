"""The value of the ASGI extension `tls` (version 0.2): what a session has agreed on."""

import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsgate.tls.certificates import Certificates

_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}

# RFC 4514 section 3: the short names of attributes; others have no short name.
_SHORT = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
_SPECIAL = '"+,;<>\\'  # RFC 4514 section 2.4: escaped everywhere


def describe(tls: ssl.SSLObject, certificates: "Certificates") -> Mapping[str, Any]:
    """Return the extension's value of a session whose handshake is complete.

    Sessions without a client's certificate that have agreed on the same share the mapping.

    Args:
        tls: The session.
        certificates: Those that it was created with.
    """
    cipher = tls.cipher()
    name = cipher[0] if cipher else ""
    certificate = certificates.by_context.get(tls.context)  # None: a program's SNI chose another
    pem = certificate.pem if certificate else None
    key = (pem, tls.version(), name)
    shared = certificates.descriptions.get(key)
    if shared is None:
        shared = certificates.descriptions[key] = {
            "server_cert": pem,
            "client_cert_chain": (),  # shared, so it must not be a list
            "client_cert_name": None,
            "client_cert_error": None,  # a client whose certificate is invalid is refused
            "tls_version": _VERSIONS.get(tls.version() or ""),
            "cipher_suite": certificates.cipher_suites.get(name),
        }
    subject = tls.getpeercert()
    if not subject:
        return shared
    return shared | {
        "client_cert_chain": tuple(map(ssl.DER_cert_to_PEM_cert, _chain(tls))),
        "client_cert_name": distinguished_name(subject.get("subject", ())),
    }


def _chain(tls: ssl.SSLObject) -> list[bytes]:
    """Return the certificates that the client sent, its own first.

    Before Python 3.13 there is no public way to get those of its authorities.
    """
    if hasattr(tls, "get_unverified_chain"):
        return list(tls.get_unverified_chain())
    own = tls.getpeercert(binary_form=True)
    return [own] if own else []


def distinguished_name(subject: Any) -> str:
    """Return a subject as a string (RFC 4514 section 2), whose most specific part is first.

    Args:
        subject: As `getpeercert` returns it: a tuple of parts, each a tuple of names and values.
    """
    parts = ("+".join(f"{_SHORT.get(n, n)}={_escape(v)}" for n, v in part) for part in subject)
    return ",".join(reversed(list(parts)))


def _escape(value: str) -> str:
    """Return an attribute's value with its special characters escaped (section 2.4)."""
    escaped = "".join(f"\\{c}" if c in _SPECIAL else "\\00" if c == "\0" else c for c in value)
    if escaped.endswith(" "):
        escaped = escaped[:-1] + "\\ "
    return "\\" + escaped if escaped[:1] in {" ", "#"} else escaped
