"""A token bucket: so many messages a second, and a burst of them at once."""


class MessageRate:
    """The messages of one connection against its allowance.

    rate: messages a second that are given back. burst: how many may come at once. Times are in
    seconds, of one clock.
    """

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = float(burst)
        self._at = now

    def allows(self, messages: int, now: float) -> bool:
        """Take so many messages out of the bucket; tell whether it held them."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - messages
        self._at = now
        return self._left >= 0
