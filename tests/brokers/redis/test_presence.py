"""Members and counts over several workers, and what happens when one dies."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.brokers import PATIENCE, Node, node
from tests.harness.redis import RedisServer
from tests.harness.waiting import pause, until
from wsgate.brokers.redis import presence_scripts as scripts
from wsgate.brokers.redis.connection import ConnectionLost
from wsgate.brokers.redis.keys import partition_of, partition_prefix
from wsgate.brokers.redis.presence import PresenceTiming
from wsgate.topics.errors import Unavailable
from wsgate.topics.presence import Change

JOINED = Change("room", "ada", has_joined=True)
LEFT = Change("room", "ada", has_joined=False)
# Short to wait for, and longer than a loaded machine stops the tests: all nodes are in one process.
SHORT_LEASE = PresenceTiming(lease=2.0, interval=0.05, grace=0.2)


async def members_are(worker: Node, expected: dict[str, int]) -> None:
    """Wait until the members are these."""
    found: dict[str, int] = {}
    try:
        async with asyncio.timeout(PATIENCE):
            while (found := await worker.broker.members("room")) != expected:
                await pause(0.01)
    except TimeoutError:
        assert found == expected


async def count_is(worker: Node, expected: int) -> None:
    """Wait until the number of subscribers is this."""
    async with asyncio.timeout(PATIENCE):
        while await worker.broker.count("room") != expected:
            await pause(0.01)


def changes(*workers: Node) -> list[Change]:
    return [change for worker in workers for change in worker.recorder.changes]


async def change_is(condition: Callable[[], object]) -> None:
    await until(condition, PATIENCE)


async def die(worker: Node) -> None:
    """End a worker as kill -9 does: nothing is sent any more."""
    for task in worker.broker._tasks:
        task.cancel()
    await worker.broker._servers.stop()
    worker.broker._tasks = []


async def test_members_are_those_of_all_workers(one: Node, other: Node) -> None:
    one.broker.join("room", "ada")
    assert await one.broker.members("room") == {"ada": 1}
    one.broker.join("room", "ada")
    other.broker.join("room", "ada")
    other.broker.join("room", "bob\n\0é")
    await members_are(one, {"ada": 3, "bob\n\0é": 1})
    await members_are(other, {"ada": 3, "bob\n\0é": 1})
    assert await one.broker.members("empty") == {}


async def test_counts_are_those_of_all_workers(one: Node, other: Node) -> None:
    for worker, count in ((one, 2), (other, 3)):
        worker.recorder.counts["room"] = count
        worker.broker.changed("room")
    await count_is(one, 5)
    await count_is(other, 5)
    other.recorder.counts["room"] = 0
    other.broker.changed("room")
    await count_is(one, 2)


async def test_one_worker_announces_each_change_once(one: Node, other: Node) -> None:
    for worker in (one, other):
        worker.broker.join("room", "ada")
    await members_are(one, {"ada": 2})
    await change_is(lambda: changes(one, other) == [JOINED])
    one.broker.leave("room", "ada")
    await members_are(other, {"ada": 1})
    other.broker.leave("room", "ada")
    await members_are(one, {})
    await change_is(lambda: changes(one, other).count(LEFT) == 1)
    one.broker.join("room", "ada")
    await change_is(lambda: changes(one, other).count(JOINED) == 2)
    assert changes(one, other).count(LEFT) == 1


async def test_a_member_who_returns_on_another_worker_has_not_left(redis: RedisServer) -> None:
    slow = PresenceTiming(lease=60.0, interval=0.05, grace=PATIENCE)
    async with node(redis.url, presence=slow) as one, node(redis.url, presence=slow) as other:
        one.broker.join("room", "ada")
        await members_are(other, {"ada": 1})
        one.broker.leave("room", "ada")
        await members_are(other, {})
        other.broker.join("room", "ada")
        await members_are(one, {"ada": 1})
        assert changes(one, other) == [JOINED]
        assert await redis.call("ZCARD", "wsgate:{27}:leaving") == 0


async def test_the_members_of_a_dead_worker_leave(redis: RedisServer) -> None:
    async with (
        node(redis.url, presence=SHORT_LEASE) as dead,
        node(redis.url, presence=SHORT_LEASE) as other,
        node(redis.url, presence=SHORT_LEASE) as third,
    ):
        dead.broker.join("room", "ada")
        dead.recorder.counts["room"] = 1
        dead.broker.changed("room")
        await members_are(other, {"ada": 1})
        await count_is(other, 1)
        await die(dead)
        await members_are(other, {})
        await count_is(other, 0)
        await change_is(lambda: changes(other, third) == [LEFT])


async def test_one_sweep_removes_all_dead_workers(redis: RedisServer) -> None:
    once = PresenceTiming(lease=0.5, interval=PATIENCE)  # they sweep at their start only
    async with contextlib.AsyncExitStack() as nodes:
        dead = [await nodes.enter_async_context(node(redis.url, presence=once)) for _ in range(3)]
        other = await nodes.enter_async_context(node(redis.url, presence=once))
        for worker in dead:
            worker.broker.join("room", "ada")
        await members_are(other, {"ada": 3})
        for worker in dead:
            await die(worker)
        await members_are(other, {})
        room = partition_of("room")
        await other.broker._presence._call(scripts.SWEEP, room, "token", 1000)
        assert await redis.call("ZCARD", f"{partition_prefix(room)}leases") == 0


class Sweeps:
    """The sweeps of a worker: their replies may be lost or late.

    Attributes:
        reaches: Of arguments: whether the sweep reaches Redis.
        returns: Of arguments and reply: whether the reply comes back.
        is_late: Replies wait until `release`.
        lost: The replies that were lost, and the arguments that were.
    """

    def __init__(self, worker: Node) -> None:
        presence = worker.broker._presence
        self._call, presence._call = presence._call, self.call  # type: ignore[method-assign]
        self.reaches: Callable[[tuple[Any, ...]], bool] = lambda _: True
        self.returns: Callable[[tuple[Any, ...], Any], bool] = lambda _, __: True
        self.is_late = False
        self.lost: list[Any] = []
        self.late: list[tuple[asyncio.Future[Any], Any]] = []

    def call(self, script: Any, partition: int, *arguments: Any) -> "asyncio.Future[Any]":
        if script is not scripts.SWEEP:
            return self._call(script, partition, *arguments)
        passed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self.reaches(arguments):
            self.lost.append(arguments)
            passed.set_exception(ConnectionLost("lost"))
            return passed

        def pass_on(reply: "asyncio.Future[Any]") -> None:
            if reply.cancelled() or reply.exception() is not None:
                passed.set_exception(ConnectionLost("lost"))
            elif not self.returns(arguments, reply.result()):
                self.lost.append(reply.result())
                passed.set_exception(ConnectionLost("lost"))
            elif self.is_late and any(reply.result()):
                self.late.append((passed, reply.result()))
            else:
                passed.set_result(reply.result())

        self._call(script, partition, *arguments).add_done_callback(pass_on)
        return passed

    def release(self) -> None:
        """Let the late replies arrive."""
        self.is_late = False
        for passed, reply in self.late:
            passed.set_result(reply)


def confirms(arguments: tuple[Any, ...]) -> bool:
    return len(arguments) > 2


async def nobody_is_left(redis: RedisServer) -> None:
    """Wait until Redis knows nothing of the member."""
    prefix = partition_prefix(partition_of("room"))
    keys = [prefix + name for name in ("taken", "leaving", "t:room", "m:room", "by:room")]
    async with asyncio.timeout(PATIENCE):
        while await redis.call("EXISTS", *keys):
            await pause(0.01)


@pytest.mark.parametrize("what", ["who left", "confirmation"])
async def test_who_has_left_is_announced_once_although_a_reply_is_lost(
    redis: RedisServer, what: str
) -> None:
    async with (
        node(redis.url, presence=SHORT_LEASE) as one,
        node(redis.url, presence=SHORT_LEASE) as other,
    ):
        sweeps = [Sweeps(worker) for worker in (one, other)]

        def returns(arguments: tuple[Any, ...], reply: Any) -> bool:
            is_meant = bool(reply[0]) if what == "who left" else confirms(arguments)
            return not is_meant or any(one.lost for one in sweeps)

        for sweep in sweeps:
            sweep.returns = returns
        one.broker.join("room", "ada")
        await members_are(one, {"ada": 1})
        one.broker.leave("room", "ada")
        await change_is(lambda: LEFT in changes(one, other))
        await nobody_is_left(redis)
        assert sum(len(one.lost) for one in sweeps) == 1
        assert changes(one, other) == [JOINED, LEFT]


async def test_who_returns_before_the_confirmation_joins_anew(redis: RedisServer) -> None:
    async with node(redis.url, presence=SHORT_LEASE) as one:
        sweeps = Sweeps(one)
        sweeps.reaches = lambda arguments: not confirms(arguments)
        one.broker.join("room", "ada")
        await members_are(one, {"ada": 1})
        one.broker.leave("room", "ada")
        await change_is(lambda: sweeps.lost)
        one.broker.join("room", "ada")
        await members_are(one, {"ada": 1})
        assert changes(one) == [JOINED, LEFT]
        sweeps.reaches = lambda _: True
        await change_is(lambda: len(changes(one)) == 3)
        one.broker.leave("room", "ada")
        await nobody_is_left(redis)
        assert changes(one) == [JOINED, LEFT, JOINED, LEFT]


async def test_a_reply_that_comes_too_late_is_another_workers(redis: RedisServer) -> None:
    async with node(redis.url, presence=SHORT_LEASE) as late:
        sweeps = Sweeps(late)
        sweeps.is_late = True
        late.broker.join("room", "ada")
        await members_are(late, {"ada": 1})
        late.broker.leave("room", "ada")
        await change_is(lambda: sweeps.late)
        async with node(redis.url, presence=SHORT_LEASE) as other:
            await change_is(lambda: changes(other) == [LEFT])
            sweeps.release()
            await nobody_is_left(redis)
            assert changes(late, other) == [JOINED, LEFT]


async def test_a_worker_that_stops_leaves_nothing(redis: RedisServer, other: Node) -> None:
    async with node(redis.url) as one:
        one.broker.join("room", "ada")
        one.recorder.counts["room"] = 1
        one.broker.changed("room")
        await members_are(other, {"ada": 1})
    assert await other.broker.members("room") == {}
    assert await other.broker.count("room") == 0
    await change_is(lambda: changes(other) == [LEFT])


async def test_what_redis_has_lost_is_stored_again_without_announcements(
    redis: RedisServer, one: Node, other: Node
) -> None:
    one.broker.join("room", "ada")
    one.recorder.counts["room"] = 4
    one.broker.changed("room")
    await members_are(other, {"ada": 1})
    await redis.kill()
    await redis.start()
    await members_are(other, {"ada": 1})
    await count_is(other, 4)
    assert changes(one, other) == [JOINED]


async def test_a_worker_that_was_taken_for_dead_joins_anew(redis: RedisServer) -> None:
    async with (
        node(redis.url, presence=SHORT_LEASE) as one,
        node(redis.url, presence=SHORT_LEASE) as other,
    ):
        one.broker.join("room", "ada")
        await members_are(other, {"ada": 1})
        commands = one.broker._servers.find(0).commands
        await commands.stop()
        await change_is(lambda: changes(other) == [LEFT])
        commands.start()
        await members_are(other, {"ada": 1})
        await change_is(lambda: changes(one) == [JOINED, JOINED])
        assert changes(other) == [LEFT]


async def test_who_comes_while_redis_is_away_joins_later(redis: RedisServer, one: Node) -> None:
    await one.is_up()
    await redis.kill()
    await one.is_down()
    for number in range(100):  # come and gone: nothing is stored
        one.broker.join("room", f"{number}")
        one.broker.leave("room", f"{number}")
    assert not one.broker._presence._changed
    one.broker.join("room", "ada")
    await redis.start()
    await members_are(one, {"ada": 1})
    await change_is(lambda: changes(one) == [JOINED])


async def test_without_redis_members_and_counts_are_unavailable(redis: RedisServer) -> None:
    async with node(redis.url, publish_timeout=0.1) as one:
        await redis.kill()
        await one.is_down()
        with pytest.raises(Unavailable):
            await one.broker.members("room")
        with pytest.raises(Unavailable):
            await one.broker.count("room")


async def test_a_topic_that_is_left_costs_nothing(redis: RedisServer, one: Node) -> None:
    one.broker.join("room", "ada")
    one.recorder.counts["room"] = 1
    one.broker.changed("room")
    await members_are(one, {"ada": 1})
    one.broker.leave("room", "ada")
    one.recorder.counts["room"] = 0
    one.broker.changed("room")
    await change_is(lambda: changes(one) == [JOINED, LEFT])
    await nobody_is_left(redis)
    keys = {key.split(b"}:")[1] for key in await redis.call("KEYS", "*")}
    assert keys == {b"leases", b"rules"}
    await change_is(lambda: not one.broker._presence._unconfirmed)
    assert not one.broker._presence._stored


async def test_what_is_stored_again_is_as_new_as_before(redis: RedisServer, one: Node) -> None:
    await one.is_up()
    presence = one.broker._presence
    prefix, arguments = partition_prefix(partition_of("room")), ("room", "ada", 1, "token")
    for _ in range(2):
        reply = await presence._call(
            scripts.UPDATE, partition_of("room"), "x" * 16, 60_000, *arguments
        )
        assert reply[1] == [1]
    later = ("room", "ada", 2, "another")
    reply = await presence._call(scripts.UPDATE, partition_of("room"), "x" * 16, 60_000, *later)
    assert reply[1] == [0]
    assert await redis.call("HGET", f"{prefix}by:room", "ada") == b"token"
