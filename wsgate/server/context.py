"""What all connections of one worker share."""

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from wsgate._version import __version__
from wsgate.config import Config
from wsgate.protocol.deflate import Compressors, MessageLimits
from wsgate.protocol.negotiation import DeflateSettings
from wsgate.protocol.request import HeadLimits
from wsgate.server.deadlines import TICK, Deadlines
from wsgate.server.flow import Waiters
from wsgate.types import App, Header

if TYPE_CHECKING:
    from wsgate.server.connection import Connection


class Context:
    """One worker's app, settings, clock, and what is under way.

    clock: a monotonic time in seconds; a test turns its own. connections, tasks: those alive;
    `ended` wakes whoever waits for them to end. state: the lifespan's. stopping: no new request is
    taken. default_headers: what stands in every response.
    """

    def __init__(
        self, app: App, config: Config, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.app = app
        self.config = config
        self.clock = clock
        self.deadlines = Deadlines()
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.ended = Waiters()
        self.state: dict[str, Any] = {}
        self.stopping = False
        self.head_limits = HeadLimits(size=config.h11_max_incomplete_event_size)
        self.message_limits = MessageLimits(size=config.ws_max_size)
        self.deflate = DeflateSettings() if config.ws_per_message_deflate else None
        self.compressors = Compressors(DeflateSettings().level)
        self._fixed_headers = _fixed_headers(config)
        self._second = -1
        self.default_headers: list[Header] = []
        self.refresh()

    @property
    def is_full(self) -> bool:
        """Whether --limit-concurrency is reached."""
        limit = self.config.limit_concurrency
        return limit is not None and len(self.tasks) >= limit

    def refresh(self) -> None:
        """Bring the date up to the second."""
        second = int(time.time())
        if second == self._second:
            return
        self._second = second
        date = formatdate(second, usegmt=True).encode("ascii")
        dated = [(b"date", date)] if self.config.date_header else []
        self.default_headers = dated + self._fixed_headers

    def tick(self) -> float:
        """Do what is due now; return the seconds until this is to be called again."""
        self.refresh()
        return 0.0 if self.deadlines.sweep(self.clock()) else TICK

    def connection_ended(self, connection: "Connection") -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        self.deadlines.disarm(connection)
        self.ended.wake()

    def task_ended(self, task: asyncio.Task[None]) -> None:
        """Forget an app's task."""
        self.tasks.discard(task)
        self.ended.wake()


def _fixed_headers(config: Config) -> list[Header]:
    own = [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in config.headers
    ]
    if not config.server_header or any(name == b"server" for name, _ in own):
        return own
    return [(b"server", b"wsgate/" + __version__.encode("ascii")), *own]
