"""The protocol of Redis, RESP2: commands to bytes, and bytes to replies.

redis-py has both, but its parser is a coroutine for each line and each nested value, and its packer
looks for the best pieces: together they take most of the time of a publication. These are a plain
loop each.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

Command = Sequence[str | bytes | int | float]

_ARRAY, _BULK, _INTEGER, _TEXT, _ERROR = b"*$:+-"


class ErrorReply:
    """An error that a server has replied. text: begins with its kind, such as MOVED."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def kind(self) -> str:
        """The first word."""
        return self.text.partition(" ")[0]


def pack(commands: Iterable[Command]) -> bytes:
    """Return the bytes of commands."""
    pieces = []
    for command in commands:
        pieces.append(b"*%d\r\n" % len(command))
        for part in command:
            data = part if isinstance(part, bytes) else str(part).encode()
            pieces.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(pieces)


class ReplyParser:
    """Takes what arrives, in any pieces.

    Attributes:
        replies: Those that are complete: bytes, int, None, ErrorReply, or a list of these.
    """

    def __init__(self) -> None:
        self.replies: deque[Any] = deque()
        self._pieces: list[bytes] = []  # what has arrived of a value that is not complete
        self._size = 0  # of the pieces together
        self._needed = 0  # bytes without which that value cannot be complete
        self._open: list[tuple[list[Any], int]] = []  # arrays with their lengths, outermost first

    def feed(self, data: bytes) -> None:
        """Take more bytes.

        Raises:
            ValueError: They are not RESP2.
        """
        self._pieces.append(data)
        self._size += len(data)
        if self._size < self._needed:
            return  # a large value is joined once, not with each piece
        if len(self._pieces) > 1:
            data = b"".join(self._pieces)
        rest = data[self._parse(data) :]
        self._pieces, self._size = [rest] if rest else [], len(rest)

    def _parse(self, data: bytes) -> int:
        """Parse all complete values; returns where the first one begins that is not.

        One loop without a call for each value: it runs for each word of each reply.
        """
        start = self._needed = 0
        while (end := data.find(b"\r\n", start)) >= 0:
            kind, head = data[start], data[start + 1 : end]
            start_of_next = end + 2
            value: Any
            if kind == _BULK:
                if (size := int(head)) < 0:
                    value = None
                else:
                    stop = start_of_next + size
                    if stop + 2 > len(data):
                        self._needed = stop + 2 - start
                        break
                    value = data[start_of_next:stop]
                    start_of_next = stop + 2
            elif kind == _INTEGER:
                value = int(head)
            elif kind == _ARRAY:
                if (size := int(head)) > 0:
                    self._open.append(([], size))
                    start = start_of_next
                    continue
                value = [] if size == 0 else None
            elif kind == _TEXT:
                value = head
            elif kind == _ERROR:
                value = ErrorReply(head.decode(errors="replace"))
            else:
                raise ValueError(f"a reply of Redis begins with {data[start : start + 1]!r}")
            start = start_of_next
            self._add(value)
        return start

    def _add(self, value: Any) -> None:
        """Add a complete value to the array that it is in, or to the replies."""
        while self._open:
            items, size = self._open[-1]
            items.append(value)
            if len(items) < size:
                return
            self._open.pop()
            value = items
        self.replies.append(value)
