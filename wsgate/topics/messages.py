"""The messages between a hub and its connections, and between two workers.

The connections of a hub are workers, and publishers outside.

A place is a position in the hub's one order of all topics with history, 0 for a plain publication.
A hub starts its places above those of every earlier hub. So a place also says which hub gave it.
"""

from dataclasses import dataclass
from enum import IntEnum

VERSION = 2  # of the messages; a hub refuses any other


class Mode(IntEnum):
    """How a message is published.

    KEPT: with a place, and history keeps it. LIVE: with a place, and nothing keeps it. A publisher
    outside does not know whether the topic has a history at all: without one there is no place.
    """

    KEPT = 1
    LIVE = 2


class Sync(IntEnum):
    """What a connection lacks that attaches a topic and has everything up to a position.

    CURRENT: it lacks nothing. BEHIND: it lacks messages that history holds. LOST: it lacks messages
    that nobody holds any more, or may do so.
    """

    CURRENT = 0
    BEHIND = 1
    LOST = 2


class Refusal(IntEnum):
    """Why a request has failed.

    VERSION: the hub has another version of the messages. LIMIT: the message is too large.
    """

    VERSION = 1
    LIMIT = 2


@dataclass(slots=True)
class HistoryRule:
    """How much history the topics have whose name matches a pattern."""

    pattern: str
    history: int
    seconds: float


@dataclass(slots=True)
class Kept:
    """A message of a history."""

    id: str
    place: int
    data: str | bytes


@dataclass(slots=True)
class Member:
    """A member of a topic, and how many connections it has."""

    name: str
    connections: int


# -- from a connection to the hub ------------------------------------------------------------------


@dataclass(slots=True)
class Hello:
    """The first message. The rules with the newest version count; a publisher outside has none.

    worker: the name of the worker's own socket, for other workers; None for a publisher outside.
    """

    version: int
    worker: str | None
    rules_version: int
    rules: list[HistoryRule]


@dataclass(slots=True)
class SetRules:
    """The rules have changed since the Hello."""

    version: int
    rules: list[HistoryRule]


@dataclass(slots=True)
class Attach:
    """Asks for the publications of a topic from now on.

    position: everything of the topic up to this place is known here; 0 at the first time. newest:
    the place of the newest message of the topic that is known here, 0 for none. former: the
    last position of this worker at the last settled hub before this one, 0 for none. A worker whose
    position there is below that of another worker lacks messages.
    """

    request: int
    topic: str
    position: int
    newest: int
    former: int


@dataclass(slots=True)
class Detach:
    """Asks for no more publications of a topic, the hub or another worker."""

    topic: str


@dataclass(slots=True)
class Claim:
    """Says to a new hub that an earlier one gave this place to a message of the topic."""

    topic: str
    newest: int


@dataclass(slots=True)
class Publish:
    """Publishes a message. Without a request number (0) there is no answer."""

    request: int
    topic: str
    mode: Mode
    id: str | None
    data: str | bytes


@dataclass(slots=True)
class GetMissed:
    """Asks for the messages after an id; without one, or if it is unknown, for the last ones."""

    request: int
    topic: str
    after: str | None
    last: int


@dataclass(slots=True)
class GetSince:
    """Asks for the messages after a place."""

    request: int
    topic: str
    place: int


@dataclass(slots=True)
class GetMore:
    """Asks for the next part of an answer."""

    request: int


@dataclass(slots=True)
class Forget:
    """Says that the further parts of an answer are not needed."""

    request: int


@dataclass(slots=True)
class GetCount:
    """Asks how many subscribers a topic has."""

    request: int
    topic: str


@dataclass(slots=True)
class Subscribers:
    """Answers AskCount."""

    question: int
    count: int


@dataclass(slots=True)
class GetMembers:
    """Asks for the members of a topic."""

    request: int
    topic: str


@dataclass(slots=True)
class SetMember:
    """Says how many connections a member has here, 0 for none any more.

    is_known: it had joined with an earlier hub, so nobody announces that it joins.
    """

    topic: str
    member: str
    connections: int
    is_known: bool


# -- from the hub to a connection ------------------------------------------------------------------


@dataclass(slots=True)
class Welcome:
    """Answers Hello.

    start: the place with which this hub began. peers: the names of the other workers that have said
    Hello. is_settled: none is missing, as all have had the time to connect again.
    """

    version: int
    start: int
    place: int
    peers: list[str]
    is_settled: bool


@dataclass(slots=True)
class Joined:
    """Another worker has said Hello."""

    name: str


@dataclass(slots=True)
class Attached:
    """Answers Attach; publications with a later place follow."""

    request: int
    topic: str
    sync: Sync
    place: int


@dataclass(slots=True)
class Delivered:
    """A publication, from the hub or from another worker.

    request: that of the Publish if this connection has published it, else 0. previous: the place of
    the topic's message before.
    """

    request: int
    topic: str
    id: str | None
    previous: int
    place: int
    data: str | bytes


@dataclass(slots=True)
class Placed:
    """Answers Publish. is_known: history held the id already, and nothing was sent."""

    request: int
    id: str | None
    place: int
    is_known: bool


@dataclass(slots=True)
class MissedPart:
    """Answers GetMissed, GetSince and GetMore.

    place: of the newest message of all topics when the answer was made.
    """

    request: int
    is_complete: bool
    place: int
    has_more: bool
    messages: list[Kept]


@dataclass(slots=True)
class AskCount:
    """Asks how many subscribers a topic has on this worker."""

    question: int
    topic: str


@dataclass(slots=True)
class Count:
    """Answers GetCount."""

    request: int
    count: int


@dataclass(slots=True)
class Members:
    """Answers GetMembers, in one or more parts."""

    request: int
    has_more: bool
    members: list[Member]


@dataclass(slots=True)
class Announce:
    """A member has joined or left; no other connection gets this."""

    topic: str
    member: str
    has_joined: bool


@dataclass(slots=True)
class Lost:
    """Somebody has a message of the topic that this connection lacks, and nobody holds it."""

    topic: str


@dataclass(slots=True)
class Seen:
    """Everything up to this place was sent to this connection, by a hub that is settled."""

    place: int


@dataclass(slots=True)
class Refused:
    """A request has failed; request is 0 for the Hello."""

    request: int
    reason: Refusal
    text: str


# -- between two workers ---------------------------------------------------------------------------


@dataclass(slots=True)
class PeerHello:
    """The first message of the worker that has connected to the other one; it has no answer."""

    name: str


@dataclass(slots=True)
class Wanted:
    """The sender has attached these topics. With a request number it is answered by Noted."""

    request: int
    topics: list[str]


@dataclass(slots=True)
class AllWanted:
    """The sender has named all topics that it has attached. It is answered by Noted."""

    request: int


@dataclass(slots=True)
class Noted:
    """Answers Wanted and AllWanted: what is published from now on arrives."""

    request: int


Message = (
    Hello
    | SetRules
    | Attach
    | Detach
    | Claim
    | Publish
    | GetMissed
    | GetSince
    | GetMore
    | Forget
    | GetCount
    | Subscribers
    | GetMembers
    | SetMember
    | Welcome
    | Joined
    | Attached
    | Delivered
    | Placed
    | MissedPart
    | AskCount
    | Count
    | Members
    | Announce
    | Lost
    | Seen
    | Refused
    | PeerHello
    | Wanted
    | AllWanted
    | Noted
)
