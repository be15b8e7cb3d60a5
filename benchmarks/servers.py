"""The servers to compare: the command that starts each one, and its name in the tables.

Each server runs the same app with one worker, without an access log, on uvloop and httptools if it
supports them. All other settings are the server's defaults.
"""

from collections.abc import Iterator
from dataclasses import dataclass

APP = "benchmarks.app:app"
LIMIT = "limit"
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
    """

    label: str
    command: str
    by_fd: str | None = None
    packages: tuple[str, ...] = ()
    tls: bool = False


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


_WSGATE = f"wsgate {APP} --no-access-log --log-level warning"
_SOCKETIFY = f"python -m socketify {APP} --port {{port}} --disable-listen-log True"
SERVERS = {
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


def all_packages() -> Iterator[str]:
    """Yield the packages of all servers, each once."""
    yield from dict.fromkeys(name for server in SERVERS.values() for name in server.packages)
