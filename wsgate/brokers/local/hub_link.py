"""A worker's connection to the hub: connects, greets, and connects again after its end."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from wsgate.brokers.local.backoff import Backoff
from wsgate.brokers.local.frame_connection import FrameConnection
from wsgate.observe.throttled_log import throttled
from wsgate.topics.errors import Unavailable
from wsgate.topics.messages import Hello, Message, Refused, Welcome
from wsgate.topics.wire_format import WireError

WELCOME_TIMEOUT = 5.0  # seconds for the connection and the hub's Welcome


class HubLink:
    """The connection to the hub, whichever hub serves the socket now.

    Args:
        find_path: Returns the path of the hub's socket, None if it is not known. It may raise
            OSError.
        hello: Returns the first message of a connection.
        on_welcome: Called when the hub has answered it: from now on there is a connection.
        on_message: Called with each further message.
        on_loss: Called when there is no connection any more.

    Attributes:
        connection: The connection; None while there is none.
        away_since: Since when there is none, in seconds of the loop's clock; None while there is
            one, and before the start.
        reconnects: How many connections there were after the first one.
    """

    def __init__(
        self,
        find_path: Callable[[], Awaitable[str | None]],
        hello: Callable[[], Hello],
        on_welcome: Callable[[Welcome], object],
        on_message: Callable[[Message], object],
        on_loss: Callable[[], object],
    ) -> None:
        self._find_path = find_path
        self._hello = hello
        self._on_welcome = on_welcome
        self._on_message = on_message
        self._on_loss = on_loss
        self.connection: FrameConnection | None = None
        self.away_since: float | None = None
        self.reconnects = 0
        self._was_connected = False
        self._reason = ""  # why the latest attempt has failed; "" if it has not
        self._latest: FrameConnection | None = None
        self._welcomed: asyncio.Future[None]  # of the present attempt
        self._ended: asyncio.Event
        self._backoff = Backoff()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect, now and after each end of the connection."""
        loop = asyncio.get_running_loop()
        self.away_since = loop.time()
        self._running = loop.create_task(self._run())

    async def stop(self) -> None:
        """End the connection, and connect no more."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def send(self, message: Message) -> bool:
        """Send a message; return False if there is no connection."""
        if self.connection is None:
            return False
        self.connection.send(message)
        return True

    def no_answer(self, timeout: float) -> Unavailable:
        """Return the exception for a request that was not answered within so many seconds."""
        text = f"the topics hub did not answer within {timeout:g} s"
        return Unavailable(f"{text}: {self._reason}" if self._reason else text)

    async def _run(self) -> None:
        while True:
            await self._serve_one_connection()
            await asyncio.sleep(self._backoff.next_pause())

    async def _serve_one_connection(self) -> None:
        """Connect, and return when the connection has ended."""
        loop = asyncio.get_running_loop()
        self._welcomed, self._ended = loop.create_future(), asyncio.Event()
        connection: FrameConnection | None = None
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT):
                connection = await self._connect(await self._find_path())
                await self._welcomed
            await self._ended.wait()
        except (OSError, ValueError) as error:  # ValueError: there is no path, or a malformed one
            self._reason = str(error)
            throttled.warning("The topics hub does not answer: %s", self._reason or "timeout")
        finally:
            if connection is not None:
                connection.close()
            self._lose()
            self._welcomed.cancel()

    async def _connect(self, path: str | None) -> FrameConnection:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_unix_connection(self._new, path)
        except (FileNotFoundError, ConnectionRefusedError):
            raise ConnectionError(f"nothing listens at {path}") from None
        return connection

    def _new(self) -> FrameConnection:
        return FrameConnection(self._greet, self._take, self._end)

    def _greet(self, connection: FrameConnection) -> None:
        self._latest = connection
        connection.send(self._hello())

    def _take(self, connection: FrameConnection, message: Message) -> None:
        if connection is not self._latest:
            return  # it was given up
        if self.connection is connection:
            self._on_message(message)
        elif self._welcomed.done():
            return  # it is about to be given up
        elif isinstance(message, Welcome):
            self._note_connected(connection)
            self._on_welcome(message)
        elif isinstance(message, Refused):
            self._fail(message.text)
            self._backoff.slow_down()
        else:
            raise WireError(f"{type(message).__name__} is out of place")

    def _note_connected(self, connection: FrameConnection) -> None:
        self.connection = connection
        self.away_since = None
        self.reconnects += self._was_connected
        self._was_connected = True
        self._reason = ""
        self._backoff.reset()
        self._welcomed.set_result(None)

    def _end(self, connection: FrameConnection) -> None:
        if connection is self._latest:
            self._fail("it has closed the connection")
            self._ended.set()
            self._lose()

    def _fail(self, reason: str) -> None:
        if not self._welcomed.done():
            self._welcomed.set_exception(ConnectionError(reason))
            with contextlib.suppress(ConnectionError):
                self._welcomed.exception()  # retrieved, in case nobody waits any more

    def _lose(self) -> None:
        if self.connection is not None:
            self.connection = None
            self.away_since = asyncio.get_running_loop().time()
            self._on_loss()
