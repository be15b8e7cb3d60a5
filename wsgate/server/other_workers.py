"""The other workers of the server, as one worker sees them."""

from typing import Protocol


class OtherWorkers(Protocol):
    """The other workers of the server, and what they learn from this one.

    Numbers of theirs may be some microseconds old.
    """

    @property
    def count(self) -> int:
        """How many workers the server has, this one included."""

    def report_connections(self, open_now: int, accepted: int) -> None:
        """Let the others know this worker's connections.

        Args:
            open_now: How many are open.
            accepted: How many it has accepted so far.
        """

    def report_calls(self, running: int) -> None:
        """Let the others know how many calls of the app are running."""

    def report_address(self, address: str, count: int) -> None:
        """Let the others know what this worker counts for an address of clients."""

    def report_accepting(self, *, accepting: bool) -> None:
        """Let the others know whether this worker takes part in accepting."""

    def connections(self) -> int:
        """Return the open connections of the others."""

    def accepted(self) -> int:
        """Return how many connections the others have accepted so far."""

    def calls(self) -> int:
        """Return the running calls of the app in the others."""

    def count_of_address(self, address: str) -> int:
        """Return what the others count for an address."""

    def fewest_connections(self) -> int | None:
        """Return the fewest open connections of another worker; None if no other one accepts."""


class NoOtherWorkers:
    """There are no other workers."""

    count = 1

    def report_connections(self, open_now: int, accepted: int) -> None:
        """Do nothing."""

    def report_calls(self, running: int) -> None:
        """Do nothing."""

    def report_address(self, address: str, count: int) -> None:
        """Do nothing."""

    def report_accepting(self, *, accepting: bool) -> None:
        """Do nothing."""

    def connections(self) -> int:
        """Return 0."""
        return 0

    def accepted(self) -> int:
        """Return 0."""
        return 0

    def calls(self) -> int:
        """Return 0."""
        return 0

    def count_of_address(self, address: str) -> int:  # noqa: ARG002  # the interface
        """Return 0."""
        return 0

    def fewest_connections(self) -> int | None:
        """Return None."""
        return None
