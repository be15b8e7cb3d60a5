"""The loads, the servers that each load is measured on, and the goals for wsgate."""

from dataclasses import dataclass
from enum import Enum

from benchmarks.servers import (
    FAN_LIMIT,
    FROZEN,
    LIMIT,
    PINGING_LIMIT,
    REDIS_PY,
    SEVERAL,
    SOCKETIFY,
    SUBSCRIPTIONS,
    UVICORN,
    UVICORN_TLS,
    VIA_REDIS,
    WSGATE,
    WSGATE_LOCAL,
    WSGATE_REDIS,
    WSGATE_SUPERVISED,
    WSGATE_TLS,
    WSGATE_TOPICS,
    with_workers,
)


class Figure(Enum):
    """The figure that a load is compared by."""

    RATE = "rate"  # messages, handshakes or requests per second; higher is better
    MEMORY = "bytes"  # bytes of memory per connection; lower is better
    LATENCY = "p99_ms"  # 99th percentile in milliseconds; lower is better
    MEDIAN = "p50_ms"  # median in milliseconds; lower is better
    CPU = "cpu_us"  # microseconds of processor time per second and connection; lower is better
    BALANCE = "ratio"  # connections of the fullest worker to those of the emptiest; lower is better
    PER_CPU = "per_cpu"  # deliveries per second of the server's processor time; higher is better
    FAILURES = "failures"  # handshakes, requests or deliveries that failed; lower is better

    @property
    def is_rate(self) -> bool:
        """Whether higher is better."""
        return self in (Figure.RATE, Figure.PER_CPU)


class Deflate(Enum):
    """How the client uses permessage-deflate."""

    NONE = "none"
    OFFERED = "offered"  # the client offers it but sends its messages uncompressed
    COMPRESSED = "compressed"  # the client compresses every message, as browsers do


@dataclass(frozen=True)
class Load:
    """One load.

    Attributes:
        title: Its name in tables.
        mode: The mode of the load generator; see load.c. The mode "restart" is restarts.py,
            "topics" is topic_latency.py, "jitter" jitter.py. In the mode "program" the server's
            command is a program that measures and prints the figures.
        servers: The servers to measure by default.
        connections: The number of connections.
        size: The size of a message in bytes, as the app receives it.
        deflate: How the client uses permessage-deflate.
        figure: The figure to compare.
        others: More servers that --servers may name.
        like: An earlier load. Of uvicorn's variants, only the best in that load is measured.
        max_rounds: The number of rounds, if it is lower than --rounds.
        seconds: The length of a run, if it differs from --seconds. With ten thousand connections
            the answers come in waves, so a run has to be longer.
        active: For the mode "hold": how many connections send messages.
        rate: For the mode "hold": messages per second on each of them. For the mode "paced":
            messages per second.
        warm_up: Seconds before anything is counted, if it differs from a sixth of `seconds`.
        greeted: Each connection gets a first message, for which the generator waits.
        tls: The client speaks TLS, with a new session for each connection.
        proxied: The client sends the headers that a proxy would add. All servers trust 127.0.0.1.
        path: The path of the WebSockets and requests; see app.py.
        is_spread: The server and the load generator share all processors, instead of one each.
        apart: For the mode "balance": seconds from one connection to the next; 0 is a burst.
        restarts: For the mode "restart": how often the server is restarted.
        burst: For the mode "fanout": how often the server sends each message to all.
        messages: For the mode "jitter": how many are published, half a second apart.
    """

    title: str
    mode: str
    servers: tuple[str, ...]
    connections: int = 64
    size: int = 64
    deflate: Deflate = Deflate.NONE
    figure: Figure = Figure.RATE
    others: tuple[str, ...] = ()
    like: str | None = None
    max_rounds: int | None = None
    seconds: float | None = None
    active: int = 0
    rate: float = 0
    warm_up: float | None = None
    greeted: bool = False
    tls: bool = False
    proxied: bool = False
    path: str = "/"
    is_spread: bool = False
    apart: float = 0
    restarts: int = 0
    burst: int = 1
    messages: int = 0


@dataclass(frozen=True)
class Goal:
    """A goal for one server and one load.

    Attributes:
        load: The name of the load.
        bound: The minimum for a rate, the maximum for memory and latency. It applies to the ratio
            to the best of `against` in the same round, or to the figure itself if that is empty.
        against: The servers to compare with.
        server: The server that has the goal.
        is_strict: A value equal to the bound does not satisfy the goal.
        other_figure: The figure to compare, if it is not that of the load.
    """

    load: str
    bound: float
    against: tuple[str, ...] = ()
    server: str = WSGATE
    is_strict: bool = False
    other_figure: Figure | None = None

    @property
    def figure(self) -> Figure:
        """The figure to compare."""
        return self.other_figure or LOADS[self.load].figure


_GROWTH_ROUNDS = 3
_WSGATE_2 = with_workers(WSGATE, 2)
_WSGATE_4 = with_workers(WSGATE, 4)
_WSGATE_6 = with_workers(WSGATE, 6)
_SLOW = ("hypercorn", "daphne")
_FAST = (LIMIT, WSGATE, "socketify", "granian", *UVICORN)
_TLS = (WSGATE_TLS, *UVICORN_TLS)
_DEFLATING = (LIMIT, WSGATE, "socketify-deflate", *UVICORN)
_GROWING = (LIMIT, WSGATE, "socketify", *UVICORN)


def _sized(size: int, title: str, like: str, seconds: float | None = None) -> Load:
    return Load(
        f"Echo of {title}, 64 connections",
        "echo",
        _GROWING,
        size=size,
        like=like,
        max_rounds=_GROWTH_ROUNDS,
        seconds=seconds,
    )


def _crowded(connections: int, seconds: float | None = None) -> Load:
    return Load(
        f"Echo of 64 B, {connections:,} connection{'s' * (connections > 1)}",
        "echo",
        _GROWING,
        connections=connections,
        like="echo64",
        max_rounds=_GROWTH_ROUNDS,
        seconds=seconds,
    )


def _deflated(size: int, title: str, deflate: Deflate) -> Load:
    how = "compressed" if deflate is Deflate.COMPRESSED else "plain, deflate agreed"
    return Load(
        f"Echo of {title}, {how}, 64 connections",
        "echo",
        _DEFLATING,
        size=size,
        deflate=deflate,
        like="echo64-compressed",
        max_rounds=_GROWTH_ROUNDS,
    )


def _fanned(connections: int, burst: int = 1, seconds: float | None = None) -> Load:
    times = f", {burst} at once" if burst > 1 else ""
    return Load(
        f"One message to {connections:,} WebSockets{times}: deliveries",
        "fanout",
        (FAN_LIMIT, WSGATE, "socketify", "granian", *UVICORN),
        connections=connections,
        path=f"/fan/{burst}",
        burst=burst,
        seconds=seconds,
        like="echo64",
    )


def _on_topic(topic: str, title: str) -> Load:
    return Load(
        f"{title} of 500 WebSockets: deliveries per second of processor time",
        "fanout",
        (WSGATE_TOPICS, with_workers(WSGATE_TOPICS, 2)),
        connections=500,
        path=f"/{topic}",
        figure=Figure.PER_CPU,
        seconds=3,
        greeted=True,
        is_spread=True,
    )


def _frozen(connections: int, rate: float) -> Load:
    return Load(
        f"{connections:,} subscribers, 5 % of which do not read: 99th percentile of the others, ms",
        "paced",
        FROZEN,
        connections=connections,
        path="/plain",
        size=1024,
        rate=rate,
        seconds=5,
        warm_up=8,
        figure=Figure.LATENCY,
        max_rounds=3,
        greeted=True,
    )


def _several(count: int) -> tuple[str, ...]:
    return tuple(with_workers(name, count) for name in SEVERAL)


def _balanced(connections: int, workers: int, apart: float = 0) -> Load:
    how = f"one every {apart * 1000:.0f} ms" if apart else "in a burst"
    return Load(
        f"Balance: {connections:,} connections {how}, {workers} workers",
        "balance",
        _several(workers),
        connections=connections,
        figure=Figure.BALANCE,
        max_rounds=1 if apart else 3,
        path="/pid",
        is_spread=True,
        apart=apart,
    )


def _restarted(restarts: int, servers: tuple[str, ...]) -> Load:
    return Load(
        f"{restarts} restarts of 2 workers: handshakes and requests that failed",
        "restart",
        servers,
        figure=Figure.FAILURES,
        max_rounds=1,
        is_spread=True,
        restarts=restarts,
    )


def _jittered(server: str, title: str) -> Load:
    return Load(
        f"2,000 clients that lose their network for 1 to 5 s, 60 messages, {title}: missing, twice",
        "jitter",
        (server,),
        connections=2000,
        messages=60,
        figure=Figure.FAILURES,
        max_rounds=1,
        is_spread=True,
    )


LOADS = {
    "echo64": Load(
        "Echo of 64 B, 64 connections", "echo", (*_FAST, "wsgate-wsproto", *_SLOW), size=64
    ),
    "echo16k": Load("Echo of 16 KiB, 64 connections", "echo", (*_FAST, *_SLOW), size=16 * 1024),
    "connect": Load("Handshakes, 32 at a time", "connect", (*_FAST, *_SLOW), connections=32),
    "http": Load(
        "HTTP requests, 32 connections",
        "http",
        (LIMIT, WSGATE, "socketify", "granian", "uvicorn-sansio", *_SLOW),
        connections=32,
    ),
    "echo64-compressed": Load(
        "Echo of 64 B, compressed, 64 connections",
        "echo",
        (*_DEFLATING, "granian", *_SLOW),
        size=64,
        deflate=Deflate.COMPRESSED,
    ),
    "idle-deflate": Load(
        "Bytes for an idle connection, deflate offered",
        "idle",
        (*_FAST, "socketify-deflate", *_SLOW),
        connections=5000,
        deflate=Deflate.OFFERED,
        figure=Figure.MEMORY,
        max_rounds=3,
    ),
    "idle": Load(
        "Bytes for an idle connection, no deflate",
        "idle",
        (*_FAST, *_SLOW),
        connections=5000,
        figure=Figure.MEMORY,
        max_rounds=1,
    ),
    "idle-pings": Load(
        "Processor time for an idle connection with Pings, us a second",
        "idle",
        (PINGING_LIMIT, WSGATE, *UVICORN),
        connections=10_000,
        seconds=40,
        figure=Figure.CPU,
        max_rounds=3,
    ),
    "hold": Load(
        "50,000 connections, 500 of them with 10 messages a second: 99th percentile, ms",
        "hold",
        (WSGATE,),
        others=(LIMIT, *UVICORN, "hypercorn"),
        connections=50_000,
        active=500,
        rate=10,
        seconds=10,
        figure=Figure.LATENCY,
        max_rounds=2,
    ),
    "tls-echo64": Load("Echo of 64 B over TLS, 64 connections", "echo", _TLS, size=64, tls=True),
    "tls-connect": Load(
        "Handshakes of TLS and WebSocket, 32 at a time", "connect", _TLS, connections=32, tls=True
    ),
    "tls-idle": Load(
        "Bytes for an idle connection over TLS",
        "idle",
        _TLS,
        connections=3000,
        figure=Figure.MEMORY,
        max_rounds=3,
        tls=True,
    ),
    "http-proxied": Load(
        "HTTP requests of a proxy, 32 connections",
        "http",
        (WSGATE, *UVICORN),
        connections=32,
        like="http",
        proxied=True,
    ),
    "connect-proxied": Load(
        "Handshakes through a proxy, 32 at a time",
        "connect",
        (WSGATE, *UVICORN),
        connections=32,
        like="connect",
        proxied=True,
    ),
    "echo64-c1": _crowded(1),
    "echo64-c1000": _crowded(1000),
    "echo64-c10000": _crowded(10_000, seconds=4),
    "echo16": _sized(16, "16 B", "echo64"),
    "echo1k": _sized(1024, "1 KiB", "echo64"),
    "echo128k": _sized(128 * 1024, "128 KiB", "echo16k"),
    "echo1m": _sized(1024 * 1024, "1 MiB", "echo16k", seconds=3),
    "echo64-deflate": _deflated(64, "64 B", Deflate.OFFERED),
    "echo16k-deflate": _deflated(16 * 1024, "16 KiB", Deflate.OFFERED),
    "echo16k-compressed": _deflated(16 * 1024, "16 KiB", Deflate.COMPRESSED),
    "fan500": _fanned(500),
    "fan19000": _fanned(19_000, seconds=4),
    "fan500-burst": _fanned(500, 32),
    "fan500-json": Load(
        "One message of 1 KiB of JSON to 500 WebSockets, deflate agreed: deliveries",
        "fanout",
        (WSGATE, *UVICORN),
        connections=500,
        size=1024,
        deflate=Deflate.COMPRESSED,
        path="/fan/1",
    ),
    "frozen500": _frozen(500, rate=50),
    "frozen2000": _frozen(2000, rate=12.5),
    "redis-round-trip": Load(
        "From publish to receive through Redis: median, ms",
        "program",
        (REDIS_PY, *VIA_REDIS),
        figure=Figure.MEDIAN,
        seconds=3,
        is_spread=True,
    ),
    "subscriptions": Load(
        "100,000 topics with 500,000 subscriptions: bytes for a subscription",
        "program",
        (SUBSCRIPTIONS,),
        figure=Figure.MEMORY,
        max_rounds=3,
    ),
    "workers-fan500": _on_topic("plain", "A plain topic"),
    "workers-fan500-kept": _on_topic("kept", "A topic with history"),
    "workers-work": Load(
        "Echo of 64 B with 0.2 ms of work, 64 connections",
        "echo",
        (WSGATE, _WSGATE_2),
        path="/work",
        is_spread=True,
    ),
    "workers-echo64": Load(
        "Echo of 64 B by 2 workers, 64 connections", "echo", _several(2), is_spread=True
    ),
    "workers-connect": Load(
        "Handshakes, 32 at a time, with a supervisor",
        "connect",
        (WSGATE, WSGATE_SUPERVISED),
        connections=32,
        seconds=3,
    ),
    "balance-1000-w2": _balanced(1000, 2),
    "balance-10000-w2": _balanced(10_000, 2),
    "balance-1000-w4": _balanced(1000, 4),
    "balance-10000-w4": _balanced(10_000, 4),
    "balance-slow-w4": _balanced(1000, 4, apart=0.01),
    "restart-100": _restarted(100, (_WSGATE_2,)),
    "restart-20": _restarted(20, _several(2)),
    "topics-latency": Load(
        "A message from one worker to another, from publish to receive: median, ms",
        "topics",
        (_WSGATE_2,),
        figure=Figure.MEDIAN,
        max_rounds=3,
        is_spread=True,
    ),
    "jitter-local": _jittered(WSGATE_LOCAL, "a rolling restart"),
    "jitter-redis": _jittered(WSGATE_REDIS, "rolling restarts and one of Redis"),
    "workers-hold": Load(
        "100,000 connections over 6 workers, 1,000 of them with 5 messages a second:"
        " 99th percentile, ms",
        "hold",
        (_WSGATE_6,),
        connections=100_000,
        active=1000,
        rate=5,
        seconds=10,
        figure=Figure.LATENCY,
        max_rounds=2,
        is_spread=True,
    ),
}

_PEERS_OF_TOPICS = ("socketify", "granian", *UVICORN)
GOALS = (
    Goal("echo64", 0.80, (LIMIT,)),
    Goal("echo64", 1.25, SOCKETIFY),
    Goal("echo64", 1.7, UVICORN),
    Goal("echo64", 1.3, ("uvicorn-wsproto",), server="wsgate-wsproto"),
    Goal("echo16k", 0.80, (LIMIT,)),
    Goal("echo16k", 1.25, SOCKETIFY),
    Goal("connect", 0.60, (LIMIT,)),
    Goal("connect", 1, ("granian",), is_strict=True),
    Goal("connect", 1, SOCKETIFY, is_strict=True),
    Goal("connect", 3, UVICORN),
    Goal("http", 1, UVICORN),
    Goal("echo64-compressed", 0.55, (LIMIT,)),
    Goal("echo64-compressed", 1.5, UVICORN),
    Goal("idle-deflate", 6000),
    Goal("idle-deflate", 1, SOCKETIFY, is_strict=True),
    Goal("idle-pings", 2),
    Goal("hold", 50, is_strict=True),
    Goal("http-proxied", 1, UVICORN, is_strict=True),
    Goal("connect-proxied", 1, UVICORN, is_strict=True),
    *(
        Goal(load, 1, UVICORN_TLS, server=WSGATE_TLS, is_strict=True)
        for load in ("tls-echo64", "tls-connect", "tls-idle")
    ),
    Goal("fan500", 0.85, (FAN_LIMIT,)),
    Goal("fan500", 2, _PEERS_OF_TOPICS),
    Goal("fan19000", 0.75, (FAN_LIMIT,)),
    Goal("fan500-burst", 4, (FAN_LIMIT,)),
    Goal("fan500-json", 8, UVICORN),
    *(
        Goal(load, 1.10, (FROZEN[0],), server=server)
        for load in ("frozen500", "frozen2000")
        for server in FROZEN[1:]
    ),
    *(Goal("redis-round-trip", 1.5, (REDIS_PY,), server=server) for server in VIA_REDIS),
    *(
        Goal(load, 0.85, (WSGATE_TOPICS,), server=with_workers(WSGATE_TOPICS, 2))
        for load in ("workers-fan500", "workers-fan500-kept")
    ),
    Goal("workers-work", 1.8, (WSGATE,), server=_WSGATE_2),
    *(
        Goal("workers-echo64", 1, (peer,), server=_WSGATE_2, is_strict=True)
        for peer in _several(2)
        if peer != _WSGATE_2
    ),
    Goal("workers-connect", 0.97, (WSGATE,), server=WSGATE_SUPERVISED),
    Goal("balance-10000-w4", 1.05, server=_WSGATE_4),
    Goal("restart-100", 0, server=_WSGATE_2),
    Goal("topics-latency", 1, server=_WSGATE_2, is_strict=True),
    Goal("jitter-local", 0, server=WSGATE_LOCAL),
    Goal("jitter-redis", 0, server=WSGATE_REDIS),
    Goal("workers-hold", 50, server=_WSGATE_6, is_strict=True),
    Goal("workers-hold", 5800, server=_WSGATE_6, other_figure=Figure.MEMORY),
)


@dataclass(frozen=True)
class Growth:
    """A table that shows how the rate changes with one parameter: (label, load) for each column."""

    title: str
    columns: tuple[tuple[str, str], ...]


GROWTHS = (
    Growth(
        "connections",
        (
            ("1", "echo64-c1"),
            ("64", "echo64"),
            ("1,000", "echo64-c1000"),
            ("10,000", "echo64-c10000"),
        ),
    ),
    Growth(
        "message size",
        (
            ("16 B", "echo16"),
            ("64 B", "echo64"),
            ("1 KiB", "echo1k"),
            ("16 KiB", "echo16k"),
            ("128 KiB", "echo128k"),
            ("1 MiB", "echo1m"),
        ),
    ),
    Growth(
        "compression",
        (
            ("64 B, none", "echo64"),
            ("64 B, agreed, plain", "echo64-deflate"),
            ("64 B, compressed", "echo64-compressed"),
            ("16 KiB, none", "echo16k"),
            ("16 KiB, agreed, plain", "echo16k-deflate"),
            ("16 KiB, compressed", "echo16k-compressed"),
        ),
    ),
)

# The columns of the table of balance: (label, load, workers).
BALANCES = (
    ("1,000, 2 workers", "balance-1000-w2", 2),
    ("10,000, 2 workers", "balance-10000-w2", 2),
    ("1,000, 4 workers", "balance-1000-w4", 4),
    ("10,000, 4 workers", "balance-10000-w4", 4),
    ("1,000 one by one, 4 workers", "balance-slow-w4", 4),
)
