"""The servers to compare: the command that starts each one, and its name in the tables.

Each server runs the same app, without an access log, on uvloop and httptools if it supports them.
It has one worker, or as many as its name says. All other settings are the server's defaults.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

APP = "benchmarks.app:app"
LIMIT = "limit"
FAN_LIMIT = "fan-limit"
PINGING_LIMIT = "limit-pinging"
WSGATE = "wsgate"


@dataclass(frozen=True)
class Server:
    """How to start one server.

    Attributes:
        label: Its name in tables and pictures.
        command: The command line with the placeholder {port}, and {certificate} for a file with a
            certificate and its key. Its first word is a program in the
            virtual environment of the benchmarks.
        by_fd: The same for an inherited listening socket, with {fd}; None if it is not supported.
        packages: The packages whose versions are recorded with the results.
        tls: It speaks TLS.
        workers: The number of processes that serve.
        machines: How often it is started, as on so many machines.
        has_redis: A Redis server is started for it, whose port is the placeholder {redis}.
        frozen: The share of the load's connections that do not read.
    """

    label: str
    command: str
    by_fd: str | None = None
    packages: tuple[str, ...] = ()
    tls: bool = False
    workers: int = 1
    machines: int = 1
    has_redis: bool = False
    frozen: float = 0


def _uvicorn(ws: str, package: str) -> Server:
    command = (
        f"uvicorn {APP} --loop uvloop --http httptools --ws {ws} --log-level warning"
        " --no-access-log"
    )
    return Server(
        f"uvicorn --ws {ws}",
        f"{command} --port {{port}}",
        f"{command} --fd {{fd}}",
        ("uvicorn", package, "httptools", "uvloop"),
    )


def _with_tls(server: Server) -> Server:
    label, command = f"{server.label}, TLS", f"{server.command} --ssl-certfile {{certificate}}"
    return Server(label, command, None, server.packages, tls=True)


def _gunicorn(kind: str, *packages: str) -> Server:
    return Server(
        f"gunicorn -k {kind.rpartition('.')[2]}",
        f"gunicorn {APP} -k {kind} -b 127.0.0.1:{{port}} --log-level warning --no-control-socket",
        None,
        ("gunicorn", *packages, "uvloop"),
    )


def with_workers(name: str, count: int) -> str:
    """Return the name in SERVERS of a server with so many workers."""
    return f"{name}-w{count}"


def _with_workers(server: Server, count: int) -> Server:
    option = f" --workers {count}"
    label, command = server.label + option, server.command + option
    return replace(server, label=label, command=command, by_fd=None, workers=count)


_WSGATE = f"wsgate {APP} --no-access-log --log-level warning"
_SOCKETIFY = f"python -m socketify {APP} --port {{port}} --disable-listen-log True"
SERVERS = {
    FAN_LIMIT: Server(
        "the limit: one write each, in C", "python -m benchmarks.fan_limit {port}", None, ()
    ),
    LIMIT: Server(
        "the limit",
        "python -m benchmarks.limit {port}",
        "python -m benchmarks.limit --fd {fd}",
        ("uvloop",),
    ),
    PINGING_LIMIT: Server(
        "the limit, with Pings",
        "python -m benchmarks.limit {port} --ping-interval 20",
        None,
        ("uvloop",),
    ),
    WSGATE: Server(
        "wsgate",
        f"{_WSGATE} --port {{port}}",
        f"{_WSGATE} --fd {{fd}}",
        ("wsgate", "uvloop"),
    ),
    "wsgate-wsproto": Server(
        "wsgate --no-ws-fast-path",
        f"{_WSGATE} --port {{port}} --no-ws-fast-path",
        f"{_WSGATE} --fd {{fd}} --no-ws-fast-path",
        ("wsgate", "wsproto", "uvloop"),
    ),
    "socketify": Server("socketify", _SOCKETIFY, None, ("socketify",)),
    "socketify-deflate": Server(
        "socketify --ws-per-message-deflate",
        f"{_SOCKETIFY} --ws-per-message-deflate True",
        None,
        ("socketify",),
    ),
    "granian": Server(
        "granian",
        f"granian --interface asgi {APP} --port {{port}} --log-level warning",
        None,
        ("granian", "uvloop"),
    ),
    "uvicorn-websockets": _uvicorn("websockets", "websockets"),
    "uvicorn-sansio": _uvicorn("websockets-sansio", "websockets"),
    "uvicorn-wsproto": _uvicorn("wsproto", "wsproto"),
    "hypercorn": Server(
        "hypercorn",
        f"hypercorn -k uvloop {APP} -b 127.0.0.1:{{port}} --log-level warning",
        f"hypercorn -k uvloop {APP} -b fd://{{fd}} --log-level warning",
        ("hypercorn", "wsproto", "uvloop"),
    ),
    "daphne": Server(
        "daphne", f"daphne {APP} -v 0 -p {{port}}", f"daphne {APP} -v 0 --fd {{fd}}", ("daphne",)
    ),
}
UVICORN = ("uvicorn-websockets", "uvicorn-sansio", "uvicorn-wsproto")
WSGATE_TLS = "wsgate-tls"
UVICORN_TLS = tuple(f"{name}-tls" for name in UVICORN)
SERVERS |= {f"{name}-tls": _with_tls(SERVERS[name]) for name in (WSGATE, *UVICORN)}
SOCKETIFY = ("socketify", "socketify-deflate")

# The supervisor runs as soon as an option needs it, also with one worker.
WSGATE_SUPERVISED = "wsgate-supervised"
SERVERS[WSGATE_SUPERVISED] = replace(
    SERVERS[WSGATE],
    label="wsgate with a supervisor",
    command=f"{SERVERS[WSGATE].command} --workers 1 --worker-max-lifetime 86400",
    by_fd=None,
)
# The servers that are compared with several workers, by their name without workers.
_SEVERAL = {name: SERVERS[name] for name in (WSGATE, "granian", "uvicorn-sansio")} | {
    "gunicorn-asgi": _gunicorn("asgi", "httptools"),
    "gunicorn-uvicorn": _gunicorn("uvicorn_worker.UvicornWorker", "uvicorn-worker", "uvicorn"),
}
SEVERAL = {name: server.label for name, server in _SEVERAL.items()}
SERVERS |= {
    with_workers(name, count): _with_workers(server, count)
    for count in (2, 4)
    for name, server in _SEVERAL.items()
}
SERVERS[with_workers(WSGATE, 6)] = _with_workers(SERVERS[WSGATE], 6)

# Clients that have lost their network never answer a Close: a worker that stops waits for them.
_JITTER = (
    "wsgate benchmarks.jitter_app:app --no-access-log --log-level warning --port {port}"
    " --workers 2 --timeout-graceful-shutdown 3"
)
WSGATE_LOCAL = "wsgate-local"
WSGATE_REDIS = "wsgate-redis"
SERVERS[WSGATE_LOCAL] = Server(
    "wsgate --workers 2", f"{_JITTER} --topics local:", None, ("wsgate", "uvloop"), workers=2
)
SERVERS[WSGATE_REDIS] = Server(
    "two wsgate --workers 2, one Redis",
    f"{_JITTER} --topics redis://127.0.0.1:{{redis}}",
    None,
    ("wsgate", "uvloop", "redis"),
    workers=2,
    machines=2,
    has_redis=True,
)
# The loads of topics. The outlet is small, so that those who do not read soon have a full one.
WSGATE_TOPICS = "wsgate-topics"
_TOPICS = Server(
    "wsgate",
    "wsgate benchmarks.topic_app:app --no-access-log --log-level warning --port {port}"
    " --topics-rule 'kept history=100'",
    packages=("wsgate", "uvloop"),
)
SERVERS[WSGATE_TOPICS] = _TOPICS
SERVERS[with_workers(WSGATE_TOPICS, 2)] = _with_workers(_TOPICS, 2)
_FROZEN = {"all read": 0, "close": 0.05, "drop": 0.05, "conflate": 0.05}
FROZEN = tuple(f"wsgate-{slow.replace(' ', '-')}" for slow in _FROZEN)
for _name, (_slow, _share) in zip(FROZEN, _FROZEN.items(), strict=True):
    SERVERS[_name] = replace(
        _TOPICS,
        label=f"slow={_slow}" if _share else _slow,
        command=f"{_TOPICS.command} --topics-max-outlet 65536"
        + (f" --topics-rule 'plain slow={_slow}'" if _share else ""),
        frozen=_share,
    )

# These are no servers: they measure themselves.
REDIS_PY = "redis-py"
VIA_REDIS = ("wsgate-redis-plain", "wsgate-redis-kept")
SUBSCRIPTIONS = "wsgate-subscriptions"
_ROUND_TRIP = "python -m benchmarks.redis_round_trip {seconds}"
SERVERS |= {
    REDIS_PY: Server("redis-py", f"{_ROUND_TRIP} redis-py", None, ("redis", "uvloop")),
    VIA_REDIS[0]: Server("wsgate, a plain topic", f"{_ROUND_TRIP} plain", None, ("wsgate",)),
    VIA_REDIS[1]: Server("wsgate, a topic with history", f"{_ROUND_TRIP} kept", None, ("wsgate",)),
    SUBSCRIPTIONS: Server("wsgate", "python -m benchmarks.subscriptions", None, ("wsgate",)),
}


def all_packages() -> Iterator[str]:
    """Yield the packages of all servers, each once."""
    yield from dict.fromkeys(name for server in SERVERS.values() for name in server.packages)
