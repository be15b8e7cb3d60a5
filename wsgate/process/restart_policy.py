"""When a worker that has failed is started again."""

_FIRST_PAUSE = 0.25  # seconds after the second failure in a row; doubled after each further one
_LONGEST_PAUSE = 30.0
_DOUBLINGS = 7  # that reach it
_STABLE = 10.0  # seconds that a worker has to run for its end not to count as a failure to start
GIVE_UP_AFTER = 3  # failures at the first start


class RestartPolicy:
    """Counts failures in a row, and says when the next worker may start.

    Attributes:
        failures: How many workers in a row have ended soon after their start.
        next_start: The earliest time of the next start, in seconds of the supervisor's clock.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.next_start = 0.0
        self._failed_at = 0.0

    def worker_ended(self, now: float, ran: float) -> None:
        """Count the end of a worker that was not asked to stop.

        Args:
            now: Time of the supervisor's clock in seconds.
            ran: For how many seconds it has served, 0 if it was never ready.
        """
        if ran >= _STABLE:
            self.failures = 0
        doublings = min(self.failures - 1, _DOUBLINGS)  # else a float overflows after some hours
        pause = _FIRST_PAUSE * 2**doublings if self.failures else 0.0
        self.failures += 1
        self._failed_at = now
        self.next_start = now + min(pause, _LONGEST_PAUSE)

    def reset(self) -> None:
        """Forget all failures: what should start now is something else."""
        self.failures = 0
        self.next_start = 0.0

    def worker_serves(self, now: float, since: float) -> None:
        """Forget failures once a worker that was ready after them has served for a while.

        Args:
            now: Time of the supervisor's clock in seconds.
            since: When the worker became ready.
        """
        if since > self._failed_at and now - since >= _STABLE:
            self.failures = 0
