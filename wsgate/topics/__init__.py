"""Topics: publish once, and every subscriber has it.

`of(scope)` returns the topics of a request, a WebSocket or the lifespan. `configure` gives rules to
the topics whose name matches a pattern. `stats` returns the counters of this process. `Publisher`
and `SyncPublisher` publish from other programs.
"""

from typing import TYPE_CHECKING

from wsgate.topics.errors import LimitReached, NotAvailable, Overrun, TopicsError, Unavailable
from wsgate.topics.interface import Listener, Message, Recovered, Topics, of
from wsgate.topics.process import configure, stats

if TYPE_CHECKING:
    from wsgate.topics.publisher import Publisher, SyncPublisher

__all__ = [
    "LimitReached",
    "Listener",
    "Message",
    "NotAvailable",
    "Overrun",
    "Publisher",
    "Recovered",
    "SyncPublisher",
    "Topics",
    "TopicsError",
    "Unavailable",
    "configure",
    "of",
    "stats",
]


def __getattr__(name: str) -> object:
    """Import what only other programs use when it is needed (PEP 562)."""
    if name in {"Publisher", "SyncPublisher"}:
        from wsgate.topics import publisher  # noqa: PLC0415  # it imports what carries messages

        return getattr(publisher, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
