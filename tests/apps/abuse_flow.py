"""The app of the liveness and flood tests: it records how each of its WebSockets ended.

WebSockets, besides those of tests/apps/abuse.py: `/talk/NAME` echoes, and closes with 4000 when it
receives "close"; `/pour/NAME` sends MESSAGES messages of SIZE characters, then receives;
`/take/NAME` only receives; `/early/NAME` does so without an accept; `/deaf/NAME` receives nothing
until `POST /release`.
HTTP: `GET /started/NAME/N`, `/sent/NAME/N` and `/ended/NAME/N` wait until N calls of that name have
started (accepted, except for `/early`), until each of them has sent N messages, or until N have
ended; all respond with the counts of the name (the fields are those of `Counts` in
tests/abuse/flow.py).
"""

import asyncio
import contextlib
import socket
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.apps.abuse import Site
from wsgate.config import Config
from wsgate.errors import ClientDisconnected
from wsgate.process import sockets
from wsgate.server import liveness

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGES, SIZE = 10_000, 1_024
# Seconds, shorter values of timeouts that have no option:
RECEIVE_TIMEOUT = 3.0  # of liveness.RECEIVE_TIMEOUT
KERNEL = 2.0  # of the TCP user timeout


class Counts:
    """The counts of the calls of one name. sent: messages sent by each call of `/pour`."""

    def __init__(self) -> None:
        self.started = self.ended = self.received = self.repeated = 0
        self.codes: Counter[int] = Counter()
        self.sent: dict[object, int] = {}

    def json(self) -> dict[str, float]:
        """Return the fields; the key of a close code's count is its number."""
        return {
            "started": self.started,
            "ended": self.ended,
            "received": self.received,
            "repeated": self.repeated,
            "max_sent": max(self.sent.values(), default=0),
            **{str(code): count for code, count in self.codes.items()},
        }


class Flow(Site):
    """The app."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, Counts] = {}
        self._changed = asyncio.Condition()

    async def _websocket(self, path: str, receive: Any, send: Any) -> None:
        kind, _, name = path[1:].partition("/")
        play = {
            "talk": self._talk,
            "pour": self._pour,
            "take": self._take,
            "early": self._take,
            "deaf": self._deaf,
        }
        if kind not in play:
            await super()._websocket(path, receive, send)
            return
        counts = self._counts.setdefault(name, Counts())
        await receive()
        if kind != "early":
            await send({"type": "websocket.accept"})
        counts.started += 1
        await self._notify()
        await play[kind](counts, receive, send)
        await self._end(counts, receive)
        counts.ended += 1
        await self._notify()

    async def _end(self, counts: Counts, receive: Any) -> None:
        """Receive up to the disconnect, and receive once more after it."""
        while (message := await receive())["type"] == "websocket.receive":
            counts.received += 1
        counts.codes[message["code"]] += 1
        counts.repeated += await receive() == message

    async def _talk(self, counts: Counts, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            counts.received += 1
            if message.get("text") == "close":
                await send({"type": "websocket.close", "code": 4000})
                return
            await send({**message, "type": "websocket.send"})

    async def _pour(self, counts: Counts, receive: Any, send: Any) -> None:
        me = object()
        message = {"type": "websocket.send", "text": "x" * SIZE}
        with contextlib.suppress(ClientDisconnected):
            for number in range(MESSAGES):
                await send(message)
                counts.sent[me] = number + 1
                if self._is_waited_for(number + 1):
                    await self._notify()

    @staticmethod
    def _is_waited_for(number: int) -> bool:
        return number in (1, 10) or number == MESSAGES

    async def _take(self, counts: Counts, receive: Any, send: Any) -> None:
        """Do nothing: `_end` receives."""

    async def _deaf(self, counts: Counts, receive: Any, send: Any) -> None:
        await self._release.wait()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _answer(self, method: str, path: str) -> dict[str, float] | None:
        match path.split("/"):
            case ["", "started" | "sent" | "ended" as what, name, count]:
                return await self._waited(what, name, int(count))
        return await super()._answer(method, path)

    async def _waited(self, what: str, name: str, count: int) -> dict[str, float]:
        counts = self._counts.setdefault(name, Counts())
        reached: dict[str, Callable[[], bool]] = {
            "started": lambda: counts.started >= count,
            "ended": lambda: counts.ended >= count,
            "sent": lambda: min(counts.sent.values(), default=0) >= count,
        }
        async with self._changed:
            await self._changed.wait_for(reached[what])
        return counts.json()


app = Flow()


def hasty() -> Flow:
    """Return the app, and shorten the server's timeouts that have no option."""
    liveness.RECEIVE_TIMEOUT = RECEIVE_TIMEOUT
    open_sockets = sockets.open_sockets

    def shortened(config: Config) -> sockets.OpenSockets:
        found = open_sockets(config)
        for sock in found.sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(KERNEL * 1_000))
        return found

    sockets.open_sockets = shortened
    return app
