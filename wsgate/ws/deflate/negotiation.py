"""Negotiation of permessage-deflate (RFC 7692 sections 5 and 7.1)."""

from dataclasses import dataclass, field
from functools import lru_cache

from wsgate.ws.extensions import offers_in, parameter_of, parts_of

NAME = "permessage-deflate"
MIN_WINDOW_BITS = 9  # raw zlib cannot compress with a window of 8 bits
MAX_WINDOW_BITS = 15


@dataclass(frozen=True, slots=True)
class DeflateSettings:
    """The server's settings for permessage-deflate.

    threshold: messages of fewer bytes are not compressed. context_takeover: keep windows between
    messages, which compresses better and costs some 300 KiB for each connection. The window bits,
    9 to 15, limit the window that each side compresses with. level: zlib's, 1 to 9.
    """

    threshold: int = 1_024
    context_takeover: bool = False
    server_max_window_bits: int = MAX_WINDOW_BITS
    client_max_window_bits: int = MAX_WINDOW_BITS
    level: int = 6


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreed parameters (RFC 7692 section 7.1); the defaults are those of the RFC.

    server_window_requested: the offer had server_max_window_bits, so the response must have it.
    """

    settings: DeflateSettings
    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = MAX_WINDOW_BITS
    client_max_window_bits: int = MAX_WINDOW_BITS
    server_window_requested: bool = False
    _header: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_header", self._write_header())

    def header(self) -> bytes:
        """Return the value of Sec-WebSocket-Extensions in the response."""
        return self._header

    def _write_header(self) -> bytes:
        parts = [NAME]
        if self.server_no_context_takeover:
            parts.append("server_no_context_takeover")
        if self.client_no_context_takeover:
            parts.append("client_no_context_takeover")
        # RFC 7692 section 7.1.2.1: "A server accepts an extension negotiation offer with this
        # parameter by including the "server_max_window_bits" extension parameter", 15 as well.
        if self.server_window_requested or self.server_max_window_bits < MAX_WINDOW_BITS:
            parts.append(f"server_max_window_bits={self.server_max_window_bits}")
        if self.client_max_window_bits < MAX_WINDOW_BITS:
            parts.append(f"client_max_window_bits={self.client_max_window_bits}")
        return "; ".join(parts).encode("ascii")


def negotiate(lines: tuple[bytes, ...], settings: DeflateSettings | None) -> Agreement | None:
    """Return the agreement on permessage-deflate, None without one.

    lines: the values of all Sec-WebSocket-Extensions headers. settings: None if this server does
    not do permessage-deflate; the lines are checked nevertheless.
    RFC 7692 section 5.1: the offers are in order of preference. An offer with an unknown or
    repeated parameter, or an invalid value, is declined, and the next one is considered.
    Raises RequestRefused for malformed lines.
    """
    size = len(lines) + sum(map(len, lines))
    return (_negotiate_cached if size <= _MAX_CACHED else _negotiate)(lines, settings)


_MAX_CACHED = 512  # bytes of lines


def _negotiate(lines: tuple[bytes, ...], settings: DeflateSettings | None) -> Agreement | None:
    offers = offers_in(lines)
    if settings is None:
        return None
    for offer in offers:
        name, *parameters = parts_of(offer)
        if name == NAME and (agreement := _accept(parameters, settings)) is not None:
            return agreement
    return None


# All connections of a browser make the same offer, so they share one agreement.
_negotiate_cached = lru_cache(maxsize=16)(_negotiate)


def _accept(parameters: list[str], settings: DeflateSettings) -> Agreement | None:
    """Return the agreement if an offer with these parameters can be accepted."""
    offered: dict[str, int | None] = {}
    for parameter in parameters:
        name, value = parameter_of(parameter)
        if name in offered or not _is_valid(name, value):
            return None
        offered[name] = None if value is None else int(value)
    server_bits = offered.get("server_max_window_bits") or MAX_WINDOW_BITS
    if server_bits < MIN_WINDOW_BITS:
        return None
    client_bits = MAX_WINDOW_BITS
    if "client_max_window_bits" in offered:  # only then may the response have it
        client_bits = min(
            offered["client_max_window_bits"] or MAX_WINDOW_BITS, settings.client_max_window_bits
        )
    return Agreement(
        settings,
        not settings.context_takeover or "server_no_context_takeover" in offered,
        not settings.context_takeover or "client_no_context_takeover" in offered,
        min(server_bits, settings.server_max_window_bits),
        client_bits,
        "server_max_window_bits" in offered,
    )


def _is_valid(name: str, value: str | None) -> bool:
    if name in ("server_no_context_takeover", "client_no_context_takeover"):
        return value is None
    if name == "client_max_window_bits":
        return value is None or value in _WINDOWS
    return name == "server_max_window_bits" and value in _WINDOWS


# RFC 7692 section 7.1.2.1: "a decimal integer without leading zeroes between 8 to 15".
_WINDOWS = frozenset(str(bits) for bits in range(8, 16))
