"""Publishes to the hub of a server from another program of the same machine."""

import itertools
import secrets

from wsgate.brokers.local.hub_link import HubLink
from wsgate.brokers.local.requests import Requests
from wsgate.topics import messages
from wsgate.topics.errors import LimitReached
from wsgate.topics.messages import Message, Mode, Placed


class LocalPublisher:
    """Publishes messages; nothing is received.

    Args:
        path: Of the hub's socket, as in `--topics local:/path`.
        timeout: Seconds that a publish may take, with the time to connect.
    """

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._link = HubLink(
            self._find_path, _hello, self._repeat, self._take, on_loss=lambda: None
        )
        self._requests = Requests(self._link.send, self._link.no_answer, timeout)
        self._hub: int | None = None  # the first place of the hub that was connected last
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    async def _find_path(self) -> str:
        return self._path

    async def start(self) -> None:
        """Connect in the background."""
        self._link.start()

    async def stop(self) -> None:
        """Close the connection."""
        await self._link.stop()
        self._requests.fail_all()

    async def publish(
        self, topic: str, data: str | bytes, id: str | None, *, is_kept: bool
    ) -> str | None:
        """Publish a message, and wait until the hub has it; returns the id under which it is kept.

        Raises:
            LimitReached: It is too large for the history.
            Unavailable: The hub did not answer in time.
        """
        if is_kept and id is None:
            id = f"{self._prefix}-{next(self._numbers)}"  # so that it may be sent again
        mode = Mode.KEPT if is_kept else Mode.LIVE

        def make(number: int) -> Message:
            return messages.Publish(number, topic, mode, id if is_kept else None, data)

        _, answer = await self._requests.ask(make, may_repeat=is_kept)
        if not isinstance(answer, Placed):
            raise LimitReached(answer.text)
        return answer.id if answer.place and is_kept else None

    def _repeat(self, welcome: messages.Welcome) -> None:
        """Send what was not answered on the connection before."""
        is_same_hub = welcome.start == self._hub
        self._hub = welcome.start
        self._requests.repeat(is_same_hub=is_same_hub)

    def _take(self, message: Message) -> None:
        if isinstance(message, Placed | messages.Refused):
            self._requests.take(message.request, message)


def _hello() -> messages.Hello:
    return messages.Hello(messages.VERSION, worker=None, rules_version=0, rules=[])
