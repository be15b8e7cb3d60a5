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
        self._task: asyncio.Task[None] | None = None

    def add(self, sockets: "Iterable[WebSocket]") -> None:
        """Close these, besides those that wait already."""
        self._waiting.extend(sockets)
        self._group = max(math.ceil(len(self._waiting) * STEP / SECONDS), 1)
        if self._task is None and self._waiting:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Close no more: what is open ends with the server."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while self._waiting:
                for _ in range(min(self._group, len(self._waiting))):
                    self._waiting.popleft().drain()
                await asyncio.sleep(STEP)
        finally:
            self._task = None
