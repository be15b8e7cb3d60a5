"""Topics: publish once, and every subscriber has it.

`of(scope)` returns the topics of a request, a WebSocket or the lifespan. `configure` gives rules to
the topics whose name matches a pattern. `stats` returns the counters of this process.
"""

from wsgate.topics.errors import LimitReached, NotAvailable, Overrun, TopicsError, Unavailable
from wsgate.topics.interface import Listener, Message, Recovered, Topics, of
from wsgate.topics.process import configure, stats

__all__ = [
    "LimitReached",
    "Listener",
    "Message",
    "NotAvailable",
    "Overrun",
    "Recovered",
    "Topics",
    "TopicsError",
    "Unavailable",
    "configure",
    "of",
    "stats",
]
