"""One worker: the state shared by its connections, and everything that is open."""

import asyncio
import contextvars
import math
import os
import random
import socket
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVarTuple

from wsgate import loggers
from wsgate._version import __version__
from wsgate.asgi.scope import Mount
from wsgate.brokers import urls
from wsgate.brokers.make import make_broker
from wsgate.config import FORWARDED_ALLOW_IPS, Config
from wsgate.errors import ConfigError, InvalidMessage
from wsgate.fields import is_token, normalize_headers
from wsgate.http.h1.builtin_parser import BuiltinHttp1Connection
from wsgate.http.h1.h11_parser import H11Http1Connection
from wsgate.http.request import head_limits
from wsgate.observe import access_log
from wsgate.observe.observers import Observers
from wsgate.proxies.forwarded import ForwardedHeaders
from wsgate.proxies.trusted import TrustedPeers
from wsgate.server.admission import Admission
from wsgate.server.backpressure import Waiters
from wsgate.server.certificate_watch import CertificateWatch
from wsgate.server.connection_ids import ConnectionIds
from wsgate.server.connection_info import ConnectionInfo
from wsgate.server.deadlines import TICK, Checked, Deadlines
from wsgate.server.liveness import first_check
from wsgate.server.other_workers import NoOtherWorkers, OtherWorkers
from wsgate.server.reconnects import Reconnects
from wsgate.server.topic_service import TopicService
from wsgate.server.trusted_sockets import trust_named_sockets
from wsgate.server.watchdog import BLOCKED
from wsgate.server.write_batch import WriteBatch
from wsgate.static.mounts import with_static_files
from wsgate.types import App, Header
from wsgate.ws.codecs import codec_maker
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.deflate.negotiation import DeflateSettings
from wsgate.ws.handshake import PROTOCOL, lines_of
from wsgate.ws.limits import MessageLimits
from wsgate.ws.origins import Origins

try:
    from wsgate.server._fast_path import MessageMeter
except ImportError:  # no compiler was found where wsgate was installed
    from wsgate.server.message_meter import (  # type: ignore[assignment]  # the same class
        PlainMessageMeter as MessageMeter,
    )

if TYPE_CHECKING:
    from wsgate.brokers.broker import Broker
    from wsgate.http.h1.connection import Http1Connection
    from wsgate.metrics.meter import Meter
    from wsgate.server.exchange import Exchange
    from wsgate.server.websocket import WebSocket


Args = TypeVarTuple("Args")


class OpenConnection(Checked, Protocol):
    """A connection of the worker, whichever protocol it speaks.

    connection_id: of the form that `ConnectionIds` makes.
    """

    connection_id: str

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were written and that the kernel has not taken."""

    def stop(self) -> None:
        """Accept no further request, because the server stops."""

    def abort(self) -> None:
        """Close at once and drop unsent data."""

    def info(self) -> ConnectionInfo:
        """Return what an operator sees of it."""


# Headers that only the server sets: they determine how a response is framed.
_FRAMING = frozenset({b"connection", b"content-length", b"transfer-encoding", b"upgrade"})


class Worker:
    """One worker: its app, settings and clock, and everything that is open.

    Args:
        app: The app.
        config: The settings.
        time: Returns a monotonic time in seconds; tests pass a fake clock.
        other_workers: The other workers; None if there are none.
        hub: The path of the topics hub's socket; None if there is no hub, or not yet.

    Raises:
        ConfigError: --header or --topics-rule is invalid, or a folder of --static cannot be read.

    Attributes:
        app: The app, with the static folders in front of it if there are any.
        connections: The open connections, also those whose PROXY header has not arrived yet.
        connection_ids: Makes their ids.
        exchanges: The running calls of the app for HTTP requests, by task.
        websockets: The running calls of the app for WebSockets, by task.
        certificates: The certificates of its listeners, None without TLS.
        ended: Woken when a connection or a call of the app has ended.
        state: The state of the app's lifespan.
        stopping: No new request is accepted.
        opens_websockets: Handshakes are accepted. False a little earlier than `stopping` is true: a
            WebSocket from the backlog would be opened only to be closed.
        is_replaced: Another worker takes the new connections. While this one stops, it still serves
            the next request of each connection, so that no client finds its connection closed at
            the moment in which it sends one.
        other_workers: The other workers.
        meter: Counts what happens, None without --metrics.
        topics: The topics of this worker.
        topics_hub: The path of the topics hub's socket, None without a hub.
        forwarded: Reads the headers of trusted proxies, None with --no-proxy-headers.
        proxies: The peers that begin each connection with a PROXY header, None without
            --proxy-protocol.
        reconnects: Recognises clients that connect again, None without --ws-reconnect-field.
        first_check: Seconds from the opening of a WebSocket to its first check.
        http1: The class of the HTTP/1.1 parser.
        upgrade_to: The protocol that a connection may switch to, None with --ws none.
        ask_to_stop: Called when the app has completed --limit-max-requests calls.
        process: The id of the serving process.
        ticked_at: When the last tick was, in seconds of `clock`. All that begins before the next
            one shares the number.
        lag: By how many seconds the event loop was late then.
        blocked: For how many seconds it was blocked before that, 0 if it was not for long.
        variables: The context variables of the server's callbacks.
        app_variables: The context variables of which each call of the app gets a copy. They
            include those that the lifespan has set.
        make_codec: Returns a new frame codec; its argument is the agreement on permessage-deflate,
            None without compression.
        default_headers: The headers of every response.
        default_lines: The same headers, serialized.
    """

    meter: "Meter | None" = None

    def __init__(
        self,
        app: App,
        config: Config,
        time: Callable[[], float] = time.monotonic,
        other_workers: OtherWorkers | None = None,
        hub: str | None = None,
    ) -> None:
        self.app = with_static_files(app, config.static, config.static_cache_control)
        self.process = os.getpid()
        self.config = config
        self._time = time
        self._blocked_time = 0.0  # seconds that the loop was blocked, in total
        self._next_tick = math.inf  # when `tick` should be called
        self._pause = TICK  # seconds from the plan to that time
        self.ticked_at = self.clock()
        self.lag = self.blocked = 0.0
        self.deadlines = Deadlines()
        self.certificates = CertificateWatch(config) if config.has_tls else None
        self.connections: set[OpenConnection] = set()
        self.connection_ids = ConnectionIds(self.process)
        self.exchanges: dict[asyncio.Task[None], Exchange] = {}
        self.websockets: dict[asyncio.Task[None], WebSocket] = {}
        self.ask_to_stop: Callable[[], object] = _do_nothing
        self._calls_left = _max_calls(config)
        # One bound method, shared by all tasks.
        self.on_task_end = self.task_ended if self._calls_left is None else self._count_task_end
        self.variables = contextvars.copy_context()
        self.app_variables = contextvars.Context() if config.reset_contextvars else self.variables
        self.ended = Waiters()
        self.state: dict[str, Any] = {}
        self.mount = Mount(config.root_path, self.state)
        self.stopping = self.is_replaced = False
        self.opens_websockets = True
        self.other_workers: OtherWorkers = other_workers or NoOtherWorkers()
        self.origins = Origins(config.ws_origins) if config.ws_origins else None
        self.admission = Admission(
            config.limit_connections, config.limit_connections_per_ip, self.other_workers
        )
        self.forwarded = _forwarded_headers(config)
        self.proxies = TrustedPeers(config.proxy_allow_from) if config.proxy_protocol else None
        self.batch = WriteBatch(self.call_soon, self.run_outside_app)
        self.http1: type[Http1Connection] = (
            H11Http1Connection if config.http == "h11" else BuiltinHttp1Connection
        )
        self.upgrade_to = None if config.ws == "none" else PROTOCOL
        self.observers = Observers([access_log.log_event] if config.access_log else [])
        self.head_limits = head_limits(
            config.limit_request_head, config.limit_request_target, config.limit_request_fields
        )
        self.reconnects = _reconnects(config)
        self.first_check = first_check(config)
        deflate = _deflate_settings(config)
        self.deflate = deflate if config.ws_per_message_deflate else None
        limits = MessageLimits(config.ws_max_size, config.ws_max_fragments)
        self.make_codec = codec_maker(
            limits, Compressors(deflate.level), is_fast=config.ws_fast_path
        )
        self.topics_hub = hub
        self.topics = TopicService(config, self._make_broker(), self.copy_app_variables)
        self._fixed_headers = _fixed_headers(config)
        has_date = any(name == b"date" for name, _ in self._fixed_headers)
        self._adds_date = config.date_header and not has_date
        self._second = -1
        self.default_headers: list[Header] = []
        self.default_lines = b""
        self.refresh_date()

    def count_with(self, meter: "Meter") -> None:
        """Count what happens with a meter. Call it before the start."""
        meter.messages = self.batch.message_meter = MessageMeter()
        self.meter = self.topics.meter = meter
        self.observers = Observers([*self.observers, meter.take])

    def _make_broker(self) -> "Broker":
        default = urls.MEMORY if self.topics_hub is None else urls.LOCAL
        url = self.config.topics or default
        return make_broker(url, self.config, self.clock, self.deadlines, lambda: self.topics_hub)

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop. Cached, because `get_running_loop` makes a system call."""
        return asyncio.get_running_loop()

    @cached_property
    def create_future(self) -> Callable[[], asyncio.Future[Any]]:
        """The loop's `create_future`: one bound method for all connections."""
        return self.loop.create_future

    def inherit(self, variables: contextvars.Context) -> None:
        """Give these variables to each call of the app, unless --reset-contextvars is set."""
        if not self.config.reset_contextvars:
            self.app_variables = variables

    def copy_app_variables(self) -> contextvars.Context:
        """Return the context variables for a call of the app."""
        return self.app_variables.copy()

    def run_outside_app(self, call: Callable[[*Args], object], *arguments: *Args) -> None:
        """Call a function in the server's context: asyncio callbacks capture the current one.

        Much of the server runs within an app's `send` or `receive`, that is in the app's context. A
        callback created there would carry the app's variables to what it runs later: the request of
        another user.

        Args:
            call: The function.
            arguments: Its arguments.
        """
        self.variables.copy().run(call, *arguments)  # a copy: a context cannot be entered twice

    def call_soon(self, callback: Callable[[], object]) -> asyncio.Handle:
        """Schedule a callback for the next loop iteration, in the server's context."""
        return self.loop.call_soon(callback, context=self.variables)

    @property
    def is_full(self) -> bool:
        """Whether --limit-concurrency is reached."""
        limit = self.config.limit_concurrency
        if limit is None:
            return False
        running = len(self.exchanges) + len(self.websockets)
        # Counted first, and then checked, as in `Admission`.
        self.other_workers.report_calls(running + 1)
        is_full = running + self.other_workers.calls() >= limit
        if is_full:
            self.other_workers.report_calls(running)
        return is_full

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The tasks of all running calls of the app."""
        return {*self.exchanges, *self.websockets}

    @property
    def is_idle(self) -> bool:
        """Whether no connection is open and no call of the app is running."""
        return not (self.connections or self.exchanges or self.websockets)

    def refresh_date(self) -> None:
        """Update the Date header of responses; cheap within the same second."""
        second = int(time.time())
        if second == self._second:
            return
        self._second = second
        date = formatdate(second, usegmt=True).encode("ascii")
        date_headers = [(b"date", date)] if self._adds_date else []
        self.default_headers = date_headers + self._fixed_headers
        self.default_lines = lines_of(self.default_headers)

    def clock(self) -> float:
        """Return a monotonic time in seconds that excludes the time the loop was blocked.

        All deadlines use it: data that arrived while the loop was blocked was not read, so clients
        must not be timed out for it.
        """
        return self._time() - self._blocked_time

    def tick(self) -> float:
        """Enforce deadlines and refresh the date.

        Returns:
            Seconds until the next call.
        """
        late = self._time() - self._next_tick
        self.lag = max(late, 0.0)
        if self.meter is not None:
            self.meter.tick(self.lag, self.clock())
        # In a longer pause the loop may have been blocked from the first TICK on: data that arrived
        # then was not read either.
        blocked = late + max(self._pause - TICK, 0.0)
        if blocked > BLOCKED:
            self._blocked_time += blocked
        self.blocked = blocked if late > BLOCKED else 0.0
        self.refresh_date()
        self.ticked_at = self.clock()
        if self.deadlines.sweep(self.clock()):
            return self._plan_tick(0.0)
        return self.hasten_tick()

    def hasten_tick(self) -> float:
        """Return the seconds until the next `tick`, after an earlier deadline was scheduled."""
        return self._plan_tick(self.deadlines.plan_sweep(self.clock()))

    def _plan_tick(self, pause: float) -> float:
        self._pause = pause
        self._next_tick = self._time() + pause
        return pause

    def trust_named_sockets(self, sockets: Sequence[socket.socket]) -> None:
        """Find the listening sockets that the settings of proxies name; warn of entries in vain."""
        for option, trusted in (
            ("--forwarded-allow-ips", self.forwarded and self.forwarded.trusted),
            ("--proxy-allow-from", self.proxies),
        ):
            if trusted:
                trust_named_sockets(option, trusted, sockets)
        if self.proxies and not self.proxies.trusts_somebody:
            text = "--proxy-allow-from names no proxy that could connect"
            raise ConfigError(text, setting="proxy_allow_from")

    def find_connection(self, connection_id: str) -> "OpenConnection | None":
        """Return the open connection with an id, None if there is none."""
        found = (one for one in self.connections if one.connection_id == connection_id)
        return next(found, None)

    def connection_ended(self, connection: "OpenConnection") -> None:
        """Remove a connection that has ended."""
        self.connections.discard(connection)
        self.deadlines.cancel(connection)
        self.ended.wake()

    def task_ended(self, task: asyncio.Task[None]) -> None:
        """Remove a call of the app that has ended."""
        self.exchanges.pop(task, None)
        self.websockets.pop(task, None)
        if self.config.limit_concurrency is not None:
            self.other_workers.report_calls(len(self.exchanges) + len(self.websockets))
        if self.ended:
            self.ended.wake()

    def _count_task_end(self, task: asyncio.Task[None]) -> None:
        """Remove a call of the app that has ended, and stop the server after the last one."""
        self.task_ended(task)
        assert self._calls_left is not None
        self._calls_left -= 1
        if self._calls_left == 0:
            text = "The limit of requests is reached (--limit-max-requests) by process %d"
            loggers.error.info(text, self.process)
            self.ask_to_stop()


def _do_nothing() -> None:
    """Stand in for a server that can be stopped."""


def _max_calls(config: Config) -> int | None:
    if config.limit_max_requests is None:
        return None
    jitter = random.randint(0, config.limit_max_requests_jitter)  # noqa: S311  # no secret
    return config.limit_max_requests + jitter


def _forwarded_headers(config: Config) -> ForwardedHeaders | None:
    if not (config.proxy_headers and config.forwarded_values):
        return None
    allowed = config.forwarded_allow_ips
    if allowed is None:  # the variable has uvicorn's name, for programs as for the command line
        allowed = FORWARDED_ALLOW_IPS.shared_value(os.environ)
    if allowed is None:
        allowed = ("127.0.0.1", "::1")
    return ForwardedHeaders(TrustedPeers(allowed), config.forwarded_values)


def _reconnects(config: Config) -> Reconnects | None:
    return None if config.ws_reconnect_field is None else Reconnects(config.ws_reconnect_field)


def _deflate_settings(config: Config) -> DeflateSettings:
    bits = config.ws_deflate_window_bits
    return DeflateSettings(
        threshold=config.ws_deflate_threshold,
        context_takeover=config.ws_deflate_context_takeover,
        server_max_window_bits=bits,
        client_max_window_bits=bits,
    )


def _fixed_headers(config: Config) -> list[Header]:
    own = [_own_header(name, value) for name, value in config.headers]
    for name, _ in own:
        if name in _FRAMING:
            reserved = f"--header: {name.decode()} is set by the server"
            raise ConfigError(reserved, setting="headers")
    if not config.server_header or any(name == b"server" for name, _ in own):
        return own
    return [(b"server", b"wsgate/" + __version__.encode("ascii")), *own]


def _own_header(name: str, value: str) -> Header:
    """Return a header of the settings, as it is sent."""
    if not (name.isascii() and is_token(name.encode())):
        raise ConfigError(f"--header: {name!r} is not the name of a header", setting="headers")
    try:
        (header,) = normalize_headers([(name.encode(), value.encode("latin-1"))])
    except InvalidMessage:
        text = f"--header: the value of {name} has a control character"
        raise ConfigError(text, setting="headers") from None
    except UnicodeEncodeError as error:
        raise ConfigError(f"--header: {error}", setting="headers") from None
    return header
