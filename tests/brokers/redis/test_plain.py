"""Plain topics over Redis: delivery, and what happens while Redis is away."""

import asyncio
import contextlib
import signal

import pytest

from tests.harness.brokers import PATIENCE, QUICK, Node, Recorder, node
from tests.harness.redis import RedisServer
from tests.harness.waiting import nothing_left, start_task, until
from wsgate.brokers.redis import commands as commands_module
from wsgate.brokers.redis.broker import RedisBroker
from wsgate.brokers.redis.connection import ConnectionLost
from wsgate.brokers.redis.keys import channel_of
from wsgate.brokers.redis.link import Timing
from wsgate.brokers.redis.url import parse_redis_url


async def test_a_message_reaches_the_other_worker_once_and_its_own_at_once(
    one: Node, other: Node
) -> None:
    for worker in (one, other):
        await worker.broker.attach("room")
    await one.publish("room", "text")
    assert one.recorder.data("room") == ["text"]
    await one.publish("room", b"bytes")
    await other.recorder.has("room", "text", b"bytes")
    await other.publish("room", "end")
    await one.recorder.has("room", "text", b"bytes", "end")


async def test_the_excluded_socket_is_of_the_own_worker(one: Node, other: Node) -> None:
    await other.broker.attach("room")
    socket = object()
    await one.publish("room", "text", excluded=socket)
    assert one.recorder.excluded == [socket]
    await other.recorder.has("room", "text")
    assert other.recorder.excluded == [None]


async def test_messages_arrive_in_order_and_only_in_their_topic(one: Node, other: Node) -> None:
    topics = ["room", "röom", "room}", "{room", "{}", "a:c:b", " \n"]
    for topic in topics:
        await other.broker.attach(topic)
    for number in range(200):
        for topic in topics:
            await one.publish(topic, f"{topic} {number}")
    for topic in topics:
        await other.recorder.has(topic, *(f"{topic} {number}" for number in range(200)))
    assert not one.recorder.dropped


async def test_only_subscribed_topics_are_subscribed(one: Node, redis: RedisServer) -> None:
    await one.broker.attach("room")
    await one.broker.attach("other")
    assert (await redis.call("PUBSUB", "NUMSUB", channel_of("room")))[1] == 1
    one.broker.detach("room")
    await one.broker.attach("last")  # after the end of the subscription
    assert (await redis.call("PUBSUB", "NUMSUB", channel_of("room")))[1] == 0
    assert (await redis.call("PUBSUB", "NUMSUB", channel_of("other")))[1] == 1


async def test_a_topic_that_is_left_and_taken_again_at_once_is_subscribed(
    one: Node, other: Node
) -> None:
    await one.is_up()
    for _ in range(3):
        attaching = start_task(one.broker.attach("room"))
        await asyncio.sleep(0)
        attaching.cancel()
        one.broker.detach("room")
    await one.broker.attach("room")
    await other.publish("room", "text")
    await one.recorder.has("room", "text")


async def test_a_server_starts_while_redis_is_away(redis: RedisServer) -> None:
    await redis.kill()
    async with nothing_left(), node(redis.url) as one:
        await one.broker.attach("room")  # at once
        await one.publish("room", "local")
        assert one.recorder.data("room") == ["local"]


async def test_what_is_published_after_a_first_subscription_has_returned_arrives(
    redis: RedisServer, other: Node
) -> None:
    await other.is_up()
    async with node(redis.url) as one:  # not connected yet
        await one.broker.attach("room")
        await other.publish("room", "text")
        await one.recorder.has("room", "text")


async def test_what_was_published_while_redis_was_away_is_sent_later(
    redis: RedisServer, one: Node, other: Node
) -> None:
    await other.broker.attach("room")
    await one.is_up()
    await redis.kill()
    await one.is_down()
    await other.is_down()
    for number in range(3):
        await one.publish("room", f"{number}")
    # A message that is sent before the other worker has subscribed again is lost: so it is paused
    # until that is done.
    redis_is_back = one.broker._servers.find(0).commands
    await redis_is_back.stop()
    await redis.start()
    await other.broker.attach("room")
    await until(lambda: other.broker._servers.find(0).subscriptions.is_up, PATIENCE)
    await other.broker.attach("next")
    for number in range(3, 6):
        await one.publish("room", f"{number}")
    redis_is_back.start()
    await other.recorder.has("room", "3", "4", "5")


async def test_the_oldest_are_dropped_and_counted_when_too_many_wait(
    redis: RedisServer, one: Node, other: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_module, "MAX_POSTS", 3)
    await other.broker.attach("room")
    commands = one.broker._servers.find(0).commands
    await one.is_up()
    await redis.cut("normal")
    await until(lambda: not commands.is_up, PATIENCE)
    for number in range(5):
        await one.publish("room", f"{number}")
    await other.recorder.has("room", "2", "3", "4")
    assert one.recorder.dropped == {"broker away": 2}


async def test_the_bytes_that_wait_are_bounded(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_module, "MAX_POST_BYTES", 1000)
    await redis.kill()
    async with node(redis.url) as one:
        for _ in range(5):
            await one.publish("room", "x" * 400)
        assert one.recorder.dropped == {"broker away": 3}
        await one.publish("room", "x" * 4000)  # one of any size may wait
        assert one.recorder.dropped == {"broker away": 5}
    assert one.recorder.dropped == {"broker away": 6}


@pytest.mark.parametrize("kind", ["normal", "pubsub"])
async def test_a_cut_connection_is_opened_again(
    redis: RedisServer, one: Node, other: Node, kind: str
) -> None:
    await other.broker.attach("room")
    await one.is_up()
    await redis.cut(kind)
    await other.broker.attach("next")
    await one.is_up()
    await other.is_up()
    await other.broker.attach("last")  # answered after "room" was subscribed again
    await one.publish("room", "text")
    await until(lambda: "text" in other.recorder.data("room"), PATIENCE)
    assert other.recorder.data("room") == ["text"]


async def test_a_redis_that_does_not_answer_is_noticed_by_pings(redis: RedisServer) -> None:
    timing = Timing(ping_interval=0.05, ping_timeout=0.5, backoff_min=0.01, backoff_max=0.05)
    async with node(redis.url, timing=timing) as one, node(redis.url, timing=QUICK) as other:
        await one.broker.attach("room")
        redis.signal(signal.SIGSTOP)
        try:
            await one.is_down()
            await one.publish("room", "local")
            assert one.recorder.data("room") == ["local"]
        finally:
            redis.signal(signal.SIGCONT)
        await one.is_up()
        await one.broker.attach("next")
        await other.publish("room", "text")
        await one.recorder.has("room", "local", "text")


async def test_a_publisher_that_is_faster_than_redis_waits(
    redis: RedisServer, other: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_module, "MAX_POSTS", 20)
    await other.broker.attach("room")
    async with node(redis.url) as one:
        await one.is_up()
        for number in range(500):
            await one.publish("room", f"{number}")
        await other.recorder.has("room", *(f"{number}" for number in range(500)))
        assert not one.recorder.dropped


@pytest.mark.parametrize(("version", "is_old"), [("6.2.1", True), ("7.0.0", False), ("", False)])
def test_an_old_redis_is_named(version: str, is_old: bool) -> None:
    expected = pytest.raises(ConnectionLost, match=r"need Redis 7\.0 or newer")
    with expected if is_old else contextlib.nullcontext():
        commands_module._check_version(version)


async def test_a_stop_sends_what_waits(redis: RedisServer, other: Node) -> None:
    await other.broker.attach("room")
    async with node(redis.url) as one:
        await one.is_up()
        for number in range(1000):
            await one.publish("room", f"{number}")
    await other.recorder.has("room", *(f"{number}" for number in range(1000)))


async def test_each_start_has_an_id_of_its_own(redis: RedisServer) -> None:
    """An object that was made before a fork is started in each process."""
    broker = RedisBroker(parse_redis_url(redis.url), publish_timeout=1.0, max_bytes=100)
    ids = set()
    for _ in range(2):
        await broker.start(Recorder())
        ids.add(broker._id)
        await broker.stop()
    assert len(ids) == 2


async def test_nothing_is_left_after_a_stop(redis: RedisServer) -> None:
    async with nothing_left():
        async with node(redis.url) as one:
            await one.broker.attach("room")
            await one.publish("room", "text")
            await one.publish("h", "text")
        async with node(redis.url):
            pass


async def test_what_is_not_from_wsgate_is_ignored(redis: RedisServer, one: Node) -> None:
    await one.broker.attach("room")
    await redis.call("PUBLISH", channel_of("room"), "nonsense")
    async with node(redis.url) as other:
        await other.publish("room", "text")
        await one.recorder.has("room", "text")
