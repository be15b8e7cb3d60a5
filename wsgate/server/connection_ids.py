"""The ids of connections: which process, which start of it, and a number."""

import itertools
import secrets
from typing import NamedTuple

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that is read for another character
_START_SIZE = 4  # characters that tell apart processes with one pid, such as those of containers


class ParsedId(NamedTuple):
    """An id that has the form of one. process: the pid of the worker."""

    process: int
    start: str
    number: int


class ConnectionIds:
    """Makes the ids of one worker's connections, such as `4219-x7q2-17`.

    Args:
        process: The pid of the worker.
    """

    def __init__(self, process: int) -> None:
        start = "".join(secrets.choice(_ALPHABET) for _ in range(_START_SIZE))
        self._prefix = f"{process}-{start}-"
        self._numbers = itertools.count(1)

    def new(self) -> str:
        """Return the id of the next connection."""
        return f"{self._prefix}{next(self._numbers)}"


def parse_id(text: str) -> ParsedId | None:
    """Return the parts of an id, None if it has not the form of one."""
    process, _, rest = text.partition("-")
    start, _, number = rest.partition("-")
    if not (_is_number(process) and start.isalnum() and _is_number(number)):
        return None
    return ParsedId(int(process), start, int(number))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()
