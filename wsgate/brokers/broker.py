"""The interface between a worker's topics and what carries publications between workers."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from wsgate.topics.history import Missed
from wsgate.topics.presence import Change
from wsgate.topics.publication import Publication
from wsgate.topics.rules import Rules


class Receiver(Protocol):
    """One worker, as its broker sees it. Nothing here waits or raises."""

    def deliver(self, publication: Publication, excluded: object | None) -> None:
        """Give a publication to the subscribers of its topic on this worker.

        Of one topic they come in order: by place with history, else as each publisher sent them.

        Args:
            publication: The message.
            excluded: The socket of this worker that does not get it.
        """

    def change(self, change: Change) -> None:
        """Announce that a member has joined or left. For each change one worker is called."""

    def subscribers(self, topic: str) -> int:
        """Return how many subscribers and listeners the topic has on this worker."""

    def lost(self, topic: str) -> None:
        """Close the subscribers of a topic with history, and end its listeners with Overrun.

        They may lack messages that nobody holds any more. They get nothing of the topic after this.
        """

    def count_dropped(self, cause: str) -> None:
        """Count a publication that does not reach other workers."""

    def rules_of(self, topic: str) -> Rules:
        """Return the rules of a topic."""

    def rule_entries(self) -> Sequence[tuple[str, Rules]]:
        """Return all patterns with their rules; the last one that matches counts."""


class BrokerSettings(Protocol):
    """The settings of brokers."""

    @property
    def topics_history_max_bytes(self) -> int:
        """Bytes of all kept messages."""

    @property
    def topics_publish_timeout(self) -> float:
        """Seconds to wait for a broker."""


class BrokerState(NamedTuple):
    """Whether a broker reaches its server (the topics hub, Redis), for monitoring.

    away_since: since when it does not, in seconds of the event loop's clock; None while it does.
    lag: seconds that the server took for its latest answer; None if there was none. reconnects: how
    often a connection to the server had to be made again.
    """

    away_since: float | None = None
    lag: float | None = None
    reconnects: int = 0


class Broker(Protocol):
    """Carries publications between workers, keeps histories and presence.

    A name of a topic, an id and a member are checked before they come here.
    """

    async def start(self, receiver: Receiver) -> None:
        """Start; from now on the receiver may be called. A broker that is away is no error."""

    async def stop(self) -> None:
        """Stop, and forget this worker's members and subscriptions."""

    def state(self) -> BrokerState:
        """Return whether it reaches its server. Called often, also before `start`."""

    async def attach(self, topic: str) -> None:
        """Deliver a topic's publications from now on.

        Whatever is published anywhere after this has returned is delivered.

        Raises:
            Unavailable: The broker did not answer in time.
        """

    def detach(self, topic: str) -> None:
        """Deliver nothing more of a topic."""

    async def publish(
        self, publication: Publication, rules: Rules, excluded: object | None, *, is_kept: bool
    ) -> None:
        """Publish a message, and set its id and place.

        In a topic with history this returns when the message has its place and was delivered here,
        and at once if history holds a message with its id.

        Args:
            publication: The message.
            rules: Of its topic.
            excluded: The socket of this worker that does not get it.
            is_kept: Whether history keeps it.

        Raises:
            LimitReached: It is too large for the history.
            Unavailable: It has no place in the order of its topic.
        """

    async def missed(self, topic: str, after: str | None, last: int) -> Missed:
        """Return what a subscriber has missed.

        Args:
            topic: The topic, which is attached.
            after: The id of the last message that it has; None if it has none.
            last: How many of the newest messages it gets if `after` is None or not known.

        Raises:
            Unavailable: The broker did not answer in time.
        """

    async def count(self, topic: str) -> int:
        """Return the number of subscribers and listeners on all workers.

        Raises:
            Unavailable: The broker did not answer in time.
        """

    async def members(self, topic: str) -> dict[str, int]:
        """Return the number of connections of each member on all workers.

        Raises:
            Unavailable: The broker did not answer in time.
        """

    def changed(self, topic: str) -> None:
        """Notice that the number of the topic's subscribers on this worker has changed."""

    def join(self, topic: str, member: str) -> None:
        """Count a connection of a member."""

    def leave(self, topic: str, member: str) -> None:
        """Count the end of a connection of a member."""
