"""Publishes to topics from other programs: a worker of a queue, a cron job, a shell."""

import asyncio
import threading
from types import TracebackType
from typing import Protocol, Self

from wsgate.brokers import urls
from wsgate.brokers.local.publisher import LocalPublisher
from wsgate.brokers.redis.factory import make_redis_publisher
from wsgate.topics.errors import TopicsError, Unavailable
from wsgate.topics.names import check_data, check_id, check_name

TIMEOUT = 5.0  # seconds that a publish may take by default


class _Carrier(Protocol):
    async def start(self) -> None:
        """Connect in the background."""

    async def stop(self) -> None:
        """Close the connections."""

    async def publish(
        self, topic: str, data: str | bytes, id: str | None, *, is_kept: bool
    ) -> str | None:
        """Publish a message; returns its id."""


def _make_carrier(url: str, timeout: float) -> _Carrier:
    if not isinstance(url, str):
        raise TypeError(f"the URL must be a str, not {type(url).__name__}")
    if url in (urls.MEMORY, urls.LOCAL):
        raise TopicsError(
            f"{url} cannot be published to from other programs; local:/path/of/a/socket can"
        )
    if urls.is_custom(url):
        raise TopicsError(f"{url} cannot be published to from other programs: use what it uses")
    if urls.is_local(url):
        if not urls.is_broker_url(url):
            raise ValueError(f"the URL must be {urls.WANTED}")
        return LocalPublisher(url.removeprefix(urls.LOCAL), timeout)
    return make_redis_publisher(url, timeout)


class Publisher:
    """Publishes to the topics of the servers that use the same URL.

    Use it as `async with Publisher(url) as p`, then `await p.publish(topic, data)`. The rules of
    the topics are those that the servers have stored. It may be used by many tasks at once.

    Args:
        url: What the servers have as --topics.
        timeout: Seconds that a publish may take.

    Raises:
        ValueError: The URL is malformed.
        TopicsError: It cannot be published to, or redis-py is not installed.
    """

    def __init__(self, url: str, *, timeout: float = TIMEOUT) -> None:
        self._carrier = _make_carrier(url, timeout)

    async def __aenter__(self) -> Self:
        """Connect in the background: what is published waits for the connection."""
        await self._carrier.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self._carrier.stop()

    async def publish(
        self, topic: str, data: str | bytes, *, id: str | None = None, keep: bool = True
    ) -> str | None:
        """Send a message to all subscribers of a topic; returns when the carrier has it.

        Args:
            topic: The topic.
            data: Text for a text message, bytes for a binary one.
            id: Under which the history keeps the message. If it holds the id already, nothing is
                sent again. By default wsgate makes one.
            keep: False for a message that only those get who are subscribed now.

        Returns:
            The id under which the history keeps the message, else None.

        Raises:
            LimitReached: The message is too large for the history.
            Unavailable: There was no answer in time. With an id it can be published again.
            TypeError, ValueError: An argument is not allowed.
        """
        _check(topic, data, id)
        return await self._carrier.publish(topic, data, id, is_kept=bool(keep))


class SyncPublisher:
    """The same for code that is not async: `with SyncPublisher(url) as p: p.publish(...)`.

    It may be used by many threads, one after the other. In code that runs in an event loop it is an
    error: use `Publisher` there. The arguments and errors are those of `Publisher`.
    """

    def __init__(self, url: str, *, timeout: float = TIMEOUT) -> None:
        self._url = url
        self._timeout = timeout
        self._carrier = _make_carrier(url, timeout)
        self._lock = threading.Lock()
        self._runner: asyncio.Runner | None = None

    def __enter__(self) -> Self:
        """Open it; the first publish waits for the connection."""
        self._check_thread()
        self._runner = asyncio.Runner()
        self._runner.run(self._carrier.start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        with self._lock:
            runner, self._runner = self._runner, None
            if runner is not None:
                with runner:
                    runner.run(self._carrier.stop())

    def publish(
        self, topic: str, data: str | bytes, *, id: str | None = None, keep: bool = True
    ) -> str | None:
        """Send a message to all subscribers of a topic, as `Publisher.publish` does."""
        _check(topic, data, id)
        self._check_thread()
        with self._lock:
            if self._runner is None:
                raise RuntimeError("a SyncPublisher is used within its `with` block")
            try:
                return self._runner.run(self._carrier.publish(topic, data, id, is_kept=bool(keep)))
            except Unavailable:
                self._runner.run(self._connect_again())
                raise

    async def _connect_again(self) -> None:
        """Give up a connection that may be dead: nothing reads from it between two calls."""
        await self._carrier.stop()
        self._carrier = _make_carrier(self._url, self._timeout)
        await self._carrier.start()

    def _check_thread(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise RuntimeError("this code runs in an event loop: use wsgate.topics.Publisher")


def _check(topic: str, data: str | bytes, id: str | None) -> None:
    check_name(topic)
    check_data(data)
    if id is not None:
        check_id(id)
