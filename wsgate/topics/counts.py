"""The counters of one worker's topics."""

from collections import Counter

# Causes of drops on a worker; brokers have others. The values are labels, and never changed.
SLOW_SUBSCRIBER = "slow subscriber"
SLOW_LISTENER = "slow listener"
DELIVERY_ERROR = "error"
DROP_CAUSES = (SLOW_SUBSCRIBER, SLOW_LISTENER, DELIVERY_ERROR)


class Counts:
    """How often what has happened.

    published: messages that this worker's app has published. delivered: messages given to a socket
    or a listener. dropped: those that a slow one did not get, by cause. closed_slow: sockets that
    were closed because they were slow. recovered, incomplete: recoveries without and with a gap.
    """

    __slots__ = ("closed_slow", "delivered", "dropped", "incomplete", "published", "recovered")

    def __init__(self) -> None:
        self.published = 0
        self.delivered = 0
        self.dropped: Counter[str] = Counter()
        self.closed_slow = 0
        self.recovered = 0
        self.incomplete = 0

    def add(self, other: "Counts") -> None:
        """Add the counts of another worker."""
        self.published += other.published
        self.delivered += other.delivered
        self.dropped += other.dropped
        self.closed_slow += other.closed_slow
        self.recovered += other.recovered
        self.incomplete += other.incomplete

    def as_dict(self) -> dict[str, int | dict[str, int]]:
        """Return the counters by name."""
        return {
            "published": self.published,
            "delivered": self.delivered,
            "dropped": dict(self.dropped),
            "closed_slow": self.closed_slow,
            "recovered": self.recovered,
            "incomplete": self.incomplete,
        }
