"""Every setting of a server: declared once, with its default, bounds, names and help text."""

import logging
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from wsgate.answers import Answers, ProgramOnly
from wsgate.brokers import urls
from wsgate.errors import ConfigError
from wsgate.metrics import address
from wsgate.settings import (
    Bound,
    accept_aliases,
    accept_answered,
    keyword,
    refuse_names,
    setting,
    settings_of,
)
from wsgate.types import Interface, LogFormat

Lifespan = Literal["auto", "on", "off"]
Loop = Literal["auto", "asyncio", "uvloop", "none"]
Http = Literal["auto", "fast", "h11", "httptools"]
TlsVersion = Literal["TLSv1.2", "TLSv1.3"]
Ws = Literal["auto", "websockets", "websockets-sansio", "wsproto", "none"]
LogLevel = Literal["critical", "error", "warning", "info", "debug", "trace"]

# (Config, () -> ssl.SSLContext) -> ssl.SSLContext, for which this file would have to import ssl.
ContextFactory = Callable[[Any, Callable[[], Any]], Any]

KIB = 1024
MIB = 1024 * KIB
_DAY = 24 * 60 * 60
_MAX_INT = 2**31 - 1  # the largest C int, which system calls take
_MAX_SIZE = 2**62  # more than any machine has, and still a C ssize_t

LISTENING = "Listening"
PROXIES = "Proxies"
TLS = "TLS"
APPLICATION = "Application"
RUNTIME = "Event loop and parser"
LOGGING = "Logging"
CONNECTIONS = "Connections"
REQUESTS = "HTTP requests"
RESPONSES = "HTTP responses"
STATIC = "Static files"
SHUTDOWN = "Shutdown"
HANDSHAKE = "WebSocket handshake"
MESSAGES = "WebSocket messages"
LIVENESS = "WebSocket keepalive and timeouts"
COMPRESSION = "WebSocket compression"
TOPICS = "Topics"
MONITORING = "Monitoring"

_ROOT_PATH = Bound(
    "/like/this, or empty", lambda root: not root or (root[0] == "/" and root[-1] != "/")
)
_SHORTEST_TOKEN = 16
_TOKEN = Bound(
    f"at least {_SHORTEST_TOKEN} printable ASCII characters",
    lambda token: len(token) >= _SHORTEST_TOKEN and token.isascii() and token.isprintable(),
)
_METRICS_ADDRESS = Bound(address.WANTED, lambda text: address.parse(text) is not None)
_BROKER_URL = Bound(urls.WANTED, urls.is_broker_url)
_FORWARDED_VALUES = ("for", "proto", "host", "port", "prefix")
_FORWARDED = Bound(
    f"some of {', '.join(_FORWARDED_VALUES)}", lambda values: set(values) <= set(_FORWARDED_VALUES)
)
# A prefix has no empty segment: the paths of files have none.
_MOUNT = re.compile(r"/(?:[^/=]+/)*(?:[^/=]+)?=.+", re.DOTALL)
_MOUNTS = Bound(
    "PREFIX=FOLDER, with a prefix such as / or /static",
    lambda mounts: all(map(_MOUNT.fullmatch, mounts)),
)
_FIELD_VALUE = Bound("the value of a header", lambda value: value.isascii() and value.isprintable())
_ALL_PERMISSIONS = 0o777
_PERMISSIONS = Bound("octal, 0 to 777", lambda permissions: 0 <= permissions <= _ALL_PERMISSIONS)

# Values of Python's ssl.PROTOCOL_*, which uvicorn takes: any version, and TLS 1.2 only.
_TLS_ANY, _TLS_SERVER, _TLS_1_2 = 2, 17, 5
_TLS_VERSION = Bound(
    "17 (all versions from --ssl-min-version on) or 5 (TLS 1.2 only)",
    lambda version: version in {_TLS_ANY, _TLS_SERVER, _TLS_1_2},
)


def _level_name(level: object) -> object:
    """Return the name of a level of `logging`, which may be a number or in upper case.

    NOTSET leaves the decision to others, as None does.
    """
    if isinstance(level, str):
        return level.lower()
    if not isinstance(level, int) or isinstance(level, bool):
        return level
    names = {number: name for name, number in _LEVELS.items()}
    return None if level == logging.NOTSET else names.get(level, level)


_LEVELS = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": 5,  # as in uvicorn
}


def _zero_for_none(value: object) -> object:
    return 0.0 if value is None else value


def _forever_for_none(value: object) -> object:
    return math.inf if value is None else value


def _empty_for_none(value: object) -> object:
    return () if value is None else value


def _none_by_name(value: object) -> object:
    return "none" if value is None else value


# The settings of a program that are no settings of its server.
_ELSEWHERE = {
    "app": "the app is the first argument of wsgate.run(), wsgate.serve() and wsgate.Server()",
    **{
        name: f"only wsgate.run() and wsgate.serve() take {name}"
        for name in ("factory", "interface", "app_dir")
    },
    **{name: f"only wsgate.run() takes {name}" for name in ("env_file", "log_config")},
}


@refuse_names(_ELSEWHERE, unnamed=_ELSEWHERE["app"])
@accept_answered(ProgramOnly)
@accept_answered(Answers)
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

    # -- proxies -------------------------------------------------------------------------------

    proxy_headers: bool = setting(
        True,
        group=PROXIES,
        help="Take the client's address and scheme from the headers `X-Forwarded-For` and "
        "`X-Forwarded-Proto`, or from `Forwarded`, of the proxies in `--forwarded-allow-ips`.",
    )
    forwarded_allow_ips: Sequence[str] | None = setting(
        None,
        group=PROXIES,
        help="Proxies whose headers are trusted, separated by commas: addresses, networks such as "
        "`10.0.0.0/8`, and paths of Unix sockets on which this server listens (`unix:` is all of "
        "them). `*` trusts everyone, and takes the leftmost address.",
        default_text="the variable FORWARDED_ALLOW_IPS, or 127.0.0.1,::1",
        commas=True,
        shared_variable="FORWARDED_ALLOW_IPS",
    )
    forwarded_values: Sequence[str] = setting(
        ("for", "proto"),
        group=PROXIES,
        help="What to take from the headers of trusted proxies, separated by commas: `for` (the "
        "client), `proto` (the scheme), `host` and `port` (the `Host` header), `prefix` (the root "
        "path). List only what your proxy sets or removes: it passes on the rest as the client "
        "sent it.",
        default_text="for,proto",
        check=_FORWARDED,
        commas=True,
    )
    proxy_protocol: bool = setting(
        False,
        group=PROXIES,
        help="Expect each connection to begin with a header of the PROXY protocol, version 1 or 2, "
        "before TLS. A connection without a valid one is closed.",
    )
    proxy_allow_from: Sequence[str] = setting(
        ("127.0.0.1", "::1"),
        group=PROXIES,
        help="Proxies that may connect with `--proxy-protocol`, in the syntax of "
        "`--forwarded-allow-ips`. Connections of others are closed.",
        default_text="127.0.0.1,::1",
        commas=True,
    )

    # -- TLS -----------------------------------------------------------------------------------

    ssl_keyfile: Sequence[str] = setting(
        (),
        group=TLS,
        help="File with the private key, in PEM. Repeated: one for each `--ssl-certfile`, in the "
        "same order. It can be left out if each certificate's file has its key, too.",
        repeated=True,
    )
    ssl_certfile: Sequence[str] = setting(
        (),
        group=TLS,
        help="File with the certificate and its chain, in PEM: the server speaks HTTPS and WSS. "
        "Repeated: the client's SNI chooses by the certificate's DNS names; the first is the "
        "default. The files are read anew on SIGHUP and when they change.",
        default_text="no TLS",
        repeated=True,
    )
    ssl_keyfile_password: str | None = setting(
        None,
        group=TLS,
        help="Password of the encrypted private keys.",
        secret=True,
    )
    ssl_version: int = setting(
        _TLS_SERVER,
        group=TLS,
        help="Versions of TLS, as a number of Python's `ssl.PROTOCOL_*`: 17 are all versions from "
        "`--ssl-min-version` on, 5 is TLS 1.2 only.",
        check=_TLS_VERSION,
    )
    ssl_min_version: TlsVersion = setting(
        "TLSv1.2",
        group=TLS,
        help="Oldest version of TLS that is accepted.",
    )
    ssl_cert_reqs: int = setting(
        0,
        group=TLS,
        help="Client certificates, as a number of Python's `ssl.CERT_*`: 0 does not ask for one, 1 "
        "accepts clients without one, 2 requires one. A certificate that `--ssl-ca-certs` does not "
        "vouch for is refused.",
        minimum=0,
        maximum=2,
    )
    ssl_ca_certs: str | os.PathLike[str] | None = setting(
        None,
        group=TLS,
        help="File with the certificates of the authorities that issue client certificates, in "
        "PEM.",
    )
    ssl_ciphers: str | None = setting(
        None,
        group=TLS,
        help="Ciphers of TLS 1.2, in OpenSSL's format. Those of TLS 1.3 are fixed.",
        default_text="those that Python considers secure",
    )
    ssl_context_factory: ContextFactory | None = keyword(
        None,
        help="Function that returns the `ssl.SSLContext` of new sessions, as in uvicorn. Called "
        "with this object and a function that returns the context which the other settings "
        "describe: at the start, on SIGHUP, and when a file that they name changes.",
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
        "otherwise asyncio; `none` is asyncio.",
        instead="wsgate takes no factory of yours; in your own event loop, await wsgate.serve(...)",
        normalize=_none_by_name,
    )
    http: Http = setting(
        "auto",
        group=RUNTIME,
        help="Parser of HTTP/1.1. `fast` parses common requests with the built-in parser and "
        "leaves anything ambiguous to h11; `h11` leaves all requests to h11; `auto` and "
        "`httptools` are `fast`.",
        instead="wsgate takes no parser of your own",
    )
    ws: Ws = setting(
        "auto",
        group=RUNTIME,
        help="Whether WebSockets are served. `none` ignores the `Upgrade` header, so that the app "
        "answers a handshake as a plain request; all other values are names of uvicorn's for the "
        "same thing: the one implementation of wsgate.",
        instead="wsgate has one implementation of WebSockets, and takes none of your own",
        normalize=_none_by_name,
    )

    # -- logging -------------------------------------------------------------------------------

    log_level: LogLevel | None = setting(
        None,
        group=LOGGING,
        help="Lowest level that the server logs. `trace` logs each message of the app too. Applies "
        "to the command and `run()`; with `serve()` the program configures logging.",
        default_text="info, or the levels in --log-config",
        normalize=_level_name,
    )
    use_colors: bool | None = setting(
        None,
        group=LOGGING,
        help="Show the levels of log lines in colour.",
        default_text="on a terminal",
    )
    access_log: bool = setting(
        True,
        group=LOGGING,
        help="Log one line for each request, and two for each WebSocket: one when it opens, one "
        "when it closes.",
    )
    log_format: LogFormat = setting(
        "text",
        group=LOGGING,
        help="Format of the log. `json` and `logfmt` are for programs: each event is one line with "
        "named fields, and has its time. Applies to the command and `run()`.",
    )
    access_log_format: str | None = setting(
        None,
        group=LOGGING,
        help="Format of the lines of the access log, with the placeholders of gunicorn, such as "
        "`%(h)s`, those of uvicorn, such as `%(client_addr)s`, and the fields of `--log-format "
        "json`, such as `%(cause)s`. Applies to the command and `run()`.",
        default_text="the lines of uvicorn",
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

    limit_max_requests: int | None = setting(
        None,
        group=CONNECTIONS,
        help="Number of requests and WebSockets that the app may complete. Then the server stops "
        "gracefully, for a supervisor to start it again.",
        unit="requests and WebSockets",
        default_text="no limit",
        above=0,
    )
    limit_max_requests_jitter: int = setting(
        0,
        group=CONNECTIONS,
        help="Largest number that is added at random to `--limit-max-requests`, so that servers "
        "that started together do not stop together.",
        unit="requests and WebSockets",
        minimum=0,
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
        normalize=_empty_for_none,
    )
    date_header: bool = setting(
        True, group=RESPONSES, help="Add the `Date` header to responses that have none."
    )
    server_header: bool = setting(
        True,
        group=RESPONSES,
        help="Add the `Server` header, wsgate and its version, to responses that have none.",
    )

    # -- static files --------------------------------------------------------------------------

    static: Sequence[str] = setting(
        (),
        group=STATIC,
        help="Folder whose files are served under a path, as `PREFIX=FOLDER`; may be given several "
        "times, and the longest prefix goes first. GET and HEAD of a path that is no file there go "
        "to the app, as everything else does. Hidden files, and links that lead out of the folder, "
        "are not served.",
        repeated=True,
        check=_MOUNTS,
    )
    static_cache_control: str = setting(
        "no-cache",
        group=STATIC,
        help="The `Cache-Control` header of static files. With `no-cache` a browser asks each time "
        "whether a file has changed; an empty value sends no such header.",
        check=_FIELD_VALUE,
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
        normalize=_forever_for_none,
    )
    drain_seconds: float = setting(
        0.0,
        group=SHUTDOWN,
        help="Seconds over which the open WebSockets are closed on shutdown, evenly and with 1012 "
        "(service restart). `--timeout-graceful-shutdown` starts after that. 0 closes all at once.",
        unit="seconds",
        minimum=0,
        maximum=_DAY,
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
        commas=True,
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
        normalize=_zero_for_none,
    )
    ws_ping_timeout: float = setting(
        20.0,
        group=LIVENESS,
        help="Seconds to wait for any data after a Ping before closing with 1011.",
        unit="seconds",
        above=0,
        normalize=_forever_for_none,
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
    ws_reconnect_field: str | None = setting(
        None,
        group=LIVENESS,
        help="Name of the query parameter or header in which a client that connects again sends "
        "the id of its previous connection, or any other text. Then the log shows which ones are "
        "reconnects. The header is used if there are both.",
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

    # -- topics --------------------------------------------------------------------------------

    topics: str | None = setting(
        None,
        group=TOPICS,
        help="What carries publications from worker to worker. `memory:` carries none: each worker "
        "has its own topics. `local:` is a hub for the workers of this machine, in a process of "
        "its own, with a socket that only these find; `local:/path` puts the socket at a path, for "
        "publishers outside of the server. Its file has the mode 600. `redis:`, `rediss:`, "
        "`redis+sentinel:` and `redis+cluster:` URLs are for several machines, and need "
        "`pip install 'wsgate[redis]'`. `module:function` names a function that makes a broker of "
        "your own.",
        default_text="memory: with one worker, local: above one",
        check=_BROKER_URL,
        secret=True,
    )
    topics_rule: Sequence[str] = setting(
        (),
        group=TOPICS,
        help="Rules of the topics whose name matches a pattern, such as "
        "`room:* history=100 history_seconds=300 slow=close`. The last rule that matches counts; "
        "those of `topics.configure` come after these. May be given several times.",
        default_text="no history; messages for slow subscribers are dropped",
        repeated=True,
    )
    topics_max: int = setting(
        1_000_000,
        group=TOPICS,
        help="Topics of one worker that have subscribers. One more is refused with LimitReached.",
        unit="topics",
        above=0,
    )
    topics_max_per_connection: int = setting(
        1000,
        group=TOPICS,
        help="Topics that one WebSocket may subscribe. One more is refused with LimitReached.",
        unit="topics",
        above=0,
    )
    topics_history_max_bytes: int = setting(
        256 * MIB,
        group=TOPICS,
        help="Messages that all histories together may hold. The oldest are dropped first, of "
        "whichever topic. A larger message is refused with LimitReached.",
        unit="bytes",
        above=0,
        maximum=_MAX_SIZE,
    )
    topics_publish_timeout: float = setting(
        5.0,
        group=TOPICS,
        help="Seconds to wait for the broker: for a message's place in the order of a topic with "
        "history, for what a subscriber has missed, for a subscription, a count and the members. "
        "Then these raise Unavailable.",
        unit="seconds",
        above=0,
        maximum=_DAY,
    )
    topics_max_outlet: int = setting(
        MIB,
        group=TOPICS,
        help="Published messages that may wait for one WebSocket while its client reads too "
        "slowly, besides what its write buffer holds. For more, the rule `slow` of the topic "
        "decides: close with 1013, drop, or keep the latest. A listener of the app has the same "
        "limit.",
        unit="bytes",
        above=0,
        maximum=_MAX_SIZE,
    )

    # -- monitoring ----------------------------------------------------------------------------

    metrics: str | None = setting(
        None,
        group=MONITORING,
        help="Address of the metrics: `HOST:PORT`, or `unix:PATH`. There are `/metrics` for "
        "Prometheus, `/healthz` and `/readyz` for probes, and a live page at `/`. Whoever reaches "
        "the address can read all that; use an internal one. It needs "
        "`pip install 'wsgate[metrics]'`.",
        default_text="none",
        check=_METRICS_ADDRESS,
    )
    status_token: str | None = setting(
        None,
        group=MONITORING,
        help="Token with which the live page may close connections and drain workers. Without it "
        "the page is read only. At least 16 characters; set the variable, so that the token is not "
        "in the list of processes. It has no effect without `--metrics`.",
        secret=True,
        check=_TOKEN,
    )
    readyz_broker_grace: float = setting(
        30.0,
        group=MONITORING,
        help="Seconds for which the broker of topics may be out of reach before `/readyz` answers "
        "503.",
        unit="seconds",
        minimum=0,
        maximum=_DAY,
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
        for host in self.host:
            _check_host(host)
        _check_prefixes(self.static)
        if self.access_log_format is not None and self.log_format != "text":
            raise ConfigError(
                f"--access-log-format must be alone, without --log-format {self.log_format}",
                setting="access_log_format",
            )
        self._check_tls()

    @property
    def has_tls(self) -> bool:
        """Whether the server speaks HTTPS and WSS."""
        return bool(self.ssl_certfile) or self.ssl_context_factory is not None

    def _check_tls(self) -> None:
        """Check what the settings of TLS say together; their files are read at the start."""
        certificates, keys = self.ssl_certfile, self.ssl_keyfile
        factory: object = self.ssl_context_factory
        if factory is not None and not callable(factory):
            text = f"ssl_context_factory must be a function, not a {type(factory).__name__}"
            raise ConfigError(text, setting="ssl_context_factory")
        if not self.has_tls:
            for name in _NEED_CERTIFICATE:
                if (value := getattr(self, name)) and value != _PASSED_ON.get(name):
                    raise _tls_error(name, "needs --ssl-certfile")
            return
        if certificates and keys and len(keys) != len(certificates):
            counts = f"{len(keys)} of {len(certificates)}"
            raise _tls_error("ssl_keyfile", f"must be given for each --ssl-certfile, not {counts}")
        if self.ssl_cert_reqs and self.ssl_ca_certs is None and factory is None:
            raise _tls_error("ssl_cert_reqs", "needs --ssl-ca-certs, to check the certificates")
        if self.ssl_version == _TLS_1_2 and self.ssl_min_version == "TLSv1.3":
            raise _tls_error("ssl_version", "5 is TLS 1.2, which --ssl-min-version excludes")


_NEED_CERTIFICATE = (
    *("ssl_keyfile", "ssl_keyfile_password", "ssl_ca_certs", "ssl_cert_reqs", "ssl_ciphers"),
)
_PASSED_ON = {"ssl_ciphers": "TLSv1"}  # a default of older uvicorns, which frameworks pass on


def _check_host(host: str) -> None:
    """Check for what is no host but often given as one."""
    problem = ""
    if host.startswith("unix:"):
        problem = "an address: the path of a Unix socket goes into --uds"
    elif "://" in host:
        problem = f"an address, not a URL as {host!r}"
    elif "," in host:
        problem = (
            f"one address, not {host!r}: repeat the option, or use a list in a file or in Python"
        )
    elif _HOST_WITH_PORT.fullmatch(host):
        problem = f"an address without a port, not {host!r}: the port goes into --port"
    elif host.startswith("[") and host.endswith("]"):
        problem = f"an address without brackets: {host[1:-1]}"
    if problem:
        raise ConfigError(f"--host must be {problem}", setting="host")


_HOST_WITH_PORT = re.compile(r"(\[.*\]|[^:]*):\d+")


def _check_prefixes(mounts: Sequence[str]) -> None:
    """Check that no two static folders have the same prefix."""
    seen: set[str] = set()
    for mount in mounts:
        prefix = mount.partition("=")[0].rstrip("/")
        if prefix in seen:
            raise ConfigError(f"--static has the prefix {prefix or '/'} twice", setting="static")
        seen.add(prefix)


def _tls_error(name: str, problem: str) -> ConfigError:
    return ConfigError(f"--{name.replace('_', '-')} {problem}", setting=name)


SETTINGS = settings_of(Config)
(FORWARDED_ALLOW_IPS,) = (one for one in SETTINGS if one.name == "forwarded_allow_ips")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The settings of a program, besides those of its server: what it serves, and how it logs.

    Each is an option of the command line and an argument of `wsgate.run`.
    """

    app: str | None = setting(
        None, group=APPLICATION, help='The app to serve, as "module:attribute": `wsgate main:app`.'
    )
    factory: bool = setting(
        False, group=APPLICATION, help="Call APP to get the app. An async factory is awaited."
    )
    interface: Interface = setting(
        "auto",
        group=APPLICATION,
        help="Interface of the app. `asgi2` calls it with the scope, and what that returns with "
        "`receive` and `send`. `wsgi` runs it in threads and serves no WebSockets; it needs "
        "`pip install 'wsgate[wsgi]'`. `auto` is `asgi3`, or `asgi2` for an app that can only be "
        "called with a `scope`.",
    )
    app_dir: str | os.PathLike[str] = setting(
        "",
        group=APPLICATION,
        help="Folder that is searched first for modules.",
        default_text="here",
    )
    env_file: str | os.PathLike[str] | None = setting(
        None,
        group=APPLICATION,
        help="File of environment variables to set before anything else, one `NAME=VALUE` on each "
        "line. Variables that exist already are not changed. It needs `pip install 'wsgate[env]'`.",
    )
    log_config: str | os.PathLike[str] | None = setting(
        None,
        group=LOGGING,
        help="File that configures Python's `logging`: `.json`, `.yaml`, `.yml` and `.toml` files "
        "as `logging.config.dictConfig` takes them, all others as `fileConfig` does. The loggers "
        "of the server are `wsgate.error` and `wsgate.access`. YAML needs "
        "`pip install 'wsgate[yaml]'`.",
        default_text="the error log on stderr, the access log on stdout",
    )


PROGRAM_SETTINGS = settings_of(Program)
