"""Every setting of a server, with its default and its bounds; nothing is opened here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from wsgate.errors import ConfigError

Lifespan = Literal["auto", "on", "off"]
Loop = Literal["auto", "asyncio", "uvloop"]
LogLevel = Literal["critical", "error", "warning", "info", "debug"]

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of one server. Times are in seconds, sizes in bytes.

    Each name is the option of the command line with underscores for hyphens.

    host, port: where to listen; port 0 takes a free one. uds: a Unix socket's path instead; fd: an
    inherited socket instead. backlog: connections the kernel holds before they are accepted.
    lifespan: whether the app has one. root_path: where the app is mounted.
    limit_concurrency: app calls at a time (requests and WebSockets), 503 above; None is no limit.
    timeout_request_head: for a request's head, then 408. timeout_request_body: without a byte of a
    body, then 408. timeout_keep_alive: between requests. timeout_send: without a byte going out to
    a client that does not read. timeout_graceful_shutdown: for the apps to end.
    h11_max_incomplete_event_size: bytes of a request's head, 431 above.
    headers: (name, value) pairs put into every response. date_header, server_header: send those.
    ws_max_size: bytes of an incoming message, whole and inflated, 1009 above. ws_max_queue:
    messages that wait for the app; ws_max_queue_size: the same in bytes of memory; reading pauses
    above. ws_ping_interval: between Pings, 0 for none; ws_ping_timeout: for a sign of life behind
    each, then 1011. ws_close_timeout: for the peer's Close behind ours.
    ws_per_message_deflate: agree to permessage-deflate.

    Raises ConfigError, which names the option.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    fd: int | None = None
    backlog: int = 2048
    loop: Loop = "auto"
    lifespan: Lifespan = "auto"
    root_path: str = ""
    log_level: LogLevel = "info"
    access_log: bool = True
    limit_concurrency: int | None = None
    timeout_request_head: float = 10.0
    timeout_request_body: float = 60.0
    timeout_keep_alive: float = 5.0
    timeout_send: float = 60.0
    timeout_graceful_shutdown: float = 10.0
    h11_max_incomplete_event_size: int = 65_536
    headers: Sequence[tuple[str, str]] = ()
    date_header: bool = True
    server_header: bool = True
    ws_max_size: int = 16 * MIB
    ws_max_queue: int = 16
    ws_max_queue_size: int = MIB
    ws_ping_interval: float = 20.0
    ws_ping_timeout: float = 20.0
    ws_close_timeout: float = 10.0
    ws_per_message_deflate: bool = True

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            _check(name, getattr(self, name) in choices, f"one of {', '.join(choices)}")
        for name in _POSITIVE:
            _check(name, getattr(self, name) > 0, "greater than 0")
        for name in _NOT_NEGATIVE:
            _check(name, getattr(self, name) >= 0, "0 or greater")
        _check("port", 0 <= self.port <= 65535, "0 to 65535")  # noqa: PLR2004  # a port's 16 bits
        limit = self.limit_concurrency
        _check("limit_concurrency", limit is None or limit > 0, "greater than 0")
        _check("host", sum(x is not None for x in (self.uds, self.fd)) < 2, "alone: --uds or --fd")  # noqa: PLR2004


_CHOICES = {
    "loop": get_args(Loop),
    "lifespan": get_args(Lifespan),
    "log_level": get_args(LogLevel),
}
_POSITIVE = (
    "backlog",
    "timeout_request_head",
    "timeout_request_body",
    "timeout_keep_alive",
    "timeout_send",
    "h11_max_incomplete_event_size",
    "ws_max_size",
    "ws_max_queue",
    "ws_max_queue_size",
    "ws_ping_timeout",
    "ws_close_timeout",
)
_NOT_NEGATIVE = ("timeout_graceful_shutdown", "ws_ping_interval")


def _check(name: str, holds: object, wanted: str) -> None:
    if not holds:
        raise ConfigError(f"--{name.replace('_', '-')} must be {wanted}")
