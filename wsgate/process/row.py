"""A worker's row of the scoreboard: what it lets the others know, and what it knows of them."""

import time
from hashlib import blake2b

from wsgate.process.scoreboard import Field, Scoreboard


class Row:
    """One row; the `OtherWorkers` of the worker that it belongs to.

    Args:
        board: The scoreboard.
        number: Of the row.
        count: How many workers the server has.
    """

    def __init__(self, board: Scoreboard, number: int, count: int) -> None:
        self._board = board
        self._number = number
        self.count = count
        # Written twice for each connection: an access to a member of an enumeration costs more.
        self._connections = board.cells(Field.CONNECTIONS)
        self._accepted = board.cells(Field.ACCEPTED)

    # -- what this worker reports ------------------------------------------------------------------

    def report_connections(self, open_now: int, accepted: int) -> None:
        """Write its connections."""
        number = self._number
        self._connections[number] = open_now
        self._accepted[number] = accepted

    def report_calls(self, running: int) -> None:
        """Write the running calls of its app."""
        self._board.put(self._number, Field.CALLS, running)

    def report_address(self, address: str, count: int) -> None:
        """Write what it counts for an address."""
        self._board.put_address(self._number, _key(address), count)

    def report_beat(self, lag: float) -> None:
        """Write that its event loop runs now, and by how many seconds it was late."""
        self._board.put(self._number, Field.LAG, int(lag * 1e6))
        self._board.put(self._number, Field.BEAT, int(time.monotonic() * 1e6))

    def report_broker(self, away_since: float | None) -> None:
        """Write since when it does not reach its broker, in seconds of the monotonic clock."""
        since = 0 if away_since is None else max(int(away_since * 1e6), 1)
        self._board.put(self._number, Field.BROKER_AWAY, since)

    def report_accepting(self, *, accepting: bool) -> None:
        """Write whether it takes part in accepting."""
        self._board.put(self._number, Field.ACCEPTING, accepting)

    def report_expired(self) -> None:
        """Write that it has served --limit-max-requests, and should be replaced."""
        self._board.put(self._number, Field.EXPIRED, 1)

    # -- what it knows of the others ---------------------------------------------------------------

    def connections(self) -> int:
        """Return the open connections of the others."""
        return self._sum(Field.CONNECTIONS)

    def accepted(self) -> int:
        """Return how many connections the others have accepted so far."""
        return self._sum(Field.ACCEPTED)

    def calls(self) -> int:
        """Return the running calls of the app in the others."""
        return self._sum(Field.CALLS)

    def _sum(self, field: Field) -> int:
        return sum(self._board.column(field)) - self._board.get(self._number, field)

    def count_of_address(self, address: str) -> int:
        """Return what the others count for an address."""
        key = _key(address)
        return self._board.count_of_address(key) - self._board.address(self._number, key)

    def fewest_connections(self) -> int | None:
        """Return the fewest open connections of another worker; None if no other one accepts."""
        accepting = self._board.column(Field.ACCEPTING)
        counts = self._board.column(Field.CONNECTIONS)
        return min(
            (
                count
                for row, (count, accepts) in enumerate(zip(counts, accepting, strict=False))
                if accepts and row != self._number
            ),
            default=None,
        )


def _key(address: str) -> int:
    """Return the key of an address: the same in all processes, and never 0."""
    return int.from_bytes(blake2b(address.encode(), digest_size=8).digest()) or 1
