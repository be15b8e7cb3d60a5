"""The app behind the tests of liveness and floods: it notes how each of its WebSockets ended.

WebSockets, besides those of tests/apps/abuse.py: `/talk/NAME` echoes, and closes with 4000 when it
is told "close"; `/pour/NAME` sends MESSAGES messages of SIZE characters, then receives;
`/take/NAME` only receives; `/early/NAME` does so without an accept; `/deaf/NAME` receives nothing
until `POST /release`.
HTTP: `GET /begun/NAME/N`, `/sent/NAME/N` and `/ended/NAME/N` wait until N calls of that name have
begun (accepted, but for `/early`), until each of those has sent N messages, and until N have ended;
all answer with what is known of the name (`Told` in tests/abuse/flow.py names the fields).
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
MAX_PAUSE = 3.0  # seconds, for those that no option shortens
KERNEL = 2.0  # seconds until the kernel gives a silent peer up, the same


class Told:
    """What the calls of one name were told. sent: messages of those that pour, one by one."""

    def __init__(self) -> None:
        self.begun = self.ended = self.received = self.again = 0
        self.codes: Counter[int] = Counter()
        self.sent: dict[object, int] = {}

    def json(self) -> dict[str, float]:
        """Return the fields, the codes by their numbers."""
        return {
            "begun": self.begun,
            "ended": self.ended,
            "received": self.received,
            "again": self.again,
            "most_sent": max(self.sent.values(), default=0),
            **{str(code): count for code, count in self.codes.items()},
        }


class Flow(Site):
    """The app."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, Told] = {}
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
        told = self._told.setdefault(name, Told())
        await receive()
        if kind != "early":
            await send({"type": "websocket.accept"})
        told.begun += 1
        await self._notify()
        await play[kind](told, receive, send)
        await self._end(told, receive)
        told.ended += 1
        await self._notify()

    async def _end(self, told: Told, receive: Any) -> None:
        """Receive up to the disconnect, and see that nothing else comes behind it."""
        while (message := await receive())["type"] == "websocket.receive":
            told.received += 1
        told.codes[message["code"]] += 1
        told.again += await receive() == message

    async def _talk(self, told: Told, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            told.received += 1
            if message.get("text") == "close":
                await send({"type": "websocket.close", "code": 4000})
                return
            await send({**message, "type": "websocket.send"})

    async def _pour(self, told: Told, receive: Any, send: Any) -> None:
        me = object()
        message = {"type": "websocket.send", "text": "x" * SIZE}
        with contextlib.suppress(ClientDisconnected):
            for number in range(MESSAGES):
                await send(message)
                told.sent[me] = number + 1
                if self._is_waited_for(number + 1):
                    await self._notify()

    @staticmethod
    def _is_waited_for(number: int) -> bool:
        return number in (1, 10) or number == MESSAGES

    async def _take(self, told: Told, receive: Any, send: Any) -> None:
        """Do nothing but receive to the end, which is done for all."""

    async def _deaf(self, told: Told, receive: Any, send: Any) -> None:
        await self._release.wait()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _answer(self, method: str, path: str) -> dict[str, float] | None:
        match path.split("/"):
            case ["", "begun" | "sent" | "ended" as what, name, count]:
                return await self._waited(what, name, int(count))
        return await super()._answer(method, path)

    async def _waited(self, what: str, name: str, count: int) -> dict[str, float]:
        told = self._told.setdefault(name, Told())
        reached: dict[str, Callable[[], bool]] = {
            "begun": lambda: told.begun >= count,
            "ended": lambda: told.ended >= count,
            "sent": lambda: min(told.sent.values(), default=0) >= count,
        }
        async with self._changed:
            await self._changed.wait_for(reached[what])
        return told.json()


app = Flow()


def hasty() -> Flow:
    """Make the app in a server whose fixed deadlines are short, those that have no option."""
    liveness.MAX_PAUSE = MAX_PAUSE
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
