"""Origin check: which pages may open a WebSocket (RFC 6455 section 10.2, RFC 6454 section 7)."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from wsgate.errors import ConfigError
from wsgate.fields import is_host

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:\*\.)?[^/*?#@\s]+")
_SPECIAL = ("none", "null", "same")  # no Origin header; the Origin of a sandboxed page; see `Site`
_PORTS = {"http": 80, "https": 443}  # RFC 6454 section 4: an origin's default port
_SCHEMES = {"ws": "http", "wss": "https"}  # RFC 6455 section 3: of the pages that use them


class Site(NamedTuple):
    """The URL of a request as its client sees it, which is the one outside of trusted proxies.

    scheme: "http" or "https". host: with its port, if the client sent one.
    """

    scheme: str
    host: bytes


class Origins:
    """The allowed origins.

    Args:
        allowed: Origins as browsers send them, `https://example.com`, with a port unless it is the
            default of the scheme; `https://*.example.com` for all subdomains; `same` for the
            origin of the request itself; `null`; `none` for clients that send no Origin, such as
            programs.

    Raises:
        ConfigError: An entry is something else.
    """

    def __init__(self, allowed: Sequence[str]) -> None:
        lower = [origin.lower().rstrip("/") for origin in allowed]
        for origin in lower:
            if origin not in _SPECIAL and not _ORIGIN.fullmatch(origin):
                raise ConfigError(f"--ws-origins: {_fault(origin)}", setting="ws_origins")
        self._allows_same = "same" in lower
        self._allows_none = "none" in lower
        self._exact = frozenset(o for o in lower if "*" not in o and o not in ("same", "none"))
        self._wildcards = [tuple(origin.split("*", 1)) for origin in lower if "*" in origin]

    def allow(self, values: Sequence[bytes], site: Site) -> bool:
        """Return whether a request may connect.

        Args:
            values: Those of all its Origin headers.
            site: The request's own URL.
        """
        if not values:
            return self._allows_none
        if len(values) > 1 or not values[0].isascii():
            return False
        origin = values[0].decode("ascii").lower()
        if origin in self._exact or (self._allows_same and is_same(origin, site)):
            return True
        return any(_is_subdomain(origin, before, after) for before, after in self._wildcards)


def _fault(entry: str) -> str:
    """Return what is wrong with an entry, and the form that it may have."""
    if entry == "*":
        return "'*' is not an origin; without the option, all may connect"
    example = (
        f"https://{entry}" if entry.isascii() and is_host(entry.encode()) else "https://example.com"
    )
    return f"{entry!r} is not an origin such as {example}"


def is_same(origin: str, site: Site) -> bool:
    """Return whether an origin is that of the site.

    RFC 6454 section 5: two origins are the same if their schemes, hosts and ports are "identical".
    Hosts are compared as text: one browser has written both the Origin and the Host. So a host with
    a trailing dot, or an IPv6 address that is spelled differently, is another host.

    Args:
        origin: In lower case.
        site: The request's own URL.
    """
    scheme, separator, authority = origin.partition("://")
    port = _PORTS.get(scheme)
    if not separator or port is None or _SCHEMES.get(site.scheme, site.scheme) != scheme:
        return False
    own = _split(authority.encode("ascii"), port)
    return own is not None and own == _split(site.host.lower(), port)


def is_cross_site(values: Sequence[bytes], site: Site) -> bool:
    """Return whether a browser's page on another host than the site has sent a request.

    Scheme and port do not count, because they do not count for cookies either (RFC 6265 section
    8.5), and behind a proxy that is not trusted they are not known.

    Args:
        values: Those of all Origin headers of the request.
        site: The request's own URL.
    """
    if len(values) != 1:
        return False  # browsers send one
    _, _, authority = values[0].lower().partition(b"://")
    page, own = _split(authority, 0), _split(site.host.lower(), 0)
    return page is None or own is None or page[0] != own[0]


def _split(authority: bytes, default_port: int) -> tuple[bytes, int] | None:
    """Return host and port of an authority without userinfo, None for anything else."""
    if not is_host(authority):
        return None
    host, colon, port = authority.rpartition(b":")
    if not colon or authority.endswith(b"]"):  # an IPv6 address has colons of its own
        return authority, default_port
    return host, int(port) if port else default_port


def _is_subdomain(origin: str, before: str, after: str) -> bool:
    """Return whether the origin consists of `before`, labels of a host name, and `after`."""
    labels = origin.removeprefix(before).removesuffix(after)
    return origin.startswith(before) and origin.endswith(after) and _are_labels(labels)


def _are_labels(host: str) -> bool:
    return bool(host) and not set(host) & set(":/@?#")
