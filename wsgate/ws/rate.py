"""A token bucket that limits messages per second, with a burst."""


class MessageRate:
    """The token bucket of one connection, full at first.

    rate: tokens added per second; a message takes one. burst: size of the bucket. Times are in
    seconds of one clock.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def allows(self, messages: int, now: float) -> bool:
        """Take one token for each message; return whether there were enough."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - messages
        self._at = now
        return self._tokens >= 0
