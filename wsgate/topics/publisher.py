"""Publishes to topics from other programs: a worker of a queue, a cron job, a shell."""

import asyncio
import functools
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from wsgate.brokers import urls
from wsgate.brokers.local.publisher import LocalPublisher
from wsgate.brokers.redis.factory import make_redis_publisher
from wsgate.topics.errors import TopicsError, Unavailable
from wsgate.topics.names import check_data, check_id, check_name

TIMEOUT = 5.0  # seconds that a publish may take by default
_IS_OPEN = "the publisher is open already"
_IS_NOT_OPEN = "the publisher is not open: use it in a `with` block, or call open()"


class _Carrier(Protocol):
    async def start(self) -> None:
        """Connect in the background."""

    async def stop(self) -> None:
        """Close the connections."""

    async def publish(
        self, topic: str, data: str | bytes, id: str | None, *, is_kept: bool
    ) -> str | None:
        """Publish a message; returns its id."""


def _carrier_maker(url: str, timeout: float) -> Callable[[], _Carrier]:
    """Return what makes the carrier of a URL.

    A publisher has a new one each time that it is opened. A carrier numbers its messages, so those
    of two processes would be taken for the same if both had inherited it.
    """
    make = functools.partial(_make_carrier, url, timeout)
    make()  # to raise the errors of the URL
    return make


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

    Use it as `async with Publisher(url) as p`, then `await p.publish(topic, data)`; or call `open`
    and `close`. The rules of the topics are those that the servers have stored. It may be used by
    many tasks at once.

    Args:
        url: What the servers have as --topics.
        timeout: Seconds that a publish may take.

    Raises:
        ValueError: The URL is malformed.
        TopicsError: It cannot be published to, or redis-py is not installed.
    """

    def __init__(self, url: str, *, timeout: float = TIMEOUT) -> None:
        self._make_carrier = _carrier_maker(url, timeout)
        self._carrier: _Carrier | None = None

    async def open(self) -> None:
        """Connect in the background: what is published waits for the connection.

        Raises:
            RuntimeError: It is open.
        """
        if self._carrier is not None:
            raise RuntimeError(_IS_OPEN)
        self._carrier = self._make_carrier()
        await self._carrier.start()

    async def close(self) -> None:
        """Close the connections, if it is open. It may be opened again."""
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            await carrier.stop()

    async def __aenter__(self) -> Self:
        """Open it."""
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.close()

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
            RuntimeError: The publisher is not open.
            TypeError, ValueError: An argument is not allowed.
        """
        _check(topic, data, id)
        if self._carrier is None:
            raise RuntimeError(_IS_NOT_OPEN)
        return await self._carrier.publish(topic, data, id, is_kept=bool(keep))


class SyncPublisher:
    """The same for code that is not async: `with SyncPublisher(url) as p: p.publish(...)`.

    It may be used by many threads, one after the other. In code that runs in an event loop it is an
    error: use `Publisher` there. It is used in the process that has opened it: after a fork, the
    child opens one of its own. The arguments and errors are those of `Publisher`.
    """

    def __init__(self, url: str, *, timeout: float = TIMEOUT) -> None:
        self._make_carrier = _carrier_maker(url, timeout)
        self._carrier: _Carrier
        self._lock = threading.Lock()
        self._runner: asyncio.Runner | None = None
        self._process = 0  # that has opened it

    def open(self) -> None:
        """Open it; the first publish waits for the connection.

        Raises:
            RuntimeError: It is open, or an event loop runs in this thread.
        """
        self._check_thread()
        self._check_process()
        with self._lock:
            if self._runner is not None:
                raise RuntimeError(_IS_OPEN)
            self._process = os.getpid()
            self._runner = asyncio.Runner()
            self._runner.run(self._start())

    def close(self) -> None:
        """Close the connections, if it is open. It may be opened again."""
        if self._is_inherited:
            return  # they are the parent's
        with self._lock:
            runner, self._runner = self._runner, None
            if runner is not None:
                with runner:
                    runner.run(self._carrier.stop())

    def __enter__(self) -> Self:
        """Open it."""
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def publish(
        self, topic: str, data: str | bytes, *, id: str | None = None, keep: bool = True
    ) -> str | None:
        """Send a message to all subscribers of a topic, as `Publisher.publish` does."""
        _check(topic, data, id)
        self._check_thread()
        self._check_process()
        with self._lock:
            if self._runner is None:
                raise RuntimeError(_IS_NOT_OPEN)
            try:
                return self._runner.run(self._carrier.publish(topic, data, id, is_kept=bool(keep)))
            except Unavailable:
                self._runner.run(self._connect_again())
                raise

    async def _start(self) -> None:
        self._carrier = self._make_carrier()
        await self._carrier.start()

    async def _connect_again(self) -> None:
        """Give up a connection that may be dead: nothing reads from it between two calls."""
        await self._carrier.stop()
        await self._start()

    def _check_thread(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise RuntimeError("this code runs in an event loop: use wsgate.topics.Publisher")

    @property
    def _is_inherited(self) -> bool:
        """Whether it was opened before this process was forked."""
        return self._runner is not None and self._process != os.getpid()

    def _check_process(self) -> None:
        if self._is_inherited:
            raise RuntimeError(
                "the publisher was opened before this process was forked: open it in the child only"
            )


def _check(topic: str, data: str | bytes, id: str | None) -> None:
    check_name(topic)
    check_data(data)
    if id is not None:
        check_id(id)
