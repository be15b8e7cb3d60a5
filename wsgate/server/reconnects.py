"""Recognises clients that connect again, and the connections that they left."""

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from wsgate.fields import values_of
from wsgate.http.request import Request
from wsgate.observe.causes import Cause
from wsgate.server.end_cause import End

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SAID = 128  # characters that are kept of what a client says
# The ends of a connection whose client is gone. Any other end was intended by one side.
_GONE = frozenset({Cause.CLIENT_VANISHED, Cause.PING_TIMEOUT, Cause.SLOW_CONSUMER})


class Reconnects:
    """The reconnects of a worker's clients.

    Args:
        field: The query parameter or header in which a client names its previous connection.

    Attributes:
        notify_others: Called with the id of the previous connection and that of the new one, if the
            previous one is not open on this worker.
    """

    def __init__(self, field: str) -> None:
        self._parameter = field
        self._header = field.lower().encode("latin-1", "replace")
        self._open: set[str] = set()  # ids of open connections
        self._successors: dict[str, str] = {}  # id of an open connection -> of the next one
        self.notify_others: Callable[[str, str], object] = _do_nothing

    def open(self, connection_id: str, request: Request) -> str | None:
        """Note that a WebSocket has opened.

        Returns:
            What its client says about its previous connection, None if it says nothing.
        """
        self._open.add(connection_id)
        said = self._read(request)
        if said is not None and not self.note_reconnect(said, connection_id):
            self.notify_others(said, connection_id)
        return said

    def note_reconnect(self, previous: str, connection_id: str) -> bool:
        """Note that the client of a connection has connected again.

        Args:
            previous: The id of that connection.
            connection_id: The id of the new one, of this or of another worker.

        Returns:
            Whether the previous connection is an open one of this worker.
        """
        if previous not in self._open or previous == connection_id:
            return False
        self._successors[previous] = connection_id
        return True

    def _read(self, request: Request) -> str | None:
        """Return the header's value, else the query parameter's; None if there is neither."""
        values = [one.decode("latin-1") for one in values_of(request.headers, self._header)]
        pairs = parse_qsl(request.query.decode("ascii", "replace"))
        values += [value for name, value in pairs if name == self._parameter]
        return (values[0][:MAX_SAID] or None) if values else None

    def end(self, connection_id: str, end: End) -> End:
        """Note that a WebSocket has ended; return why: its client may have replaced it."""
        self._open.discard(connection_id)
        successor = self._successors.pop(connection_id, None)
        if successor is not None and end[0] in _GONE:
            return Cause.REPLACED, successor
        return end


def _do_nothing(_: str, __: str) -> None:
    """Stand in for other workers."""
