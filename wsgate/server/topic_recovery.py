"""A recovery: sends a WebSocket what it has missed, at its own pace."""

from collections import deque
from typing import TYPE_CHECKING

from wsgate.topics.outlet import counted_size
from wsgate.topics.publication import Publication
from wsgate.topics.rules import Rules

if TYPE_CHECKING:
    from wsgate.server.websocket import WebSocket


class Recovery:
    """What waits for a WebSocket from its subscription on, until it has caught up.

    Args:
        socket: The WebSocket.
        max_size: Bytes that may wait, above as many messages as the history has.
    """

    def __init__(self, socket: "WebSocket", max_size: int) -> None:
        self.socket = socket
        self._max_size = max_size
        self._live: deque[Publication] = deque()
        self._size = 0

    def put(self, publication: Publication, rules: Rules) -> bool:
        """Add what is published meanwhile; returns False if too much waits."""
        size = self._size + counted_size(publication.encoded)
        if len(self._live) >= rules.history and self._live and size > self._max_size:
            return False
        self._size = size
        self._live.append(publication)
        return True

    def pop_live(self, place: int) -> Publication | None:
        """Remove the next message after a place and return it; None if there is none."""
        while self._live:
            publication = self._live.popleft()
            self._size -= counted_size(publication.encoded)
            if not publication.place or publication.place > place:
                return publication
        return None
