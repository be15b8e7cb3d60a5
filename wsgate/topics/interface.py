"""What an app uses: `topics.of(scope)` and the object that it returns."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from wsgate.topics.errors import NotAvailable
from wsgate.topics.names import check_data, check_id, check_member, check_name

EXTENSION = "wsgate.topics"


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a subscription has sent of the history.

    complete: no message is missing; False if the history does not reach back to the id. count:
    number of messages that were sent.
    """

    complete: bool
    count: int


class Message(Protocol):
    """A message that a listener gets. id: None if no history keeps it."""

    topic: str
    data: str | bytes
    id: str | None


class Listener(Protocol):
    """The messages of a topic, for the app itself: an async context manager, and iterable.

    complete: as of `Recovered`, from the entry on.
    """

    complete: bool

    async def __aenter__(self) -> Self:
        """Listen from now on."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Listen no more."""

    def __aiter__(self) -> AsyncIterator[Message]:
        """Iterate over the messages, until the connection of the scope has ended."""


class Service(Protocol):
    """The topics of one worker, as `Topics` uses them. All arguments were checked."""

    async def subscribe(
        self, socket: Any, topic: str, after: str | None, last: int, member: str | None
    ) -> Recovered:
        """Subscribe a socket."""

    async def unsubscribe(self, socket: Any, topic: str) -> None:
        """End the subscription of a socket."""

    async def publish(
        self,
        topic: str,
        data: str | bytes,
        id: str | None,
        excluded: Any,
        *,
        is_kept: bool,
    ) -> str | None:
        """Publish a message; returns its id."""

    def listen(self, owner: Any, topic: str, after: str | None, last: int) -> Listener:
        """Return a listener."""

    def subscribers(self, topic: str) -> int:
        """Return the number of subscribers on this worker."""

    async def count(self, topic: str) -> int:
        """Return the number of subscribers on all workers."""

    async def members(self, topic: str) -> dict[str, int]:
        """Return the number of connections of each member on all workers."""


class Extension(dict[object, object]):
    """The value of the ASGI extension `wsgate.topics`: an empty dict that leads to the worker.

    service: the topics of the worker. owner: the call of the app, with which its listeners end;
    None for the lifespan. socket: the WebSocket that can subscribe, None in other scopes.
    """

    __slots__ = ("owner", "service", "socket")

    def __init__(self, service: Service, owner: object, socket: object | None) -> None:
        super().__init__()
        self.service = service
        self.owner = owner
        self.socket = socket

    def __deepcopy__(self, memo: dict[int, object]) -> "Extension":
        """Return itself: a copy of a scope belongs to the same connection."""
        return self


def of(scope: Any) -> "Topics":
    """Return the topics of a scope, or of an object that has a `.scope`.

    Raises:
        NotAvailable: The scope is not from a server with topics.
    """
    extension = extension_of(scope)
    if extension is None:
        raise NotAvailable("this server has no topics: serve the app with wsgate")
    return Topics(extension)


def extension_of(scope: Any) -> Extension | None:
    """Return the extension in a scope, or in the `.scope` of an object; None if there is none."""
    if not isinstance(scope, Mapping):
        scope = getattr(scope, "scope", None)
    if not isinstance(scope, Mapping):
        raise TypeError("topics.of() takes a scope, or an object with a .scope")
    extension = (scope.get("extensions") or {}).get(EXTENSION)
    return extension if isinstance(extension, Extension) else None


class Topics:
    """The topics, as one call of the app uses them.

    A WebSocket subscribes with it. Any call may publish and listen. In another thread than that of
    the event loop, all but `subscribers` raise TopicsError.
    """

    __slots__ = ("extension",)

    def __init__(self, extension: Extension) -> None:
        self.extension = extension

    async def subscribe(
        self,
        topic: str,
        *,
        after: str | None = None,
        last: int | None = None,
        member: str | None = None,
    ) -> Recovered:
        """Send what is published to a topic to this WebSocket, until it closes.

        A second subscription to the same topic changes nothing but the member.

        Args:
            topic: Any text of 1 to 255 bytes in UTF-8.
            after: The id of the last message that the client has. What it has missed since is sent
                first, at its own pace. None or "" if it has none.
            last: Send this many of the newest messages if `after` is left out or not known.
            member: Who the client is; `members` counts it.

        Returns:
            Whether the history has all that the client has missed, and how much was sent.

        Raises:
            TopicsError: The scope is not that of an accepted WebSocket, or `after` was given for a
                topic that is subscribed already.
            LimitReached: The WebSocket, or the worker, has too many topics.
            Unavailable: The broker did not answer in time.
            ClientDisconnected: The client has left.
            TypeError, ValueError: An argument is not allowed.
        """
        check_name(topic)
        after, count = _checked(after, last)
        if member is not None:
            check_member(member)
        extension = self.extension
        return await extension.service.subscribe(extension.socket, topic, after, count, member)

    async def unsubscribe(self, topic: str) -> None:
        """End the subscription of this WebSocket; nothing of the topic is sent any more.

        Raises:
            TopicsError: The scope is not that of a WebSocket.
            TypeError, ValueError: The name is not allowed.
        """
        check_name(topic)
        await self.extension.service.unsubscribe(self.extension.socket, topic)

    async def publish(
        self,
        topic: str,
        data: str | bytes,
        *,
        id: str | None = None,
        exclude: Any = None,
        keep: bool = True,
    ) -> str | None:
        """Send a message to all subscribers of a topic.

        Args:
            topic: The topic.
            data: Text for a text message, bytes for a binary one.
            id: Under which the history keeps the message. If it holds the id already, nothing is
                sent again. By default wsgate makes one.
            exclude: The Topics object or the scope of a WebSocket that does not get the message.
            keep: False for a message that only those get who are subscribed now.

        Returns:
            The id under which the history keeps the message, else None.

        Raises:
            LimitReached: The message is too large for the history.
            Unavailable: The message has no place in the order of a topic with history.
            TypeError, ValueError: An argument is not allowed.
        """
        check_name(topic)
        check_data(data)
        if id is not None:
            check_id(id)
        excluded = None if exclude is None else _socket_of(exclude)
        service = self.extension.service
        return await service.publish(topic, data, id, excluded, is_kept=bool(keep))

    def listen(self, topic: str, *, after: str | None = None, last: int | None = None) -> Listener:
        """Return the messages of a topic for the app itself.

        Use it as `async with t.listen(topic) as messages`, and iterate over `messages`; or iterate
        over it directly. It ends with the connection of the scope.

        Args:
            topic: The topic.
            after: The id of a message; those after it come first. None or "" for none.
            last: Begin with this many of the newest messages if `after` is left out or not known.

        Raises:
            TypeError, ValueError: An argument is not allowed.
        """
        check_name(topic)
        after, count = _checked(after, last)
        return self.extension.service.listen(self.extension.owner, topic, after, count)

    def subscribers(self, topic: str) -> int:
        """Return how many WebSockets and listeners of this worker have the topic."""
        check_name(topic)
        return self.extension.service.subscribers(topic)

    async def count(self, topic: str) -> int:
        """Return how many WebSockets and listeners of all workers have the topic.

        Raises:
            Unavailable: The broker did not answer in time.
        """
        check_name(topic)
        return await self.extension.service.count(topic)

    async def members(self, topic: str) -> dict[str, int]:
        """Return the members of a topic on all workers, with the number of their connections.

        Raises:
            Unavailable: The broker did not answer in time.
        """
        check_name(topic)
        return await self.extension.service.members(topic)


def _checked(after: object, last: object) -> tuple[str | None, int]:
    if after is not None and after != "":
        check_id(after)
    if last is not None:
        if isinstance(last, bool) or not isinstance(last, int):
            raise TypeError(f"last must be a number of messages, not {type(last).__name__}")
        if last < 0:
            raise ValueError(f"last must not be below 0, but it is {last}")
    return (after if isinstance(after, str) and after else None), last or 0


def _socket_of(exclude: Any) -> object:
    extension = exclude.extension if isinstance(exclude, Topics) else extension_of(exclude)
    if extension is None or extension.socket is None:
        raise ValueError("exclude must be the Topics object or the scope of a WebSocket")
    return extension.socket
