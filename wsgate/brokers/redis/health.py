"""Which links to Redis are down, for monitoring and the log: a line at the loss, one at the end."""

import asyncio
from typing import Protocol

from wsgate import loggers
from wsgate.brokers.broker import BrokerState


class Named(Protocol):
    """A link, as it is needed here."""

    @property
    def name(self) -> str:
        """The name of its server."""


class Health:
    """Knows which of the links that are needed are down, and since when.

    Args:
        name: Of all servers, for the log.

    Attributes:
        lag: Round trip in seconds of the Ping that was answered last; None before the first one.
    """

    def __init__(self, name: str) -> None:
        self.lag: float | None = None
        self._name = name
        self._down: dict[Named, float] = {}  # since when, in seconds of the loop's clock
        self._were_up: set[Named] = set()
        self._reconnects = 0
        self._is_reported = False  # the log says that Redis is away

    @property
    def state(self) -> BrokerState:
        """Since when any link is down, and how often links were opened again."""
        away_since = min(self._down.values(), default=None)
        return BrokerState(away_since, self.lag, self._reconnects)

    def expect(self, link: Named) -> None:
        """Count a link as down until it is up, or not needed any more."""
        self._down.setdefault(link, asyncio.get_running_loop().time())

    def note_down(self, link: Named, reason: str) -> None:
        """Record that a link has ended, or could not be opened."""
        self.expect(link)
        if not self._is_reported:
            self._is_reported = True
            loggers.error.warning("Redis %s is away: %s", link.name, reason)

    def note_up(self, link: Named) -> None:
        """Record that a link is up."""
        if link in self._were_up:
            self._reconnects += 1
        self._were_up.add(link)
        self._end_down(link)

    def forget(self, link: Named) -> None:
        """Record that a link is not needed any more."""
        self._were_up.discard(link)
        self._end_down(link)

    def _end_down(self, link: Named) -> None:
        self._down.pop(link, None)
        if self._is_reported and not self._down:
            self._is_reported = False
            loggers.error.info("Redis %s is back", self._name)
