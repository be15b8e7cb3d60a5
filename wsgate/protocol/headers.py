"""The grammar of HTTP fields that the request, the handshake and the app's headers share.

Sources: RFC 9110 section 5.6 (tokens, lists, quoted strings), RFC 3986 section 3.2.2 (hosts).
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator

from wsgate.errors import InvalidMessage
from wsgate.types import Header

_TOKEN = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
# RFC 9110 section 5.5: "Field values containing CR, LF, or NUL characters are invalid and
# dangerous"; the other control characters but HTAB are no part of a field-value either.
_NOT_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_HOST = re.compile(
    rb"(?:\[(?P<ip>[0-9A-Fa-f:.]+)\]|(?P<name>(?:[-A-Za-z0-9._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+))"
    rb"(?::(?P<port>[0-9]*))?"
)


def is_token(value: bytes) -> bool:
    """Tell whether `value` is a token (RFC 9110 section 5.6.2)."""
    return _TOKEN.fullmatch(value) is not None


def is_host(value: bytes) -> bool:
    """Tell whether `value` is `uri-host [ ":" port ]` (RFC 9110 section 7.2), not empty."""
    match = _HOST.fullmatch(value)
    if match is None:
        return False
    port = match["port"]
    if port and (len(port) > 5 or int(port) > 65535):  # noqa: PLR2004  # a port has 16 bits
        return False
    return match["ip"] is None or _is_ipv6(match["ip"])


def _is_ipv6(value: bytes) -> bool:
    try:
        ipaddress.IPv6Address(value.decode("ascii"))
    except ValueError:
        return False
    return True


def values_of(headers: Iterable[Header], name: bytes) -> list[bytes]:
    """Return the values of all headers called `name`, in order."""
    return [value for key, value in headers if key == name]


def token_list(headers: Iterable[Header], name: bytes) -> list[bytes]:
    """Return the members of a comma-separated field, in lower case.

    RFC 9110 section 5.3: several lines of one name are one list; section 5.6.1.2: "a recipient
    MUST parse and ignore a reasonable number of empty list elements".
    """
    members = (m.strip(b" \t") for v in values_of(headers, name) for m in v.split(b","))
    return [m.lower() for m in members if m]


def split_quoted(value: str, separator: str) -> Iterator[str]:
    """Split at `separator` where it stands outside a quoted string (RFC 9110 section 5.6.4)."""
    start, quoted, escaped = 0, False, False
    for i, char in enumerate(value):
        if escaped:
            escaped = False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == separator and not quoted:
            yield value[start:i]
            start = i + 1
    yield value[start:]


def checked(headers: object) -> list[Header]:
    """Return the app's headers with lower-case names.

    Raises InvalidMessage for a header that is not a pair of bytes, a name that is no token and a
    value with a control character: with CR LF in it, a value would become a header of its own.
    """
    if not isinstance(headers, Iterable):
        raise InvalidMessage(f"headers are a list of pairs, not {headers!r}")
    return [_checked(*_pair(header)) for header in headers]


def _pair(header: object) -> Header:
    # What an app sends may be anything, whatever the type checker was told.
    if not isinstance(header, Iterable) or len(pair := list(header)) != 2:  # noqa: PLR2004  # a pair
        raise InvalidMessage(f"a header is a pair of name and value, not {header!r}")
    name, value = pair
    if not isinstance(name, bytes) or not isinstance(value, bytes):
        raise InvalidMessage(f"a header's name and value are bytes, not {header!r}")
    return name, value


def _checked(name: bytes, value: bytes) -> Header:
    if not is_token(name):
        raise InvalidMessage(f"{name!r} is no header name (RFC 9110 section 5.1)")
    if _NOT_IN_VALUE.search(value):
        raise InvalidMessage(f"the value of the header {name!r} has a control character")
    return name.lower(), value.strip(b" \t")
