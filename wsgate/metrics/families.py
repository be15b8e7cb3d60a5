"""Every metric that wsgate exposes: name, type, labels, buckets and help text, in one table.

The instruments, docs/reference/metrics.md and the checks of the dashboard and the alert rules are
made from it. Names follow Prometheus: base units, `_total` for counters, few labels.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

WORKER = "worker"
"""The label with the number of a worker, from 1. A worker that takes another's place may get its
number. "0" is the supervisor. Without workers, the only process is "1"."""

_TIMES = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_LONG_TIMES = (1.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 14400.0, 86400.0)
_SIZES = tuple(4.0**power for power in range(2, 13))  # 16 bytes to 16 MiB


@dataclass(frozen=True, slots=True)
class Family:
    """One metric.

    name: with the prefix, and the `_total` of a counter. kind: its type. help: what it counts.
    labels: their names; `worker` comes first where each worker has series of its own. bounds: the
    upper bounds of a histogram's buckets, without infinity.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def is_by_worker(self) -> bool:
        """Whether each worker has series of its own; otherwise those of all workers are added."""
        return WORKER in self.labels

    @property
    def series_names(self) -> set[str]:
        """The names under which its series are stored: a histogram has three."""
        if self.kind == "histogram":
            return {f"{self.name}_{part}" for part in ("bucket", "sum", "count")}
        return {self.name}


CONNECTIONS = Family(
    "wsgate_connections",
    "gauge",
    "Open connections: WebSockets, HTTP connections, and those in their handshake.",
    (WORKER,),
)
WEBSOCKETS = Family(
    "wsgate_websockets", "gauge", "Open WebSockets, from the accept to the end.", (WORKER,)
)
OPENED = Family(
    "wsgate_websockets_opened_total",
    "counter",
    "WebSockets that the app accepted. reconnect: whether the client named its previous connection "
    "(--ws-reconnect-field).",
    ("reconnect",),
)
CLOSED = Family(
    "wsgate_websockets_closed_total",
    "counter",
    "WebSockets that ended, by close code, by who ended them, and by cause (see the close codes). "
    "Codes that only a few clients use are `other`.",
    ("code", "initiator", "cause"),
)
DURATION = Family(
    "wsgate_websocket_duration_seconds",
    "histogram",
    "Seconds from the accept of a WebSocket to its end.",
    (),
    _LONG_TIMES,
)
HANDSHAKES_REFUSED = Family(
    "wsgate_handshakes_refused_total",
    "counter",
    "WebSocket handshakes that were refused, by HTTP status and reason.",
    ("status", "reason"),
)
CONNECTIONS_REFUSED = Family(
    "wsgate_connections_refused_total",
    "counter",
    "Connections that were answered with 503, because a limit of connections was reached.",
)
BAD_REQUESTS = Family(
    "wsgate_bad_requests_total",
    "counter",
    "Requests that were refused before the app was called: malformed, too large or too slow.",
    ("status",),
)
MESSAGES = Family(
    "wsgate_messages_total",
    "counter",
    "WebSocket messages. direction: `received` or `sent`.",
    ("direction",),
)
MESSAGE_BYTES = Family(
    "wsgate_message_bytes_total",
    "counter",
    "Bytes of these messages as the app has them: text in UTF-8, not compressed, without headers "
    "of frames.",
    ("direction",),
)
MESSAGE_SIZE = Family(
    "wsgate_message_size_bytes",
    "histogram",
    "Bytes of a WebSocket message, counted in the same way.",
    ("direction",),
    _SIZES,
)
EVENT_TIME = Family(
    "wsgate_websocket_event_seconds",
    "histogram",
    "Seconds in the app for one event of a WebSocket: from the return of its receive() to its next "
    "call. Apps that receive in one task and work in another take no time.",
    (),
    _TIMES,
)
ROUND_TRIP = Family(
    "wsgate_ping_round_trip_seconds",
    "histogram",
    "Seconds from a Ping to its Pong. It includes the time that the client takes to answer.",
    (),
    _TIMES,
)
LAG = Family(
    "wsgate_event_loop_lag_seconds",
    "histogram",
    "Seconds by which the event loop of a worker was late for a timer.",
    (WORKER,),
    _TIMES,
)
DRAIN = Family(
    "wsgate_write_drain_seconds",
    "histogram",
    "Seconds for which the write buffer of a client was full: from above 64 KiB to below 16 KiB.",
    (),
    _TIMES,
)
WRITE_BUFFER = Family(
    "wsgate_write_buffer_bytes",
    "gauge",
    "Bytes that wait in the write buffers of all connections, because their clients do not read.",
    (WORKER,),
)
SLOW = Family(
    "wsgate_slow_consumers",
    "gauge",
    "Open WebSockets whose write buffer is full: their senders wait.",
    (WORKER,),
)
QUEUED = Family(
    "wsgate_queued_messages",
    "gauge",
    "Messages in queues. queue: `receive` has those that the app has not received yet, `outlet` "
    "those that wait for slow clients.",
    (WORKER, "queue"),
)
CALLS = Family(
    "wsgate_app_calls",
    "gauge",
    "Running calls of the app. type: `http` or `websocket`.",
    (WORKER, "type"),
)
HTTP_REQUESTS = Family(
    "wsgate_http_requests_total",
    "counter",
    "HTTP requests with a response. method: `other` if it is not a common one. status: its class, "
    "such as `2xx`.",
    ("method", "status"),
)
HTTP_TIME = Family(
    "wsgate_http_request_duration_seconds",
    "histogram",
    "Seconds from the head of an HTTP request to the end of its response.",
    (),
    _TIMES,
)
HTTP_BYTES = Family(
    "wsgate_http_response_bytes_total", "counter", "Bytes of the bodies of HTTP responses."
)
TOPICS = Family(
    "wsgate_topics", "gauge", "Topics with subscribers or listeners on a worker.", (WORKER,)
)
SUBSCRIPTIONS = Family(
    "wsgate_topic_subscriptions",
    "gauge",
    "Subscriptions of WebSockets, and listeners of the app.",
    (WORKER,),
)
PUBLISHED = Family(
    "wsgate_topic_publishes_total", "counter", "Messages that the app has published."
)
DELIVERED = Family(
    "wsgate_topic_deliveries_total",
    "counter",
    "Published messages that were given to a WebSocket or to a listener of the app.",
)
DROPPED = Family(
    "wsgate_topic_drops_total",
    "counter",
    "Published messages that were dropped, by cause.",
    ("cause",),
)
CLOSED_SLOW = Family(
    "wsgate_topic_closed_slow_total",
    "counter",
    "WebSockets that were closed because more than --topics-max-outlet waited for them.",
)
RECOVERIES = Family(
    "wsgate_topic_recoveries_total",
    "counter",
    "Subscribers that asked for what they had missed. complete: `false` if history did not reach "
    "back so far.",
    ("complete",),
)
BROKER_UP = Family(
    "wsgate_broker_up",
    "gauge",
    "1 while the worker reaches its broker (the topics hub, Redis), else 0.",
    (WORKER,),
)
BROKER_LAG = Family(
    "wsgate_broker_lag_seconds",
    "gauge",
    "Seconds that the broker took for its latest answer.",
    (WORKER,),
)
BROKER_RECONNECTS = Family(
    "wsgate_broker_reconnects_total",
    "counter",
    "Connections to the broker that had to be made again.",
)
WORKERS = Family(
    "wsgate_workers",
    "gauge",
    "Worker processes. state: `starting`, `ready`, or `stopping`.",
    ("state",),
)
WORKERS_TARGET = Family(
    "wsgate_workers_target", "gauge", "How many workers should serve (--workers)."
)
RESTARTS = Family(
    "wsgate_worker_restarts_total",
    "counter",
    "Worker processes that ended, by reason: `replaced` (a restart, a limit, a drain), `failed` "
    "(it ended by itself) or `killed` (its event loop was blocked).",
    ("reason",),
)
STOP_TIME = Family(
    "wsgate_worker_stop_seconds",
    "histogram",
    "Seconds from the request to a worker to stop to the end of its process.",
    (),
    (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
INFO = Family("wsgate_info", "gauge", "1, with the version of wsgate as its label.", ("version",))

WORKER_FAMILIES = (
    *(CONNECTIONS, WEBSOCKETS, OPENED, CLOSED, DURATION),
    *(HANDSHAKES_REFUSED, CONNECTIONS_REFUSED, BAD_REQUESTS),
    *(MESSAGES, MESSAGE_BYTES, MESSAGE_SIZE, EVENT_TIME, ROUND_TRIP, LAG, DRAIN),
    *(WRITE_BUFFER, SLOW, QUEUED, CALLS, HTTP_REQUESTS, HTTP_TIME, HTTP_BYTES),
    *(TOPICS, SUBSCRIPTIONS, PUBLISHED, DELIVERED, DROPPED, CLOSED_SLOW, RECOVERIES),
    *(BROKER_UP, BROKER_LAG, BROKER_RECONNECTS),
)
"""What each worker counts."""
SERVER_FAMILIES = (INFO, WORKERS, WORKERS_TARGET, RESTARTS, STOP_TIME)
"""What the supervisor counts, or the only process."""
FAMILIES = (*SERVER_FAMILIES, *WORKER_FAMILIES)

# Exposed by prometheus-client's own collector, for each process; they get the label `worker`.
PROCESS_NAMES = (
    *("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"),
    *("process_virtual_memory_bytes", "process_max_fds", "process_start_time_seconds"),
)
