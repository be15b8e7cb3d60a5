"""The memory that the workers of a server share: a row of numbers for each of them.

A worker writes its own row only and reads all rows, so nothing is locked. The supervisor clears the
row of a worker that has ended. Each number is 64 bits wide and aligned, which processors write and
read in one step.
"""

import mmap
import os
import tempfile
from enum import IntEnum

ROWS = 256  # workers at a time, those included that are being replaced

_BYTES = 8  # of a number
_WAYS = 16  # addresses in a set of an address table
_SETS = 2048  # sets in an address table: 32,768 addresses of each worker
_TABLE = _SETS * _WAYS * 2  # numbers in an address table: each address has its key and its count


class Field(IntEnum):
    """The numbers of a row.

    ACCEPTING: 1 while the worker accepts connections, or has only paused for others to catch up.
    CONNECTIONS: Its open connections. ACCEPTED: The connections that it has accepted so far.
    CALLS: The running calls of the app. BEAT: When its event loop ran last, in microseconds of the
    monotonic clock. LAG: By how many microseconds it was late then. EXPIRED: 1 once it has served
    --limit-max-requests. BROKER_AWAY: Since when it does not reach its broker, in microseconds of
    the monotonic clock; 0 while it does.
    """

    ACCEPTING = 0
    CONNECTIONS = 1
    ACCEPTED = 2
    CALLS = 3
    BEAT = 4
    LAG = 5
    EXPIRED = 6
    BROKER_AWAY = 7


class _Header(IntEnum):
    """The numbers before the rows. LENGTH: How many rows are in use or were. FINAL: see below."""

    LENGTH = 0
    FINAL = 1


_HEADER_SIZE = len(_Header)
_ROWS_END = _HEADER_SIZE + len(Field) * ROWS
_PAGE = mmap.PAGESIZE // _BYTES
_TABLES_START = -(-_ROWS_END // _PAGE) * _PAGE  # a table has pages of its own


class Scoreboard:
    """The rows of all workers.

    Args:
        descriptor: Of a file in memory that `create_file` has returned; it stays open.
    """

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, 0)
        numbers = memoryview(self._map).cast("q")
        self._header = numbers[:_HEADER_SIZE]
        # A column for each field: all workers' numbers of one kind are next to each other.
        self._columns = [
            numbers[_HEADER_SIZE + ROWS * field : _HEADER_SIZE + ROWS * (field + 1)]
            for field in Field
        ]
        self._tables = numbers[_TABLES_START:].cast("B").cast("Q")

    # -- the supervisor's part ---------------------------------------------------------------------

    def assign(self) -> int | None:
        """Return the first free row, which is now in use; None if all are."""
        for row in range(ROWS):
            if not self.get(row, Field.BEAT):
                self.put(row, Field.BEAT, 1)
                self._header[_Header.LENGTH] = max(self.length, row + 1)
                return row
        return None

    def clear(self, row: int) -> None:
        """Free the row of a worker that has ended."""
        for column in self._columns:
            column[row] = 0
        if self._has_table(row):
            self._clear_table(row)
        while self.length and not self.get(self.length - 1, Field.BEAT):
            self._header[_Header.LENGTH] -= 1

    def _clear_table(self, row: int) -> None:
        start, end = row * _TABLE, (row + 1) * _TABLE
        try:  # free its memory, which then reads as zeros: writing them would use it
            self._map.madvise(
                mmap.MADV_REMOVE, (_TABLES_START + start) * _BYTES, (end - start) * _BYTES
            )
        except (AttributeError, OSError):  # not on every system, nor for every file
            self._tables[start:end] = memoryview(bytes((end - start) * _BYTES)).cast("Q")

    @property
    def is_final(self) -> bool:
        """Whether the whole server stops: no worker remains that would serve the backlog."""
        return bool(self._header[_Header.FINAL])

    def finish(self) -> None:
        """Record that the whole server stops."""
        self._header[_Header.FINAL] = 1

    # -- rows --------------------------------------------------------------------------------------

    @property
    def length(self) -> int:
        """The number of rows up to the last one in use."""
        return self._header[_Header.LENGTH]

    def get(self, row: int, field: Field) -> int:
        """Return a number."""
        return self._columns[field][row]

    def put(self, row: int, field: Field, value: int) -> None:
        """Set a number."""
        self._columns[field][row] = value

    def cells(self, field: Field) -> "memoryview[int]":
        """Return the numbers of all rows, in the shared memory itself."""
        return self._columns[field]

    def column(self, field: Field) -> list[int]:
        """Return the numbers of all workers."""
        return self._columns[field][: self.length].tolist()

    # -- addresses ---------------------------------------------------------------------------------

    def _has_table(self, row: int) -> bool:
        return len(self._tables) >= (row + 1) * _TABLE

    def _set_of(self, row: int, key: int) -> range:
        """Return the places of the keys among which an address may be; counts follow their key."""
        start = row * _TABLE + key % _SETS * _WAYS * 2
        return range(start, start + _WAYS * 2, 2)

    def address(self, row: int, key: int) -> int:
        """Return what a worker counts for an address.

        Args:
            row: The worker's.
            key: A hash of the address, from 1 to 2**64 - 1.
        """
        tables = self._tables
        for place in self._set_of(row, key):
            if tables[place] == key:
                return tables[place + 1]
        return 0

    def count_of_address(self, key: int) -> int:
        """Return what all workers count for an address."""
        return sum(self.address(row, key) for row in range(self.length))

    def put_address(self, row: int, key: int, count: int) -> None:
        """Set what a worker counts for an address; forget the address if that is 0.

        If the set of the address is full, the address is left out: it then counts in its own worker
        only. With 10,000 addresses in a worker that happens to one in a million.
        """
        tables = self._tables
        free = None
        for place in self._set_of(row, key):
            if tables[place] == key:
                tables[place + 1] = count
                if not count:
                    tables[place] = 0
                return
            if free is None and not tables[place]:
                free = place
        if free is not None and count:
            tables[free + 1] = count
            tables[free] = key


def create_file(*, with_addresses: bool) -> int:
    """Return the descriptor of a new file in memory for a `Scoreboard`.

    Args:
        with_addresses: Whether it has room for addresses. Memory is used as they are written.
    """
    size = (_TABLES_START + (_TABLE * ROWS if with_addresses else 0)) * _BYTES
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("wsgate-scoreboard")
    else:
        descriptor, path = tempfile.mkstemp(prefix="wsgate-")
        os.unlink(path)  # noqa: PTH108  # a plain path is given
    os.ftruncate(descriptor, size)
    return descriptor
