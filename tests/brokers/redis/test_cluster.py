"""A Redis Cluster of three servers, and a master that Sentinels name."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.harness.brokers import PATIENCE, Node, node
from tests.harness.log import capture_log
from tests.harness.redis import RedisServer, knows_cluster, redis_cluster, redis_server, sentinels
from tests.harness.waiting import nothing_left, soon, start_task, until
from wsgate.brokers.redis.keys import channel_of, partition_of, slot_of
from wsgate.topics.errors import Unavailable


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[list[RedisServer]]:
    async with redis_cluster(tmp_path) as servers:
        yield servers


def url_of(*servers: RedisServer) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)


def server_of(topic: str, servers: list[RedisServer]) -> RedisServer:
    return servers[slot_of(partition_of(topic)) * 3 // 16384]


TOPICS = [f"{kind}{number}" for kind in ("room", "h") for number in range(12)]


async def test_topics_are_on_all_servers(cluster: list[RedisServer]) -> None:
    assert {id(server_of(topic, cluster)) for topic in TOPICS} == set(map(id, cluster))
    url = url_of(cluster[0])
    async with nothing_left(), node(url) as one, node(url) as other:
        for topic in TOPICS:
            await other.broker.attach(topic)
        for topic in TOPICS:
            numbers = await server_of(topic, cluster).call(
                "PUBSUB", "SHARDNUMSUB", channel_of(topic)
            )
            assert numbers[1] == 1
        for number in range(20):
            for topic in TOPICS:
                await one.publish(topic, f"{topic} {number}")
        for topic in TOPICS:
            await other.recorder.has(topic, *(f"{topic} {number}" for number in range(20)))
        missed = await other.broker.missed("h1", None, 2)
        assert [one.data for one in missed.publications] == ["h1 18", "h1 19"]


async def test_presence_is_on_all_servers(cluster: list[RedisServer]) -> None:
    url = url_of(*cluster)
    async with node(url) as one, node(url) as other:
        for topic in TOPICS:
            one.broker.join(topic, "ada")
        for topic in TOPICS:
            assert await one.broker.members(topic) == {"ada": 1}
            assert await other.broker.members(topic) == {"ada": 1}


async def test_one_server_is_away_and_the_others_go_on(cluster: list[RedisServer]) -> None:
    url = url_of(*cluster)
    async with node(url) as one, node(url) as other:
        for topic in TOPICS:
            await other.broker.attach(topic)
        away = server_of("h1", cluster)
        await one.is_up()
        await away.kill()
        waiting = start_task(one.publish("h1", "late"))
        live = [topic for topic in TOPICS if server_of(topic, cluster) is not away]
        for topic in live:
            await one.publish(topic, "on")
            await other.recorder.has(topic, "on")
        assert not waiting.done()
        await away.start()
        await soon(waiting, PATIENCE)
        await other.recorder.has("h1", "late")
        assert other.recorder.losses == []


async def test_slots_that_move_are_followed(cluster: list[RedisServer]) -> None:
    url = url_of(cluster[0])
    async with node(url) as one, node(url) as other:
        for topic in TOPICS:
            await other.broker.attach(topic)
        for topic in TOPICS:
            await one.publish(topic, "before", None if topic.startswith("room") else f"id {topic}")
        for topic in TOPICS:
            await other.recorder.has(topic, "before")
        old = server_of("h1", cluster)
        new = next(server for server in cluster if server is not old)
        await move(slot_of(partition_of("h1")), old, new, cluster)
        await one.publish("h1", "after", "id")
        await other.recorder.has("h1", "before", "after")
        await until(lambda: find(one, "h1") == new.port, PATIENCE)
        missed = await one.broker.missed("h1", "id h1", 0)
        assert [one.data for one in missed.publications] == ["after"]


async def test_a_slot_that_moves_disturbs_no_other(cluster: list[RedisServer]) -> None:
    url, old = url_of(cluster[0]), server_of("h1", cluster)
    new = next(server for server in cluster if server is not old)
    kept, plain = [topic for topic in TOPICS if is_with_h1(topic)][::-1]
    others = [one for one in TOPICS if server_of(one, cluster) is old and not is_with_h1(one)]
    topics = [kept, plain, *others]
    async with node(url) as one, node(url) as other:
        for topic in topics:
            await other.broker.attach(topic)
        await one.is_up()
        with capture_log() as log:
            moving = start_task(move(slot_of(partition_of("h1")), old, new, cluster))
            count = 0
            while not moving.done() or {find(one, "h1"), find(other, "h1")} != {new.port}:
                await asyncio.gather(*(one.publish(topic, f"{count}") for topic in topics))
                count += 1
            await moving
            await until(lambda: other.broker._topics[plain] not in other.broker._attaching)
            await asyncio.gather(*(one.publish(topic, f"{count}") for topic in topics))
            for topic in (kept, *others):
                await other.recorder.has(topic, *map(str, range(count + 1)))
            await until(lambda: other.recorder.data(plain)[-1] == f"{count}", PATIENCE)
        found = [int(text) for text in other.recorder.data(plain)]
        assert found == sorted(set(found))  # some may be lost while the slot moves
        for worker in (one, other):
            assert not worker.recorder.losses
            assert not worker.recorder.dropped
        assert not log.problems


def is_with_h1(topic: str) -> bool:
    return partition_of(topic) == partition_of("h1")


def find(worker: Node, topic: str) -> int:
    return int(worker.broker._servers.find(partition_of(topic)).commands.name.rpartition(":")[2])


async def move(slot: int, old: RedisServer, new: RedisServer, servers: list[RedisServer]) -> None:
    """Move a slot with its keys, as redis-cli --cluster reshard does."""
    ids = {server: (await server.call("CLUSTER", "MYID")).decode() for server in (old, new)}
    await new.call("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[old])
    await old.call("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[new])
    while keys := await old.call("CLUSTER", "GETKEYSINSLOT", slot, 100):
        arguments = ("127.0.0.1", new.port, "", 0, 5000, "REPLACE", "KEYS")
        await old.call("MIGRATE", *arguments, *keys)
    for server in (new, old, *servers):
        await server.call("CLUSTER", "SETSLOT", slot, "NODE", ids[new])


async def test_a_server_starts_while_the_cluster_is_away(cluster: list[RedisServer]) -> None:
    for server in cluster:
        await server.kill()
    url = url_of(*cluster)
    async with nothing_left(), node(url, publish_timeout=0.2) as one, node(url) as other:
        await one.broker.attach("room")
        await one.publish("room", "local")
        assert one.recorder.data("room") == ["local"]
        with pytest.raises(Unavailable):
            await one.publish("h", "x")
        late = start_task(other.publish("h", "late"))
        for server in cluster:
            await server.start()
        for server in cluster:
            await knows_cluster(server, 3)
        await soon(late, PATIENCE)
        one.broker._histories.timeout = PATIENCE
        await one.broker.attach("h")
        await other.publish("h", "live")
        await one.recorder.has("h", "live")


# -- Sentinels -------------------------------------------------------------------------------------


async def test_a_master_that_fails_is_replaced_and_the_loss_reported(tmp_path: Path) -> None:
    (tmp_path / "replica").mkdir()
    async with (
        redis_server(tmp_path) as master,
        redis_server(tmp_path / "replica", "--replicaof", f"127.0.0.1 {master.port}") as replica,
    ):
        await replica.is_replica()
        async with (
            sentinels(tmp_path, master) as url,
            node(url) as one,
            node(url) as other,
        ):
            await other.broker.attach("h")
            await one.publish("h", "1", "id1")
            await other.recorder.has("h", "1")
            await sentinels_know(url, replica)
            await master.kill()
            publishing = start_task(one.publish("h", "2", "id2"))
            await soon(publishing, 2 * PATIENCE)
            await until(lambda: other.recorder.losses == ["h"], PATIENCE)
            await one.publish("h", "3", "id3")
            await until(lambda: other.recorder.data("h")[-1] == "3", PATIENCE)
            assert await replica.call("ROLE")


async def sentinels_know(url: str, replica: RedisServer) -> None:
    """Wait until the Sentinel has found the replica, which it may make the master."""
    port = int(url.split("/")[2].rpartition(":")[2])
    watcher = RedisServer(Path(), port, ())
    async with watcher.connected() as connection, asyncio.timeout(PATIENCE):
        while not any(
            f"{replica.port}".encode() in fields
            for fields in await connection.call("SENTINEL", "REPLICAS", "main")
        ):
            await connection.call("PING")


async def test_an_unknown_service_is_away(tmp_path: Path, redis: RedisServer) -> None:
    async with sentinels(tmp_path, redis) as url:
        async with node(url.replace("/main", "/other"), publish_timeout=0.3) as one:
            with pytest.raises(Unavailable):
                await one.publish("h", "x")
        async with node(url) as one:
            await one.publish("h", "x")
