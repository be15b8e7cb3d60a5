"""Which origins' pages may open a WebSocket (RFC 6455 section 10.2, RFC 6454 section 7)."""

import re
from collections.abc import Sequence

from wsgate.errors import ConfigError

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:\*\.)?[^/*?#@\s]+")
_SPECIAL = ("none", "null")  # no Origin at all; the origin of a sandboxed page


class Origins:
    """An allow-list.

    allowed: origins as browsers send them, `https://example.com`, with a port where it is not the
    scheme's own; `https://*.example.com` for all hosts below one; `null`; and `none` for clients
    that send no Origin, as programs do.
    Raises ConfigError for anything else.
    """

    def __init__(self, allowed: Sequence[str]) -> None:
        lower = [origin.lower().rstrip("/") for origin in allowed]
        for origin in lower:
            if origin not in _SPECIAL and not _ORIGIN.fullmatch(origin):
                raise ConfigError(f"--ws-origins: {origin!r} is no origin", setting="ws_origins")
        self._exact = frozenset(origin for origin in lower if "*" not in origin)
        self._below = [tuple(origin.split("*", 1)) for origin in lower if "*" in origin]

    def allow(self, values: Sequence[bytes]) -> bool:
        """Tell whether a request with these Origin headers may connect."""
        if not values:
            return "none" in self._exact
        if len(values) > 1 or not values[0].isascii():
            return False
        origin = values[0].decode("ascii").lower()
        if origin in self._exact and origin != "none":
            return True
        return any(_is_below(origin, before, behind) for before, behind in self._below)


def _is_below(origin: str, before: str, behind: str) -> bool:
    host = origin.removeprefix(before).removesuffix(behind)
    return origin.startswith(before) and origin.endswith(behind) and _is_label(host)


def _is_label(host: str) -> bool:
    return bool(host) and not set(host) & set(":/@?#")
