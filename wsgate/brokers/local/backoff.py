"""The pauses between attempts to connect."""

import random

FIRST_PAUSE = 0.02  # seconds until the second attempt; doubled after each further one
# Less than the time that a new hub gives workers to come: one that has waited is there before it
# names all others.
LONGEST_PAUSE = 0.5


class Backoff:
    """The pauses between the attempts of one connection."""

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE

    def next_pause(self) -> float:
        """Return how long to wait now, in seconds."""
        pause = self._pause * random.uniform(0.5, 1.0)  # noqa: S311  # no secret
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return pause

    def reset(self) -> None:
        """Begin with the first pause again: the connection was established."""
        self._pause = FIRST_PAUSE

    def slow_down(self) -> None:
        """Go on with the longest pause: another attempt will hardly help."""
        self._pause = LONGEST_PAUSE
