"""Announcements: the app's function is called once for each change, and cannot harm anybody."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.harness.loops import EAGER
from tests.harness.topics import Hall, Member, hall, own_rules
from tests.harness.waiting import soon, turns, until
from wsgate import topics
from wsgate.observe.throttled_log import throttled
from wsgate.server import announcer
from wsgate.server.announcer import Announcer
from wsgate.topics.presence import GRACE, Change
from wsgate.topics.rules import Announce

__all__ = ["own_rules"]
pytestmark = pytest.mark.usefixtures("own_rules")

ROOM = "room"
JOINED, LEFT = (ROOM, "ada", True), (ROOM, "ada", False)


class Noting:
    """An announce that notes its calls and returns what `answer` does."""

    def __init__(self, answer: Callable[..., Any] = lambda *_: None) -> None:
        self.calls: list[tuple[str, str, bool]] = []
        self.answer = answer

    def __call__(self, topic: str, member: str, joined: bool) -> Any:
        self.calls.append((topic, member, joined))
        return self.answer(topic, member, joined)


@pytest_asyncio.fixture
async def here() -> AsyncIterator[Hall]:
    async with hall() as found:
        yield found


def announce_with(answer: Callable[..., Any] = lambda *_: None, **options: Any) -> Noting:
    """Configure the room with an announce that returns what this function does."""
    noting = Noting(answer)
    topics.configure(ROOM, announce=noting, **options)
    return noting


async def joined(here: Hall, member: str = "ada") -> Member:
    one = await here.open()
    await one.topics.subscribe(ROOM, member=member)
    await turns()
    return one


# -- when it is called -----------------------------------------------------------------------------


async def test_it_is_called_for_the_first_connection_and_after_the_last(here: Hall) -> None:
    noting = announce_with()
    first, second = await joined(here), await joined(here)
    assert noting.calls == [JOINED]
    await first.leave()
    await here.advance(GRACE + 1)
    assert noting.calls == [JOINED]
    await second.leave()
    await here.advance(GRACE - 0.3)
    assert noting.calls == [JOINED]
    await here.advance(0.6)
    await turns()
    assert noting.calls == [JOINED, LEFT]
    await here.advance(60)
    assert noting.calls == [JOINED, LEFT]
    await joined(here)
    assert noting.calls == [JOINED, LEFT, JOINED]


async def test_a_member_who_returns_within_three_seconds_has_not_left(here: Hall) -> None:
    noting = announce_with()
    for _ in range(3):
        ada = await joined(here)
        await ada.leave()
        await here.advance(GRACE - 0.3)
    await joined(here)
    await here.advance(60)
    assert noting.calls == [JOINED]
    assert await ada.topics.members(ROOM) == {"ada": 1}


async def test_an_unsubscribe_is_an_end_too(here: Hall) -> None:
    noting = announce_with()
    ada = await joined(here)
    await ada.topics.unsubscribe(ROOM)
    assert await ada.topics.members(ROOM) == {}
    await here.advance(GRACE + 1)
    await turns()
    assert noting.calls == [JOINED, LEFT]


async def test_a_new_member_of_a_socket_joins_and_the_former_leaves(here: Hall) -> None:
    noting = announce_with()
    ada = await joined(here)
    await ada.topics.subscribe(ROOM, member="eve")
    await here.advance(GRACE + 1)
    await turns()
    assert noting.calls == [JOINED, (ROOM, "eve", True), LEFT]


async def test_without_a_member_nobody_is_announced(here: Hall) -> None:
    noting = announce_with()
    ada = await here.subscribed(ROOM)
    await ada.leave()
    await here.advance(GRACE + 1)
    assert noting.calls == []


async def test_a_topic_may_be_given_an_announce_later(here: Hall) -> None:
    ada = await joined(here)
    noting = announce_with()
    await joined(here, "bob")
    await ada.leave()
    await here.advance(GRACE + 1)
    await turns()
    assert noting.calls == [(ROOM, "bob", True), LEFT]


# -- what it returns -------------------------------------------------------------------------------


async def test_text_or_bytes_are_sent_live_only(here: Hall) -> None:
    announce_with(lambda _, member, joined: f"{member} {joined}", history=5)
    bob = await here.subscribed(ROOM)
    await joined(here)
    assert await bob.read_all() == ["ada True"]
    other = await here.open()
    assert (await other.topics.subscribe(ROOM, last=5)).count == 0


async def test_data_with_an_id_is_kept(here: Hall) -> None:
    announce_with(lambda _, member, joined: (f"{member} {joined}", "id 1"), history=5)
    bob = await here.subscribed(ROOM)
    await joined(here)
    assert await bob.read_all() == ["ada True"]
    other = await here.open()
    assert (await other.topics.subscribe(ROOM, last=5)).count == 1
    assert (await here.broker.missed(ROOM, "id 1", 0)).is_complete


async def test_it_may_be_asynchronous(here: Hall) -> None:
    async def answer(*_: Any) -> str:
        await asyncio.sleep(0)
        return "hello"

    announce_with(answer)
    ada = await joined(here)
    assert await ada.read_all() == ["hello"]


@pytest.mark.parametrize(
    "wrong", [5, "\ud800", ("x",), ("x", 5), ("x", ""), (5, "id"), ["x", "id"]]
)
async def test_a_wrong_answer_is_logged(here: Hall, wrong: Any) -> None:
    noting = announce_with(lambda *_: wrong)
    ada = await joined(here)
    await joined(here, "bob")
    assert len(noting.calls) == 2
    assert here.log.errors == [f"Exception in the announce of topic {ROOM!r}"]
    throttled.report_all()
    assert here.log.errors[1].partition(" (repeated ")[2].startswith("once in ")
    assert await ada.read_all() == []


# -- what it does ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ValueError, asyncio.CancelledError, TimeoutError, SystemExit, KeyboardInterrupt]
)
async def test_whatever_it_raises_ends_only_its_call(
    here: Hall, error: type[BaseException]
) -> None:
    def answer(_: str, member: str, _joined: bool) -> str:
        if member == "bad":
            raise error
        return member

    noting = announce_with(answer)
    bob = await here.subscribed(ROOM)
    bad, good = await here.open(), await here.open()
    await bad.topics.subscribe(ROOM, member="bad")
    await good.topics.subscribe(ROOM, member="good")
    await turns()
    assert [member for _, member, _ in noting.calls] == ["bad", "good"]
    assert await bob.read_all() == ["good"]
    assert len(here.log.errors) == 1


async def test_changes_are_announced_one_after_the_other(here: Hall) -> None:
    gate, running = asyncio.Event(), list[str]()

    async def answer(_: str, member: str, _joined: bool) -> str:
        running.append(member)
        await gate.wait()
        return member

    announce_with(answer)
    ada = await joined(here, "1")
    await joined(here, "2")
    assert running == ["1"]
    gate.set()
    await turns()
    assert running == ["1", "2"]
    assert await ada.read_all() == ["1", "2"]


async def test_it_may_use_topics_itself(here: Hall) -> None:
    bob = await here.subscribed("other")

    async def answer(topic: str, member: str, _joined: bool) -> str | None:
        await bob.topics.publish("other", f"{member} is in {topic}")
        await bob.topics.subscribe(topic, member="bob")
        return None if member == "bob" else f"hello {member}"

    noting = announce_with(answer)
    await joined(here)
    await turns()
    assert [member for _, member, _ in noting.calls] == ["ada", "bob"]
    assert await bob.read_all() == ["ada is in room", "hello ada", "bob is in room"]


async def test_a_call_that_takes_too_long_is_cancelled(
    here: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcer, "TIMEOUT", 0.0)
    never = asyncio.Event()

    async def answer(_: str, member: str, _joined: bool) -> str:
        if member == "slow":
            await never.wait()
        return member

    announce_with(answer)
    bob = await here.subscribed(ROOM)
    await joined(here, "slow")
    await until(lambda: here.log.errors)
    monkeypatch.undo()
    await joined(here, "good")
    assert await bob.read_all() == ["good"]


# -- the announcer alone ---------------------------------------------------------------------------


def made(published: list[Any] | None = None) -> Announcer:
    async def publish(*message: Any) -> None:
        if published is not None:
            published.append(message)

    return Announcer(publish, contextvars.copy_context)


def change(announce: Announcer, function: Announce, member: str = "ada") -> None:
    announce.announce(function, Change(ROOM, member, has_joined=True))


async def test_a_stop_cancels_the_running_call_and_drops_the_others() -> None:
    noting = Noting(lambda *_: asyncio.Event().wait())
    own = made()
    for member in "12":
        change(own, noting, member)
    await turns()
    await soon(own.stop())
    assert [member for _, member, _ in noting.calls] == ["1"]
    await soon(own.stop())


async def test_a_stop_does_not_wait_for_a_call_that_ignores_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(announcer, "STOP_TIMEOUT", 0.0)
    end = asyncio.Event()

    async def stubborn(*_: Any) -> None:
        try:
            await end.wait()
        except asyncio.CancelledError:
            await end.wait()

    own = made()
    change(own, stubborn)
    await turns()
    await soon(own.stop())
    end.set()
    await turns()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_number_of_waiting_changes_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(announcer, "MAX_WAITING", 2)
    end = asyncio.Event()

    async def wait(*_: Any) -> None:
        await end.wait()

    noting, own = Noting(wait), made()
    change(own, noting, "0")
    await until(lambda: noting.calls)  # it does not wait any more
    for member in "1234":
        change(own, noting, member)
    end.set()
    await turns()
    assert [member for _, member, _ in noting.calls] == ["0", "1", "2"]
    assert "Too many members wait to be announced" in caplog.text


async def test_the_app_s_context_variables_hold() -> None:
    variable = contextvars.ContextVar("variable", default="of the caller")
    context = contextvars.copy_context()
    context.run(variable.set, "of the app")
    found = list[str]()

    async def publish(*_: Any) -> None:
        found.append(variable.get())

    own = Announcer(publish, context.copy)
    change(own, lambda *_: "x")
    await turns()
    assert found == ["of the app"]


def eager(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
    """Run the first step of a task at once, as Python 3.12's `asyncio.eager_task_factory` does."""
    try:
        work.send(None)
    except StopIteration:
        done = loop.create_future()
        done.set_result(None)
        return done
    raise NotImplementedError("the test has no work that waits")


async def test_tasks_may_run_at_once() -> None:
    asyncio.get_running_loop().set_task_factory(EAGER or eager)
    own = made()

    def nested(topic: str, member: str, joined: bool) -> None:
        noted.append(f"begin {member}")
        if member == "1":
            change(own, nested, "2")
        noted.append(f"end {member}")

    noted = list[str]()
    change(own, nested, "1")
    change(own, nested, "3")
    assert noted == [f"{what} {member}" for member in "123" for what in ("begin", "end")]
    await own.stop()
