"""Closes many WebSockets, spread over some seconds, so that they do not reconnect together."""

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wsgate.server.websocket import WebSocket

SECONDS = 4.0  # within which all are closed
STEP = 0.05  # seconds between two groups


class SpreadClosing:
    """Closes WebSockets with 1012 (service restart)."""

    def __init__(self) -> None:
        self._waiting: deque[WebSocket] = deque()
        self._group = 1
        self._next: asyncio.Handle | None = None  # while some wait

    def add(self, sockets: "Iterable[WebSocket]") -> None:
        """Close these, besides those that wait already; none of them before this returns."""
        self._waiting.extend(sockets)
        self._group = max(math.ceil(len(self._waiting) * STEP / SECONDS), 1)
        if self._next is None and self._waiting:
            self._next = asyncio.get_running_loop().call_soon(self._close_group)

    def stop(self) -> None:
        """Close no more: what is open ends with the server."""
        self._waiting.clear()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _close_group(self) -> None:
        count = min(self._group, len(self._waiting))
        group = [self._waiting.popleft() for _ in range(count)]
        loop = asyncio.get_running_loop()
        self._next = loop.call_later(STEP, self._close_group) if self._waiting else None
        for socket in group:
            socket.close_to_recover()
