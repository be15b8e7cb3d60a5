"""Origin check: which pages may open a WebSocket (RFC 6455 section 10.2, RFC 6454 section 7)."""

import re
from collections.abc import Sequence

from wsgate.errors import ConfigError

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:\*\.)?[^/*?#@\s]+")
_SPECIAL = ("none", "null")  # no Origin header; the Origin of a sandboxed page


class Origins:
    """The allowed origins.

    Args:
        allowed: Origins as browsers send them, `https://example.com`, with a port unless it is the
            default of the scheme; `https://*.example.com` for all subdomains; `null`; `none` for
            clients that send no Origin, such as programs.

    Raises:
        ConfigError: An entry is something else.
    """

    def __init__(self, allowed: Sequence[str]) -> None:
        lower = [origin.lower().rstrip("/") for origin in allowed]
        for origin in lower:
            if origin not in _SPECIAL and not _ORIGIN.fullmatch(origin):
                message = f"--ws-origins: {origin!r} is not an origin"
                raise ConfigError(message, setting="ws_origins")
        self._exact = frozenset(origin for origin in lower if "*" not in origin)
        self._wildcards = [tuple(origin.split("*", 1)) for origin in lower if "*" in origin]

    def allow(self, values: Sequence[bytes]) -> bool:
        """Return whether a request may connect. values: of all its Origin headers."""
        if not values:
            return "none" in self._exact
        if len(values) > 1 or not values[0].isascii():
            return False
        origin = values[0].decode("ascii").lower()
        if origin in self._exact and origin != "none":
            return True
        return any(_is_subdomain(origin, before, after) for before, after in self._wildcards)


def _is_subdomain(origin: str, before: str, after: str) -> bool:
    """Return whether the origin consists of `before`, labels of a host name, and `after`."""
    labels = origin.removeprefix(before).removesuffix(after)
    return origin.startswith(before) and origin.endswith(after) and _are_labels(labels)


def _are_labels(host: str) -> bool:
    return bool(host) and not set(host) & set(":/@?#")
