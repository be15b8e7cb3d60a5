"""Topics with history over Redis: one order, recovery, and every gap closed or reported."""

import asyncio
import functools
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.harness.brokers import PATIENCE, Node, node
from tests.harness.forwarder import forwarder
from tests.harness.redis import RedisServer, redis_server
from tests.harness.waiting import soon, start_task, until
from wsgate.brokers.redis.keys import history_keys
from wsgate.brokers.redis.link import Timing
from wsgate.topics.errors import LimitReached, Unavailable
from wsgate.topics.rules import Rules, Slow


def has_count(worker: Node, count: int) -> bool:
    return len(worker.recorder.data("h")) >= count


async def test_all_workers_have_one_order(one: Node, other: Node) -> None:
    for worker in (one, other):
        await worker.broker.attach("h")
    publishing = [
        worker.publish("h", f"{name} {number}")
        for number in range(200)
        for name, worker in (("one", one), ("other", other))
    ]
    await asyncio.gather(*publishing)
    for worker in (one, other):
        await until(functools.partial(has_count, worker, 400), PATIENCE)
    assert one.recorder.data("h") == other.recorder.data("h")
    assert len(set(one.recorder.data("h"))) == 400
    places = [publication.place for publication in one.recorder.delivered["h"]]
    assert places == list(range(1, 401))


async def test_a_publish_returns_after_this_worker_has_delivered_it(one: Node) -> None:
    await one.broker.attach("h")
    for number in range(50):
        publication = await one.publish("h", f"{number}")
        assert one.recorder.delivered["h"][-1] is publication
        assert (publication.place, publication.id is not None) == (number + 1, True)


async def test_a_known_id_is_the_same_message(one: Node, other: Node) -> None:
    for worker in (one, other):
        await worker.broker.attach("h")
    first = await one.publish("h", "first", "id")
    again = await other.publish("h", "again", "id")
    assert again.place == first.place
    await one.publish("h", "last")
    await other.recorder.has("h", "first", "last")
    await one.recorder.has("h", "first", "last")


async def test_the_excluded_socket_is_excluded_also_if_the_message_comes_back_first(
    one: Node,
) -> None:
    await one.broker.attach("h")
    sockets = [object() for _ in range(100)]
    await asyncio.gather(*(one.publish("h", "x", excluded=socket) for socket in sockets))
    assert sorted(map(id, one.recorder.excluded)) == sorted(map(id, sockets))


async def test_what_is_missed_is_all_after_the_id(one: Node) -> None:
    for number in range(5):
        await one.publish("h", f"{number}", f"id{number}")
    missed = await one.broker.missed("h", "id2", 0)
    assert [one.data for one in missed.publications] == ["3", "4"]
    assert [one.id for one in missed.publications] == ["id3", "id4"]
    assert (missed.is_complete, missed.place) == (True, 5)
    missed = await one.broker.missed("h", "unknown", 2)
    assert [one.data for one in missed.publications] == ["3", "4"]
    assert not missed.is_complete
    assert (await one.broker.missed("h", None, 1)).is_complete


@pytest_asyncio.fixture
async def short(redis: RedisServer) -> AsyncIterator[Node]:
    rules = Rules(history=3, history_seconds=60.0, slow=Slow.CLOSE)
    async with node(redis.url, kept=rules, max_bytes=100) as worker:
        yield worker


async def test_exactly_as_many_as_the_history_holds_are_complete(short: Node) -> None:
    for number in range(5):
        await short.publish("h", f"{number}", f"id{number}")
    missed = await short.broker.missed("h", "id1", 0)
    assert [one.data for one in missed.publications] == ["2", "3", "4"]
    assert missed.is_complete
    assert not (await short.broker.missed("h", "id0", 0)).is_complete
    # The id is not held any more: the same one is a new message.
    assert (await short.publish("h", "new", "id1")).place == 6


async def test_at_most_seven_messages_more_wait_to_be_removed(
    short: Node, redis: RedisServer
) -> None:
    meta, log, ids = history_keys("h")
    longest = 0
    async with redis.connected() as connection:
        for number in range(30):
            await short.publish("h", f"{number:02}", is_kept=bool(number % 4))
            length = await connection.call("XLEN", log)
            assert await connection.call("HLEN", ids) == length
            assert await connection.call("HGET", meta, "bytes") in {None, b"%d" % (2 * length)}
            longest = max(longest, length)
        assert 3 < longest <= 3 + 7
        missed = await short.broker.missed("h", None, 100)
        assert [one.data for one in missed.publications] == ["26", "27", "29"]
        assert await connection.call("XLEN", log) == 3


async def test_the_bytes_of_a_topic_are_bounded(short: Node) -> None:
    for number in range(3):
        await short.publish("h", f"{number}" * 40, f"id{number}")
    missed = await short.broker.missed("h", None, 10)
    assert [one.id for one in missed.publications] == ["id1", "id2"]
    with pytest.raises(LimitReached, match="above --topics-history-max-bytes"):
        await short.publish("h", "x" * 101)


async def test_live_only_messages_have_a_place_and_are_not_kept(one: Node, other: Node) -> None:
    await other.broker.attach("h")
    await one.publish("h", "1", "id1")
    live = await one.publish("h", "live", is_kept=False)
    assert (live.place, live.id) == (2, None)
    await one.publish("h", "2", "id2")
    await other.recorder.has("h", "1", "live", "2")
    missed = await one.broker.missed("h", "id1", 0)
    assert [one.data for one in missed.publications] == ["2"]
    assert missed.is_complete


async def test_old_messages_go_and_the_newest_id_outlives_them(redis: RedisServer) -> None:
    rules = Rules(history=100, history_seconds=0.2, slow=Slow.CLOSE)
    async with node(redis.url, kept=rules) as one:
        await one.publish("h", "1", "id1")
        await one.publish("h", "2", "id2")
        meta, log, ids = history_keys("h")
        async with redis.connected() as connection, asyncio.timeout(PATIENCE):
            while await connection.call("EXISTS", log, ids):
                await connection.call("PING")
        missed = await one.broker.missed("h", "id2", 10)
        assert (missed.publications, missed.is_complete) == ([], True)
        assert not (await one.broker.missed("h", "id1", 10)).is_complete
        async with redis.connected() as connection, asyncio.timeout(PATIENCE):
            while (await one.broker.missed("h", "id2", 10)).is_complete:
                await connection.call("PING")
            assert await connection.call("EXISTS", meta)


async def test_without_redis_history_is_unavailable(redis: RedisServer) -> None:
    async with node(redis.url, publish_timeout=0.1) as one:
        await redis.kill()
        await one.is_down()
        with pytest.raises(Unavailable, match=r"no answer from Redis 127.0.0.1:\d+ in 0.1 s"):
            await one.publish("h", "x")
        with pytest.raises(Unavailable):
            await one.broker.attach("h")
        with pytest.raises(Unavailable):
            await one.broker.missed("h", "id", 0)


async def test_a_publish_waits_for_redis_until_its_deadline(durable: RedisServer) -> None:
    async with node(durable.url) as one:
        await one.broker.attach("h")
        await durable.kill()
        await one.is_down()
        publishing = start_task(one.publish("h", "x", "id"))
        await durable.start()
        publication = await soon(publishing, PATIENCE)
        assert publication.place == 1
        await one.recorder.has("h", "x")


@pytest.mark.parametrize("kind", ["normal", "pubsub"])
async def test_cut_connections_lose_and_repeat_nothing(redis: RedisServer, kind: str) -> None:
    # The history has all of them: on a loaded machine one node may be away for many.
    kept = Rules(history=300, history_seconds=60.0, slow=Slow.CLOSE)
    async with node(redis.url, kept=kept) as one, node(redis.url, kept=kept) as other:
        await other.broker.attach("h")
        await one.broker.attach("h")
        expected = []
        for number in range(300):
            if number % 50 == 25:
                await redis.cut(kind)
            await one.publish("h", f"{number}", f"id{number}")
            expected.append(f"{number}")
        await other.recorder.has("h", *expected)
        await one.recorder.has("h", *expected)
        assert one.recorder.losses == other.recorder.losses == []


async def test_a_paused_redis_loses_and_repeats_nothing(redis: RedisServer) -> None:
    timing = Timing(ping_interval=0.05, ping_timeout=0.5, backoff_min=0.01, backoff_max=0.05)
    async with node(redis.url, timing=timing) as one, node(redis.url, timing=timing) as other:
        await other.broker.attach("h")
        await one.publish("h", "1")
        redis.signal(signal.SIGSTOP)
        try:
            publishing = start_task(one.publish("h", "2"))
            await one.is_down()
            await other.is_down()
        finally:
            redis.signal(signal.SIGCONT)
        await soon(publishing, PATIENCE)
        await one.publish("h", "3")
        await other.recorder.has("h", "1", "2", "3")
        assert other.recorder.losses == []


async def test_a_restart_with_a_file_loses_nothing(durable: RedisServer) -> None:
    async with node(durable.url) as one, node(durable.url) as other:
        await other.broker.attach("h")
        expected = []
        for number in range(60):
            if number % 20 == 10:
                await durable.kill()
                await durable.start()
            await one.publish("h", f"{number}", f"id{number}")
            expected.append(f"{number}")
        await other.recorder.has("h", *expected)
        assert other.recorder.losses == []
        missed = await one.broker.missed("h", "id4", 0)
        assert [one.data for one in missed.publications] == expected[5:]
        assert missed.is_complete


async def test_a_restart_with_a_file_that_may_lag_is_reported(tmp_path: Path) -> None:
    async with (
        redis_server(tmp_path, "--appendonly", "yes", "--appendfsync", "everysec") as redis,
        node(redis.url) as one,
    ):
        await one.broker.attach("h")
        await one.publish("h", "1", "id1")
        await redis.kill()
        await redis.start()
        await until(lambda: one.recorder.losses == ["h"], PATIENCE)


async def test_a_restart_without_a_file_is_reported(
    redis: RedisServer, one: Node, other: Node
) -> None:
    await other.broker.attach("h")
    await one.publish("h", "1", "id1")
    await other.recorder.has("h", "1")
    await redis.kill()
    await redis.start()
    await until(lambda: other.recorder.losses == ["h"], PATIENCE)
    again = await one.publish("h", "2", "id2")
    assert again.place == 1
    await other.recorder.has("h", "1", "2")
    assert not (await one.broker.missed("h", "id1", 0)).is_complete


async def test_flushed_data_are_reported_with_the_next_message(
    redis: RedisServer, one: Node, other: Node
) -> None:
    await other.broker.attach("h")
    for number in range(3):
        await one.publish("h", f"{number}")
    await redis.call("FLUSHALL")
    await one.publish("h", "new")
    await until(lambda: other.recorder.losses == ["h"], PATIENCE)
    await one.publish("h", "next")
    await until(lambda: other.recorder.data("h")[-1] == "next", PATIENCE)


async def test_what_the_history_dropped_during_a_cut_is_reported(redis: RedisServer) -> None:
    rules = Rules(history=3, history_seconds=60.0, slow=Slow.CLOSE)
    async with node(redis.url, kept=rules) as one, node(redis.url, kept=rules) as other:
        await other.broker.attach("h")
        await one.publish("h", "first")
        await other.recorder.has("h", "first")
        subscriptions = other.broker._servers.find(0).subscriptions
        await subscriptions.stop()
        for number in range(5):
            await one.publish("h", f"{number}")
        subscriptions.start()
        await until(lambda: other.recorder.losses == ["h"], PATIENCE)
        await one.publish("h", "last")
        await other.recorder.has("h", "first", "last")


async def test_what_the_history_still_has_closes_the_gap(redis: RedisServer) -> None:
    rules = Rules(history=3, history_seconds=60.0, slow=Slow.CLOSE)
    async with node(redis.url, kept=rules) as one, node(redis.url, kept=rules) as other:
        await other.broker.attach("h")
        await one.publish("h", "first")
        await other.recorder.has("h", "first")
        subscriptions = other.broker._servers.find(0).subscriptions
        await subscriptions.stop()
        for number in range(3):
            await one.publish("h", f"{number}")
        subscriptions.start()
        await other.recorder.has("h", "first", "0", "1", "2")
        assert other.recorder.losses == []


async def test_another_server_begins_a_new_epoch(
    redis: RedisServer, one: Node, other: Node
) -> None:
    await other.broker.attach("h")
    await one.publish("h", "1", "id1")
    await other.recorder.has("h", "1")
    # As after a fail-over: the same data, under another process.
    await redis.call("HSET", history_keys("h")[0], "run", "another process")
    await one.publish("h", "2", "id2")
    await until(lambda: other.recorder.losses == ["h"], PATIENCE)
    await one.publish("h", "3", "id3")
    await until(lambda: other.recorder.data("h")[-1] == "3", PATIENCE)


async def test_a_replica_that_lags_begins_a_new_epoch(redis: RedisServer, tmp_path: Path) -> None:
    """It gives a place again; nobody can know here that a message is missing."""
    (tmp_path / "replica").mkdir()
    async with (
        forwarder(redis.port) as (network, address),
        node(f"redis://{address}") as one,
        node(f"redis://{address}") as other,
        redis_server(tmp_path / "replica", "--appendonly", "yes") as replica,
    ):
        await other.broker.attach("h")
        await one.publish("h", "1", "id1")
        await replica.call("REPLICAOF", "127.0.0.1", redis.port)
        await replica.is_replica()
        replica.signal(signal.SIGSTOP)
        lost = await one.publish("h", "2", "id2")
        await other.recorder.has("h", "1", "2")
        await redis.kill()  # with what it had not sent yet
        replica.signal(signal.SIGCONT)
        await replica.call("REPLICAOF", "NO", "ONE")
        has_lost = not await replica.call("HEXISTS", history_keys("h")[2], "id2")
        network.move(replica.port)
        await until(lambda: other.recorder.losses == ["h"], PATIENCE)
        new = await one.publish("h", "new", "new")
        assert new.place == lost.place + (not has_lost)
        await until(lambda: other.recorder.data("h")[-1] == "new", PATIENCE)
        assert (await one.broker.missed("h", "id1", 0)).publications[-1].data == "new"
        assert (await one.broker.missed("h", "id2", 0)).is_complete is not has_lost


async def test_loading_scripts_again_is_no_error(redis: RedisServer, one: Node) -> None:
    await one.publish("h", "1")
    await redis.call("SCRIPT", "FLUSH")
    assert (await one.publish("h", "2")).place == 2
