"""Every setting of a server, with its default and its bounds; nothing is opened here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from wsgate.errors import ConfigError

Lifespan = Literal["auto", "on", "off"]
Loop = Literal["auto", "asyncio", "uvloop"]
Http = Literal["auto", "fast", "h11"]
LogLevel = Literal["critical", "error", "warning", "info", "debug"]

MIB = 1024 * 1024
_MAX_INT = 2**31 - 1  # what the kernel takes for a number
_ALL_PERMS = 0o777
_MAX_SIZE = 2**62  # what any machine's size can hold, and one more


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of one server. Times are in seconds, sizes in bytes.

    Each name is the option of the command line with underscores for hyphens.

    host, port: where to listen; port 0 takes a free one. uds: a Unix socket's path instead;
    uds_perms: the permissions of its file, such as 0o660; None keeps those of a socket file that a
    dead server left there, or sets 0o666. fd: an inherited socket instead.
    backlog: connections the kernel holds before they are accepted.
    http: what parses requests; auto is fast, which leaves to h11 what is in any doubt.
    lifespan: whether the app has one. root_path: where the app is mounted. reset_contextvars: start
    each call of the app with no context variables; otherwise it has those that the lifespan set.

    limit_connections: open at a time, 503 above; None is what the limit of open files leaves.
    limit_connections_per_ip: from one address, 503 above. limit_concurrency: app calls at a time
    (requests and WebSockets), 503 above. None is no limit for both.
    limit_request_head: bytes of a request's head, 431 above. limit_request_target: bytes of its
    target, 414 above; limit_request_fields: header fields in a head, and trailer fields in a body,
    431 above. None is 8,192 and 100; if limit_request_head is above its default, a target may be
    as long as the head, and there may be one field for each 64 bytes of it.
    ws_handshake_timeout: for a request's head, then 408, and for the app to accept, then 503.
    timeout_request_body: without a byte of a body, then 408. timeout_keep_alive: between requests.
    timeout_graceful_shutdown: for the apps to end. drain_seconds: over which the WebSockets are
    closed before that, evenly.
    headers: (name, value) pairs put into every response. date_header, server_header: send those.

    ws_origins: those whose pages may connect, 403 for others; empty is any. `none` among them lets
    clients without an Origin in, `https://*.example.com` all hosts below one.
    ws_max_size: bytes of an incoming message, whole and inflated, 1009 above; ws_max_fragments:
    frames of one. ws_max_queue: messages that wait for the app; ws_max_queue_size: the same in
    bytes of memory; reading pauses above. ws_max_message_rate: messages a second from one client,
    1008 above; ws_max_message_burst: how many may come at once, None for two seconds' worth.
    ws_ping_interval: between Pings; ws_ping_timeout: for a sign of life behind each, then 1011.
    ws_idle_timeout: without a message either way, then 1001. ws_max_lifetime: of a WebSocket, give
    or take a tenth, then 1012. 0 is none for a rate, an interval, and those two.
    ws_send_timeout: that the write buffer may stay above its mark, for a client that reads too
    slowly or not at all, then 1013; a response is dropped after it without a byte going out.
    ws_close_timeout: for the peer's Close behind ours.
    ws_per_message_deflate: agree to permessage-deflate. ws_deflate_threshold: bytes of a message
    below which it is not compressed. ws_deflate_context_takeover: keep windows between messages,
    some 300 KiB a connection. ws_deflate_window_bits: 9 to 15, the largest window.
    ws_fast_lane: read and write usual frames without wsproto.

    Raises ConfigError, which names the option.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    uds_perms: int | None = None
    fd: int | None = None
    backlog: int = 2048
    loop: Loop = "auto"
    http: Http = "auto"
    lifespan: Lifespan = "auto"
    root_path: str = ""
    reset_contextvars: bool = False
    log_level: LogLevel = "info"
    access_log: bool = True
    limit_connections: int | None = None
    limit_connections_per_ip: int | None = None
    limit_concurrency: int | None = None
    limit_request_head: int = 65_536
    limit_request_target: int | None = None
    limit_request_fields: int | None = None
    ws_handshake_timeout: float = 10.0
    timeout_request_body: float = 60.0
    timeout_keep_alive: float = 5.0
    timeout_graceful_shutdown: float = 10.0
    drain_seconds: float = 0.0
    headers: Sequence[tuple[str, str]] = ()
    date_header: bool = True
    server_header: bool = True
    ws_origins: Sequence[str] = ()
    ws_max_size: int = 16 * MIB
    ws_max_fragments: int = 131_072
    ws_max_queue: int = 16
    ws_max_queue_size: int = MIB
    ws_max_message_rate: float = 0.0
    ws_max_message_burst: int | None = None
    ws_ping_interval: float = 20.0
    ws_ping_timeout: float = 20.0
    ws_idle_timeout: float = 0.0
    ws_max_lifetime: float = 0.0
    ws_send_timeout: float = 60.0
    ws_close_timeout: float = 10.0
    ws_per_message_deflate: bool = True
    ws_deflate_threshold: int = 1_024
    ws_deflate_context_takeover: bool = False
    ws_deflate_window_bits: int = 15
    ws_fast_lane: bool = True

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            _check(name, getattr(self, name) in choices, f"one of {', '.join(choices)}")
        for name in _POSITIVE:
            _check(name, getattr(self, name) > 0, "greater than 0")
        for name in _NOT_NEGATIVE:
            _check(name, getattr(self, name) >= 0, "0 or greater")
        root = self.root_path
        _check("root_path", not root or (root[0] == "/" != root[-1]), "/like/this, or empty")
        _check("port", 0 <= self.port <= 65535, "0 to 65535")  # noqa: PLR2004  # a port's 16 bits
        perms = self.uds_perms
        _check("uds_perms", perms is None or 0 <= perms <= _ALL_PERMS, "octal, 0 to 777")
        _check("backlog", self.backlog <= _MAX_INT, f"at most {_MAX_INT}")
        _check("fd", self.fd is None or 0 <= self.fd <= _MAX_INT, f"0 to {_MAX_INT}")
        for name in _LIMITS:
            limit = getattr(self, name)
            _check(name, limit is None or limit > 0, "greater than 0")
        for name in _SIZES:
            _check(name, getattr(self, name) <= _MAX_SIZE, f"at most {_MAX_SIZE}")
        _check("ws_deflate_window_bits", 9 <= self.ws_deflate_window_bits <= 15, "9 to 15")  # noqa: PLR2004
        _check("uds", self.uds is None or self.fd is None, "alone, without --fd")


_CHOICES = {
    "loop": get_args(Loop),
    "http": get_args(Http),
    "lifespan": get_args(Lifespan),
    "log_level": get_args(LogLevel),
}
_POSITIVE = (
    "backlog",
    "timeout_request_body",
    "timeout_keep_alive",
    "limit_request_head",
    "ws_handshake_timeout",
    "ws_max_size",
    "ws_max_fragments",
    "ws_max_queue",
    "ws_max_queue_size",
    "ws_ping_timeout",
    "ws_send_timeout",
    "ws_close_timeout",
)
_NOT_NEGATIVE = (
    "timeout_graceful_shutdown",
    "drain_seconds",
    "ws_max_message_rate",
    "ws_ping_interval",
    "ws_idle_timeout",
    "ws_max_lifetime",
    "ws_deflate_threshold",
)
_SIZES = ("ws_max_size", "ws_max_queue", "ws_max_queue_size", "limit_request_head")
_LIMITS = (
    "limit_connections",
    "limit_connections_per_ip",
    "limit_concurrency",
    "limit_request_target",
    "limit_request_fields",
    "ws_max_message_burst",
)


def _check(name: str, holds: object, wanted: str) -> None:
    if not holds:
        raise ConfigError(f"--{name.replace('_', '-')} must be {wanted}", setting=name)
