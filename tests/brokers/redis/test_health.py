"""How the links to Redis are: the state of the broker, and the two lines of the log."""

import asyncio
import re
from pathlib import Path

from tests.harness.brokers import PATIENCE, Node, node
from tests.harness.log import LogCapture, capture_log
from tests.harness.redis import RedisServer, redis_cluster
from tests.harness.waiting import until
from wsgate.brokers.broker import BrokerState
from wsgate.brokers.redis.broker import RedisBroker
from wsgate.brokers.redis.health import Health
from wsgate.brokers.redis.keys import PARTITIONS, slot_of
from wsgate.brokers.redis.url import parse_redis_url


class Link:
    """A link that does nothing."""

    def __init__(self, name: str) -> None:
        self.name = name


def redis_lines(log: LogCapture) -> list[str]:
    """Return what the log says of Redis, each line without its reason."""
    lines = [record.getMessage() for record in log.records]
    return [re.sub(" away: .+", " away", line) for line in lines if line.startswith("Redis ")]


def name_of(*servers: RedisServer) -> str:
    """Return the name of servers in the log."""
    return ",".join(f"127.0.0.1:{server.port}" for server in servers)


async def is_away(one: Node) -> float:
    """Wait until the broker is away; return since when."""
    await until(lambda: one.broker.state().away_since is not None, PATIENCE)
    away_since = one.broker.state().away_since
    assert away_since is not None
    return away_since


async def is_back(one: Node) -> None:
    """Wait until the broker is not away."""
    await until(lambda: one.broker.state().away_since is None, PATIENCE)


# -- the count -------------------------------------------------------------------------------------


async def test_the_first_link_that_is_lost_and_the_last_one_that_is_back_are_logged() -> None:
    health, links = Health("all"), [Link("a"), Link("b")]
    with capture_log() as log:
        for link in links:
            health.expect(link)
            health.note_up(link)
        for link in links:
            health.note_down(link, f"{link.name} is gone")
        health.note_down(links[0], "it is refused")
        health.note_up(links[1])
        assert redis_lines(log) == ["Redis a is away"]
        health.note_up(links[0])
    assert redis_lines(log) == ["Redis a is away", "Redis all is back"]
    assert log.warnings == ["Redis a is away: a is gone"]
    assert health.state == BrokerState(reconnects=2)


async def test_it_is_away_since_the_first_link_was_lost() -> None:
    health, first, second = Health("all"), Link("a"), Link("b")
    health.expect(first)
    since = health.state.away_since
    assert since is not None
    await until(lambda: asyncio.get_running_loop().time() > since)
    health.expect(second)
    health.note_down(first, "it is refused")
    assert health.state.away_since == since
    health.note_up(first)
    later = health.state.away_since
    assert later is not None
    assert later > since
    health.note_up(second)
    assert health.state == BrokerState()


async def test_a_link_that_is_not_needed_any_more_is_not_away() -> None:
    health, links = Health("all"), [Link("a"), Link("b")]
    with capture_log() as log:
        for link in links:
            health.expect(link)
        health.note_up(links[0])
        health.note_down(links[1], "refused")
        health.forget(links[1])
    assert health.state == BrokerState()
    assert redis_lines(log) == ["Redis b is away", "Redis all is back"]


# -- real servers ----------------------------------------------------------------------------------


async def test_a_redis_that_is_killed_is_away_until_it_is_back(redis: RedisServer) -> None:
    time = asyncio.get_running_loop().time
    with capture_log() as log:
        async with node(redis.url) as one:
            await is_back(one)
            assert one.broker.state().reconnects == 0
            killed_at = time()
            await redis.kill()
            assert killed_at <= await is_away(one) <= time()
            await one.is_down()
            await redis.start()
            await is_back(one)
            assert one.broker.state().reconnects == 2  # commands and subscriptions
    assert redis_lines(log) == [
        f"Redis {name_of(redis)} is away",
        f"Redis {name_of(redis)} is back",
    ]


async def test_one_connection_that_is_lost_is_enough(redis: RedisServer) -> None:
    with capture_log() as log:
        async with node(redis.url) as one:
            await is_back(one)
            await one.broker.attach("room")
            await redis.cut("pubsub")
            await until(lambda: one.broker.state().reconnects, PATIENCE)
            assert one.broker.state()[::2] == (None, 1)
    assert redis_lines(log) == [
        f"Redis {name_of(redis)} is away",
        f"Redis {name_of(redis)} is back",
    ]


async def test_a_redis_that_was_never_there_is_away_since_the_start(redis: RedisServer) -> None:
    time = asyncio.get_running_loop().time
    await redis.kill()
    started_at = time()
    with capture_log() as log:
        async with node(redis.url) as one:
            assert started_at <= await is_away(one) <= time()
            await until(lambda: log.warnings, PATIENCE)
            await redis.start()
            await is_back(one)
            assert one.broker.state().reconnects == 0
    assert redis_lines(log) == [
        f"Redis {name_of(redis)} is away",
        f"Redis {name_of(redis)} is back",
    ]


async def test_a_stop_while_redis_is_away_says_nothing(redis: RedisServer) -> None:
    await redis.kill()
    with capture_log() as log:
        async with node(redis.url):
            await until(lambda: log.warnings, PATIENCE)
    assert redis_lines(log) == [f"Redis {name_of(redis)} is away"]


def test_a_broker_that_was_not_started_is_not_away() -> None:
    url = parse_redis_url("redis://127.0.0.1")
    assert RedisBroker(url, publish_timeout=1.0, max_bytes=1).state() == BrokerState()


async def test_the_lag_is_that_of_pings(redis: RedisServer, one: Node) -> None:
    started_at = asyncio.get_running_loop().time()
    await until(lambda: one.broker.state().lag is not None, PATIENCE)
    lag = one.broker.state().lag
    assert lag is not None
    assert 0 <= lag <= asyncio.get_running_loop().time() - started_at


async def test_a_cluster_is_away_while_one_server_is(tmp_path: Path) -> None:
    async with redis_cluster(tmp_path) as servers:
        url = f"redis+cluster://{name_of(*servers)}"
        with capture_log() as log:
            async with node(url) as one:
                assert one.broker.state().away_since is not None  # its servers are not known yet
                await is_back(one)
                await one.is_up()
                await servers[1].kill()
                await is_away(one)
                await servers[1].start()
                await is_back(one)
                assert one.broker.state().reconnects == 2
        assert redis_lines(log) == [
            f"Redis {name_of(servers[1])} is away",
            f"Redis {name_of(*servers)} is back",
        ]


async def test_a_server_whose_slots_others_have_is_not_missed(tmp_path: Path) -> None:
    async with redis_cluster(tmp_path) as servers:
        url = f"redis+cluster://{name_of(*servers)}"
        with capture_log() as log:
            async with node(url) as one:
                await is_back(one)
                gone, heir, other = servers
                await gone.kill()
                await is_away(one)
                name = (await heir.call("CLUSTER", "MYID")).decode()
                for slot in filter(is_of_the_first, map(slot_of, range(PARTITIONS))):
                    for server in (heir, other):
                        await server.call("CLUSTER", "SETSLOT", slot, "NODE", name)
                await is_back(one)
                assert one.broker.state().reconnects == 0
        assert redis_lines(log) == [
            f"Redis {name_of(gone)} is away",
            f"Redis {name_of(*servers)} is back",
        ]


def is_of_the_first(slot: int) -> bool:
    """Return whether a slot is of the first of three servers."""
    return slot * 3 // 16384 == 0


async def test_a_cluster_that_does_not_answer_is_away(tmp_path: Path) -> None:
    async with redis_cluster(tmp_path) as servers:
        url = f"redis+cluster://{name_of(*servers)}"
        for server in servers:
            await server.kill()
        with capture_log() as log:
            async with node(url) as one:
                await until(lambda: log.warnings, PATIENCE)
                await is_away(one)
                for server in servers:
                    await server.start()
                await is_back(one)
        name = name_of(*servers)
        assert redis_lines(log) == [f"Redis {name} is away", f"Redis {name} is back"]
