"""Every setting of a server: declared once, with its default, bounds, names and help text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from wsgate.errors import ConfigError
from wsgate.settings import Bound, accept_aliases, setting, settings_of

Lifespan = Literal["auto", "on", "off"]
Loop = Literal["auto", "asyncio", "uvloop"]
Http = Literal["auto", "fast", "h11"]
LogLevel = Literal["critical", "error", "warning", "info", "debug"]

KIB = 1024
MIB = 1024 * KIB
_MAX_INT = 2**31 - 1  # the largest C int, which system calls take
_MAX_SIZE = 2**62  # more than any machine has, and still a C ssize_t

LISTENING = "Listening"
APPLICATION = "Application"
RUNTIME = "Event loop and parser"
LOGGING = "Logging"
CONNECTIONS = "Connections"
REQUESTS = "HTTP requests"
RESPONSES = "HTTP responses"
SHUTDOWN = "Shutdown"
HANDSHAKE = "WebSocket handshake"
MESSAGES = "WebSocket messages"
LIVENESS = "WebSocket keepalive and timeouts"
COMPRESSION = "WebSocket compression"

_ROOT_PATH = Bound(
    "/like/this, or empty", lambda root: not root or (root[0] == "/" and root[-1] != "/")
)
_ALL_PERMISSIONS = 0o777
_PERMISSIONS = Bound("octal, 0 to 777", lambda permissions: 0 <= permissions <= _ALL_PERMISSIONS)


@accept_aliases
@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of one server. Each is also an option of the command line.

    Times are in seconds, sizes in bytes. Raises ConfigError, which names the option, for a value
    that is out of bounds or of another type, and for a name that is no setting.
    """

    # -- listening -----------------------------------------------------------------------------

    host: Sequence[str] = setting(
        (),
        group=LISTENING,
        help="Address or host name to listen on; may be given several times, all with the same "
        "port. An empty value means all addresses, IPv4 and IPv6; `0.0.0.0` all of IPv4; `::` all "
        "of IPv6 and none of IPv4. Addresses of a name that this machine does not have are "
        "skipped with a warning, if another one of it can be bound.",
        default_text="127.0.0.1",
        repeated=True,
    )
    port: int | None = setting(
        None,
        group=LISTENING,
        help="TCP port to listen on, for each `--host`. 0 takes a free port.",
        default_text="8000",
        minimum=0,
        maximum=65535,
    )
    uds: Sequence[str] | None = setting(
        (),
        group=LISTENING,
        help="Path of a Unix socket to listen on; may be given several times. With `--host` the "
        "server listens on both, without it on no TCP port. The files are removed on shutdown. "
        "Cannot be combined with `--fd`.",
        default_text="none",
        repeated=True,
    )
    uds_perms: int | None = setting(
        None,
        group=LISTENING,
        help="Permissions of the Unix sockets' files in octal, regardless of the umask.",
        default_text="those of the stale file that a socket replaces, or 666",
        permissions=True,
        check=_PERMISSIONS,
    )
    fd: int | None = setting(
        None,
        group=LISTENING,
        help="File descriptor of an inherited socket to listen on, instead of a host and a port. "
        "The file of an inherited Unix socket is never removed. For sockets of systemd see "
        "`--systemd-socket`.",
        minimum=0,
        maximum=_MAX_INT,
    )
    systemd_sockets: Sequence[str] = setting(
        (),
        group=LISTENING,
        help="Name of the sockets to take from systemd (`FileDescriptorName=` of the socket unit, "
        "by default the unit's name); may be given several times. `--host` and `--uds` are "
        "listened on as well. Without it, all sockets that systemd passes are used, unless "
        "`--host`, `--port`, `--uds` or `--fd` is given.",
        default_text="all that systemd passes, if no address is given",
        option="--systemd-socket",
        repeated=True,
    )
    backlog: int = setting(
        2048,
        group=LISTENING,
        help="Connections that the kernel may queue until the server accepts them.",
        unit="connections",
        above=0,
        maximum=_MAX_INT,
    )

    # -- application ---------------------------------------------------------------------------

    lifespan: Lifespan = setting(
        "auto",
        group=APPLICATION,
        help="Whether to run the app's lifespan. `auto` serves without it if the app does not "
        "support it; `on` fails at startup instead; `off` does not call it.",
    )
    root_path: str = setting(
        "",
        group=APPLICATION,
        help="Path under which the app is mounted. It becomes the `root_path` of each scope and is "
        "put before each request's path.",
        check=_ROOT_PATH,
    )
    reset_contextvars: bool = setting(
        False,
        group=APPLICATION,
        help="Start each request and WebSocket with no context variables. By default each starts "
        "with a copy of those that the app's lifespan set during startup. In both cases no call "
        "sees what another one sets.",
    )

    # -- event loop and parser -----------------------------------------------------------------

    loop: Loop = setting(
        "auto",
        group=RUNTIME,
        help="Event loop that the command and `run()` start. `auto` is uvloop if it is installed, "
        "otherwise asyncio.",
    )
    http: Http = setting(
        "auto",
        group=RUNTIME,
        help="Parser of HTTP/1.1. `fast` parses common requests with the built-in parser and "
        "leaves anything ambiguous to h11; `h11` leaves all requests to h11; `auto` is `fast`.",
    )

    # -- logging -------------------------------------------------------------------------------

    log_level: LogLevel = setting(
        "info",
        group=LOGGING,
        help="Lowest level that the server logs. Applies to the command and `run()`; with "
        "`serve()` the program configures logging.",
    )
    access_log: bool = setting(
        True,
        group=LOGGING,
        help="Log one line for each request, and two for each WebSocket: one when it opens, one "
        "when it closes.",
    )

    # -- connections ---------------------------------------------------------------------------

    limit_connections: int | None = setting(
        None,
        group=CONNECTIONS,
        help="Largest number of open connections. Further ones get a 503 response.",
        unit="connections",
        default_text="the limit on open files, less a reserve of up to 128",
        above=0,
    )
    limit_connections_per_ip: int | None = setting(
        None,
        group=CONNECTIONS,
        help="Largest number of open connections from one IPv4 address, or from one IPv6 /64 "
        "network. Further ones get a 503 response.",
        unit="connections",
        default_text="no limit",
        above=0,
    )
    limit_concurrency: int | None = setting(
        None,
        group=CONNECTIONS,
        help="Largest number of requests and WebSockets that run in the app at a time. Further "
        "ones get a 503 response.",
        unit="requests and WebSockets",
        default_text="no limit",
        above=0,
    )

    # -- HTTP requests -------------------------------------------------------------------------

    limit_request_head: int = setting(
        64 * KIB,
        group=REQUESTS,
        help="Largest head of a request (request line and header fields), and largest trailer "
        "section of a body. A larger head gets a 431 response.",
        unit="bytes",
        above=0,
        maximum=_MAX_SIZE,
        aliases=("h11_max_incomplete_event_size",),  # uvicorn's name for it
    )
    limit_request_target: int | None = setting(
        None,
        group=REQUESTS,
        help="Longest target of a request, which is the URL's path and query. A longer one gets a "
        "414 response.",
        unit="bytes",
        default_text="8192; as --limit-request-head if that is above its default",
        above=0,
    )
    limit_request_fields: int | None = setting(
        None,
        group=REQUESTS,
        help="Largest number of header fields of a request, and of trailer fields of its body. A "
        "head with more gets a 431 response.",
        unit="fields",
        default_text="100; one for each 64 bytes of --limit-request-head if that is above its "
        "default",
        above=0,
    )
    timeout_request_body: float = setting(
        60.0,
        group=REQUESTS,
        help="Seconds to wait for the next bytes of a request's body while the app receives it. On "
        "expiry the client gets a 408 response, or is disconnected if the response has started.",
        unit="seconds",
        above=0,
    )
    timeout_keep_alive: float = setting(
        5.0,
        group=REQUESTS,
        help="Seconds to keep an idle connection open between two requests.",
        unit="seconds",
        above=0,
    )

    # -- HTTP responses ------------------------------------------------------------------------

    headers: Sequence[tuple[str, str]] = setting(
        (),
        group=RESPONSES,
        help="Header to add to each response, as `NAME:VALUE`; may be given several times. An "
        "app's own header of the same name replaces it. `Connection`, `Content-Length`, "
        "`Transfer-Encoding` and `Upgrade` are refused.",
        option="--header",
    )
    date_header: bool = setting(
        True, group=RESPONSES, help="Add the `Date` header to responses that have none."
    )
    server_header: bool = setting(
        True,
        group=RESPONSES,
        help="Add the `Server` header, wsgate and its version, to responses that have none.",
    )

    # -- shutdown ------------------------------------------------------------------------------

    timeout_graceful_shutdown: float = setting(
        10.0,
        group=SHUTDOWN,
        help="Seconds to wait on shutdown for requests, WebSockets and the app's calls to end. On "
        "expiry the calls are cancelled and the connections aborted. The app's lifespan then gets "
        "the same number of seconds to shut down, at least one.",
        unit="seconds",
        minimum=0,
    )
    drain_seconds: float = setting(
        0.0,
        group=SHUTDOWN,
        help="Seconds over which the open WebSockets are closed on shutdown, evenly and with 1012 "
        "(service restart). `--timeout-graceful-shutdown` starts after that. 0 closes all at once.",
        unit="seconds",
        minimum=0,
    )

    # -- WebSocket handshake -------------------------------------------------------------------

    ws_origins: Sequence[str] = setting(
        (),
        group=HANDSHAKE,
        help="Origins whose pages may open a WebSocket, separated by commas; others get a 403 "
        "response. `same` is the origin of the request itself: the page and the WebSocket have "
        "the same scheme, host and port. `https://*.example.com` is each host below example.com, "
        "`null` a sandboxed page, and `none` a client that sends no `Origin`.",
        default_text="any",
    )
    ws_handshake_timeout: float = setting(
        10.0,
        group=HANDSHAKE,
        help="Seconds to wait for a request's head, with or without a handshake, and then for the "
        "app to accept or refuse the WebSocket. On expiry the client gets a 408 response for the "
        "head, 503 for the app.",
        unit="seconds",
        above=0,
    )

    # -- WebSocket messages --------------------------------------------------------------------

    ws_max_size: int = setting(
        16 * MIB,
        group=MESSAGES,
        help="Largest message that a client may send, after decompression. A larger one closes the "
        "WebSocket with 1009.",
        unit="bytes",
        above=0,
        maximum=_MAX_SIZE,
    )
    ws_max_fragments: int = setting(
        131_072,
        group=MESSAGES,
        help="Largest number of frames in one message. A message with more frames closes it "
        "with 1009.",
        unit="frames",
        above=0,
    )
    ws_max_queue: int = setting(
        16,
        group=MESSAGES,
        help="Messages that may wait for the app to receive them. The server stops reading from "
        "the client while so many wait.",
        unit="messages",
        above=0,
        maximum=_MAX_SIZE,
    )
    ws_max_queue_size: int = setting(
        MIB,
        group=MESSAGES,
        help="Memory that messages may take while they wait for the app. The server stops reading "
        "from the client while they use this much or more.",
        unit="bytes",
        above=0,
        maximum=_MAX_SIZE,
    )
    ws_max_message_rate: float = setting(
        0.0,
        group=MESSAGES,
        help="Messages per second that a client may send on average. More close the WebSocket with "
        "1008. 0 is no limit.",
        unit="messages per second",
        minimum=0,
        maximum=_MAX_INT,
    )
    ws_max_message_burst: int | None = setting(
        None,
        group=MESSAGES,
        help="Messages that a client may send at once, if `--ws-max-message-rate` is set.",
        unit="messages",
        default_text="two seconds' worth of the rate, at least 1",
        above=0,
        maximum=_MAX_INT,
    )
    ws_fast_path: bool = setting(
        True,
        group=MESSAGES,
        help="Read and write common frames with the built-in codec, and leave all others to "
        "wsproto. `--no-ws-fast-path` leaves every frame to wsproto.",
        aliases=("ws_fast_lane",),
    )

    # -- WebSocket keepalive and timeouts ------------------------------------------------------

    ws_ping_interval: float = setting(
        20.0,
        group=LIVENESS,
        help="Seconds between Pings to the client. 0 sends none.",
        unit="seconds",
        minimum=0,
    )
    ws_ping_timeout: float = setting(
        20.0,
        group=LIVENESS,
        help="Seconds to wait for any data after a Ping before closing with 1011.",
        unit="seconds",
        above=0,
    )
    ws_idle_timeout: float = setting(
        0.0,
        group=LIVENESS,
        help="Seconds without a message in either direction before closing with 1001. Pings and "
        "Pongs do not count. 0 is no limit.",
        unit="seconds",
        minimum=0,
    )
    ws_max_lifetime: float = setting(
        0.0,
        group=LIVENESS,
        help="Seconds that a WebSocket may stay open before it is closed with 1012; up to a tenth "
        "more or less, so that clients do not all reconnect at once. 0 is no limit.",
        unit="seconds",
        minimum=0,
    )
    ws_send_timeout: float = setting(
        60.0,
        group=LIVENESS,
        help="Seconds that a client may leave its write buffer full, before "
        "its WebSocket is closed with 1013 and dropped. An HTTP connection is dropped after as "
        "many seconds in which nothing could be written.",
        unit="seconds",
        above=0,
    )
    ws_close_timeout: float = setting(
        10.0,
        group=LIVENESS,
        help="Seconds to wait for the client's Close frame after sending ours. On expiry the "
        "connection is aborted.",
        unit="seconds",
        above=0,
    )

    # -- WebSocket compression -----------------------------------------------------------------

    ws_per_message_deflate: bool = setting(
        True,
        group=COMPRESSION,
        help="Accept the permessage-deflate extension when a client offers it.",
        takes_value=True,
    )
    ws_deflate_threshold: int = setting(
        KIB,
        group=COMPRESSION,
        help="Smallest message that is compressed. Smaller ones are sent as they are.",
        unit="bytes",
        minimum=0,
    )
    ws_deflate_context_takeover: bool = setting(
        False,
        group=COMPRESSION,
        help="Keep compression windows between messages. Messages get smaller, and each connection "
        "holds about 300 KiB more.",
        takes_value=True,
    )
    ws_deflate_window_bits: int = setting(
        15,
        group=COMPRESSION,
        help="Largest compression window in either direction, as a power of two: 15 is 32 KiB.",
        unit="bits",
        minimum=9,
        maximum=15,
    )

    def __post_init__(self) -> None:
        for one in SETTINGS:
            one.validate(getattr(self, one.name))
        if self.fd is not None:
            if self.uds:
                raise ConfigError("--uds must be alone, without --fd", setting="uds")
            if self.systemd_sockets:
                raise ConfigError(
                    "--systemd-socket must be alone, without --fd", setting="systemd_sockets"
                )


SETTINGS = settings_of(Config)
