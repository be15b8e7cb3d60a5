"""Checks that a broker keeps the promises of `wsgate.brokers.broker.Broker`.

Each check is an async function that takes `make`, a function that returns a new broker, not
started, of the same carrier each time. With pytest:

    @pytest.mark.parametrize("check", brokers.checks(history=False))
    async def test_my_broker(check):
        await check(make)
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from wsgate.brokers.broker import Broker, BrokerState
from wsgate.topics.errors import LimitReached, Unavailable
from wsgate.topics.presence import Change
from wsgate.topics.publication import Publication
from wsgate.topics.rules import PLAIN, Rules, Slow

KEPT = Rules(history=100, history_seconds=60.0, slow=Slow.CLOSE)
PATIENCE = 30.0  # seconds to wait for what has to happen
PAUSE = 0.01  # seconds between two checks
NAMES = ("room", "room.*", "a b", "h\u00e9 \u4f60\u597d \U0001f600", "\n\0\r", "$>{}", "x" * 255)
_MANY = 40  # messages
MISPLACED = "misplaced"  # a topic that nobody has

Make = Callable[[], Broker]
Check = Callable[[Make], Awaitable[None]]


class Recorder:
    """A receiver that records what it gets. Topics whose name begins with h- have history.

    Attributes:
        delivered: The publications of each topic.
        excluded: The socket that did not get it, of each publication.
        changes: Who has joined and left.
        losses: The topics that may lack messages.
        dropped: How many publications were dropped, by cause.
        counts: The number of subscribers of each topic, set by the check.
    """

    def __init__(self, entries: Sequence[tuple[str, Rules]] = ()) -> None:
        self.entries = entries
        self.delivered: dict[str, list[Publication]] = {}
        self.excluded: list[object] = []
        self.changes: list[Change] = []
        self.losses: list[str] = []
        self.dropped: Counter[str] = Counter()
        self.counts: dict[str, int] = {}

    def deliver(self, publication: Publication, excluded: object | None) -> None:
        """Record a publication."""
        self.delivered.setdefault(publication.topic, []).append(publication)
        self.excluded.append(excluded)

    def change(self, change: Change) -> None:
        """Record that a member has joined or left."""
        self.changes.append(change)

    def subscribers(self, topic: str) -> int:
        """Return the number that the check has set."""
        return self.counts.get(topic, 0)

    def rules_of(self, topic: str) -> Rules:
        """Return the rules of a topic."""
        return KEPT if self.entries and topic.startswith("h-") else PLAIN

    def rule_entries(self) -> Sequence[tuple[str, Rules]]:
        """Return all rules."""
        return self.entries

    def lost(self, topic: str) -> None:
        """Record that messages of a topic may be missing."""
        self.losses.append(topic)

    def count_dropped(self, cause: str) -> None:
        """Count a publication that was dropped."""
        self.dropped[cause] += 1

    def data(self, topic: str) -> list[str | bytes]:
        """Return what was delivered of a topic."""
        return [one.data for one in self.delivered.get(topic, ())]


class Worker:
    """A broker that is started, and its receiver."""

    def __init__(self, broker: Broker, recorder: Recorder) -> None:
        self.broker = broker
        self.recorder = recorder

    async def publish(
        self,
        topic: str,
        data: str | bytes,
        id: str | None = None,
        *,
        excluded: object | None = None,
        is_kept: bool = True,
    ) -> Publication:
        """Publish a message."""
        publication = Publication(topic, data, id)
        rules = self.recorder.rules_of(topic)
        await self.broker.publish(publication, rules, excluded, is_kept=is_kept)
        return publication

    async def has(self, topic: str, *data: str | bytes) -> None:
        """Wait until exactly these messages were delivered."""
        await until(lambda: len(self.recorder.data(topic)) >= len(data))
        assert self.recorder.data(topic) == list(data)

    async def members_are(self, **expected: int) -> None:
        """Wait until the room has these members."""
        await self._returns(lambda: self.broker.members("room"), expected)

    async def count_is(self, expected: int) -> None:
        """Wait until the room has so many subscribers."""
        await self._returns(lambda: self.broker.count("room"), expected)

    async def _returns(self, ask: Callable[[], Awaitable[object]], expected: object) -> None:
        found: object = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while (found := await ask()) != expected:
                    await _pause()
        assert found == expected

    def set_count(self, topic: str, number: int) -> None:
        """Have so many subscribers."""
        self.recorder.counts[topic] = number
        self.broker.changed(topic)


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition is true; raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await _pause()


async def _pause() -> None:
    await asyncio.sleep(PAUSE)


@contextlib.asynccontextmanager
async def workers(make: Make, count: int, *, history: bool = False) -> AsyncIterator[list[Worker]]:
    """Run workers that can hear each other."""
    entries = [("h-*", KEPT)] if history else []
    found = [Worker(make(), Recorder(entries)) for _ in range(count)]
    async with contextlib.AsyncExitStack() as stack:
        for worker in found:
            stack.push_async_callback(worker.broker.stop)
            await worker.broker.start(worker.recorder)
        await _connect(found)
        for worker in found:
            worker.recorder.dropped.clear()
        yield found


async def _connect(found: list[Worker]) -> None:
    """Wait until all workers are connected: a broker connects in the background."""
    async with asyncio.timeout(PATIENCE):
        for worker in found:
            while not worker.recorder.data("connected"):
                await worker.broker.attach("connected")
                await found[0].publish("connected", "")
                await _pause()
            while not await _is_connected(worker.broker):
                await _pause()


async def _is_connected(broker: Broker) -> bool:
    try:
        await broker.count("connected")
    except Unavailable:
        return False
    return True


# -- one worker ------------------------------------------------------------------------------------


async def publishes_here(make: Make) -> None:
    """Check that a plain message is delivered before `publish` returns."""
    async with workers(make, 1) as (worker,):
        await worker.broker.attach("room")
        socket = object()
        one = await worker.publish("room", "text", "id", excluded=socket)
        assert worker.recorder.delivered["room"] == [one]
        assert worker.recorder.excluded[-1] is socket
        assert one.place == 0
        await worker.publish("room", b"\xff\0")
        assert worker.recorder.data("room") == ["text", b"\xff\0"]
        missed = await worker.broker.missed("room", None, 9)
        assert (list(missed.publications), missed.is_complete) == ([], True)
        assert not (await worker.broker.missed("room", "id", 0)).is_complete


async def counts_here(make: Make) -> None:
    """Check that members and subscribers are counted, and each change is announced once."""
    async with workers(make, 1) as (worker,):
        broker, recorder = worker.broker, worker.recorder
        await broker.attach("room")
        assert await broker.members("room") == {}
        for _ in range(2):
            broker.join("room", "ada")
        worker.set_count("room", 2)
        await worker.members_are(ada=2)
        await worker.count_is(2)
        joined = Change("room", "ada", has_joined=True)
        await until(lambda: recorder.changes == [joined])
        for _ in range(2):
            broker.leave("room", "ada")
        await worker.members_are()
        await until(lambda: len(recorder.changes) > 1)
        assert recorder.changes == [joined, Change("room", "ada", has_joined=False)]


async def tells_its_state(make: Make) -> None:
    """Check that a broker that is connected is not away, and that one not started has a state."""
    assert isinstance(make().state(), BrokerState)
    async with workers(make, 1) as (worker,):
        await until(lambda: worker.broker.state().away_since is None)


async def keeps_a_history(make: Make) -> None:
    """Check that a message has a place, is kept once for each id, and can be recovered."""
    async with workers(make, 1, history=True) as (worker,):
        broker = worker.broker
        await broker.attach("h-1")
        one = await worker.publish("h-1", "1", "a")
        two = await worker.publish("h-1", "2")
        await worker.publish("h-1", "again", "a")
        live = await worker.publish("h-1", "live", is_kept=False)
        assert worker.recorder.data("h-1") == ["1", "2", "live"]
        assert 0 < one.place < two.place < live.place
        assert two.id
        missed = await broker.missed("h-1", "a", 0)
        assert [one.data for one in missed.publications] == ["2"]
        assert missed.is_complete
        assert missed.place == live.place
        unknown = await broker.missed("h-1", "unknown", 1)
        assert [one.data for one in unknown.publications] == ["2"]
        assert not unknown.is_complete


async def refuses_what_is_too_large(make: Make) -> None:
    """Check that a message that no history can hold raises LimitReached, and is not delivered."""
    async with workers(make, 1, history=True) as (worker,):
        await worker.broker.attach("h-1")
        try:
            await worker.publish("h-1", bytes(2**21))
        except LimitReached:
            pass
        else:
            raise AssertionError("make the broker with less than 2 MiB for histories")
        await worker.publish("h-1", "small")
        assert worker.recorder.data("h-1") == ["small"]


# -- two workers -----------------------------------------------------------------------------------


async def publishes_there(make: Make) -> None:
    """Check that what is published after `attach` has returned arrives, in order."""
    async with workers(make, 2) as (one, other):
        for name in NAMES:
            await other.broker.attach(name)
        await one.publish(MISPLACED, "")
        for number in range(50):
            for name in NAMES:
                await one.publish(name, f"{number}", excluded=other)
        await one.publish("room", bytes(range(256)))
        for name in NAMES[1:]:
            await other.has(name, *map(str, range(50)))
        await other.has("room", *map(str, range(50)), bytes(range(256)))
        assert set(other.recorder.excluded) <= {None}
        assert not other.recorder.data(MISPLACED)
        assert not one.recorder.dropped


async def detaches(make: Make) -> None:
    """Check that nothing arrives after `detach`, but after another `attach`."""
    async with workers(make, 2) as (one, other):
        for name in ("room", "end"):
            await other.broker.attach(name)
        other.broker.detach("room")
        await one.publish("room", "1")
        await one.publish("end", "")
        await other.has("end", "")
        assert not other.recorder.data("room")
        await other.broker.attach("room")
        await one.publish("room", "2")
        await other.has("room", "2")


async def counts_there(make: Make) -> None:
    """Check that members and subscribers are those of all; one worker announces a change."""
    async with workers(make, 2) as found:
        for number, worker in enumerate(found, 1):
            await worker.broker.attach("room")
            worker.broker.join("room", "ada")
            worker.set_count("room", number)
        for worker in found:
            await worker.members_are(ada=2)
            await worker.count_is(3)
        joined = Change("room", "ada", has_joined=True)
        await until(lambda: _changes(found) == [joined])
        for worker in found:
            worker.broker.leave("room", "ada")
        for worker in found:
            await worker.members_are()
        await until(lambda: len(_changes(found)) > 1)
        assert _changes(found) == [joined, Change("room", "ada", has_joined=False)]


async def forgets_who_stops(make: Make) -> None:
    """Check that a worker that stops leaves no subscribers and no members."""
    async with workers(make, 2) as (one, other):
        await other.broker.attach("room")
        other.broker.join("room", "ada")
        other.set_count("room", 1)
        await one.members_are(ada=1)
        await one.count_is(1)
        await other.broker.stop()
        await one.members_are()
        await one.count_is(0)


async def has_one_order(make: Make) -> None:
    """Check that all workers get the messages of a history in the same order, each once."""
    async with workers(make, 2, history=True) as found:
        for worker in found:
            await worker.broker.attach("h-1")
        publishing = [
            worker.publish("h-1", f"{name} {number}", f"{name} {number}")
            for number in range(_MANY // 2)
            for name, worker in zip("ab", found, strict=True)
        ]
        await asyncio.gather(*publishing)
        one, other = (worker.recorder for worker in found)
        await until(lambda: len(one.data("h-1")) >= _MANY <= len(other.data("h-1")))
        assert len(set(one.data("h-1"))) == _MANY
        assert one.data("h-1") == other.data("h-1")
        places = [publication.place for publication in one.delivered["h-1"]]
        assert places == sorted(set(places))
        missed = await found[1].broker.missed("h-1", "a 0", 0)
        at = one.data("h-1").index("a 0")
        assert [kept.data for kept in missed.publications] == one.data("h-1")[at + 1 :]


def _changes(found: list[Worker]) -> list[Change]:
    return [change for worker in found for change in worker.recorder.changes]


_CHECKS: dict[tuple[int, bool], list[Check]] = {
    (1, False): [publishes_here, counts_here, tells_its_state],
    (1, True): [keeps_a_history, refuses_what_is_too_large],
    (2, False): [publishes_there, detaches, counts_there, forgets_who_stops],
    (2, True): [has_one_order],
}


def checks(*, history: bool = True, workers: int = 2) -> list[Check]:
    """Return the checks of a broker.

    Args:
        history: Whether topics can have histories. Make the broker with less than 2 MiB for them.
        workers: 1 for a broker of a single worker.
    """
    return [
        check
        for (needed, needs_history), found in _CHECKS.items()
        for check in found
        if needed <= workers and (history or not needs_history)
    ]
