"""A recovery: sends a WebSocket what it has missed, at its own pace."""

from collections import deque
from typing import TYPE_CHECKING

from wsgate.server.backpressure import Waiters
from wsgate.topics.outlet import OutletFull, counted_size
from wsgate.topics.publication import Publication
from wsgate.topics.rules import Rules, Slow

if TYPE_CHECKING:
    from wsgate.server.websocket import WebSocket


class Recovery:
    """What waits for a WebSocket from its subscription on, until it has caught up.

    Args:
        socket: The WebSocket.
        max_size: Bytes that may wait, above as many messages as the history has.

    Attributes:
        ended: Woken when the recovery has ended, in whichever way.
        sent: Number of messages that were sent.
    """

    def __init__(self, socket: "WebSocket", max_size: int) -> None:
        self.socket = socket
        self._max_size = max_size
        self._live: deque[Publication] = deque()
        self._size = 0
        self.ended = Waiters()
        self.sent = 0

    def put(self, publication: Publication, rules: Rules) -> int:
        """Add what is published meanwhile, and return how many messages were dropped.

        Raises:
            OutletFull: Too much waits, and the topic's rule is to close the socket.
        """
        dropped = 0
        size = counted_size(publication.encoded)
        if len(self._live) >= max(rules.history, 1) and self._size + size > self._max_size:
            if rules.slow is Slow.CLOSE:
                raise OutletFull
            if rules.slow is Slow.DROP:
                return 1
            dropped, self._size = len(self._live), 0
            self._live.clear()
        self._size += size
        self._live.append(publication)
        return dropped

    def pop_live(self, place: int) -> Publication | None:
        """Remove the next message after a place and return it; None if there is none."""
        while self._live:
            publication = self._live.popleft()
            self._size -= counted_size(publication.encoded)
            if not publication.place or publication.place > place:
                return publication
        return None
