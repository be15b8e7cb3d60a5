"""A token bucket that limits messages per second, with a burst."""


class MessageRate:
    """The token bucket of one connection, full at first.

    Args:
        rate: Tokens added per second; a message takes one.
        burst: Size of the bucket.
        now: Time in seconds, of the same clock as in `allows`.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def allows(self, messages: int, now: float) -> bool:
        """Take one token for each message.

        Args:
            messages: Number of messages received since the last call.
            now: Time in seconds.

        Returns:
            Whether there were enough tokens.
        """
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - messages
        self._at = now
        return self._tokens >= 0
