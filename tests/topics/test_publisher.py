"""Publishing from other programs, over a real Redis."""

import asyncio
import signal
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_asyncio

from tests.harness.brokers import PATIENCE, Node, node
from tests.harness.processes import program
from tests.harness.redis import RedisServer, redis_server
from tests.harness.waiting import until
from wsgate import topics
from wsgate.brokers.redis import publisher as redis_publisher
from wsgate.topics import Publisher, SyncPublisher
from wsgate.topics.errors import LimitReached, TopicsError, Unavailable
from wsgate.topics.rules import Rules, Slow


@pytest_asyncio.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path) as server:
        yield server


@pytest_asyncio.fixture
async def worker(redis: RedisServer) -> AsyncIterator[Node]:
    async with node(redis.url) as one:
        await one.broker.attach("room")
        await one.broker.attach("h")
        yield one


async def test_messages_reach_plain_topics_and_those_with_history(
    redis: RedisServer, worker: Node
) -> None:
    async with Publisher(redis.url, timeout=PATIENCE) as publisher:
        assert await publisher.publish("room", "text") is None
        assert await publisher.publish("room", b"bytes") is None
        assert await publisher.publish("h", "1", id="id1") == "id1"
        assert await publisher.publish("h", "again", id="id1") == "id1"
        made = await publisher.publish("h", "2")
        assert made
        assert await publisher.publish("h", "live", keep=False) is None
    await worker.recorder.has("room", "text", b"bytes")
    await worker.recorder.has("h", "1", "2", "live")
    assert [one.id for one in worker.recorder.delivered["h"]] == ["id1", made, None]


async def test_one_publisher_serves_many_tasks(redis: RedisServer, worker: Node) -> None:
    async with Publisher(redis.url, timeout=PATIENCE) as publisher:
        await asyncio.gather(*(publisher.publish("h", f"{number}") for number in range(200)))
    await until(lambda: len(worker.recorder.data("h")) == 200, PATIENCE)


async def test_the_newest_rules_of_the_servers_are_used(
    redis: RedisServer, worker: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_publisher, "MAX_RULES_AGE", -1.0)
    newer = Rules(history=1, history_seconds=60.0, slow=Slow.CLOSE)
    async with Publisher(redis.url, timeout=PATIENCE) as publisher:
        await publisher.publish("h", "1")
        async with node(redis.url, kept=newer, max_bytes=10) as other:
            await other.broker.attach("next")
            await until(lambda: other.broker._rules_version != "0", PATIENCE)
            await publisher.publish("h", "2")
            missed = await other.broker.missed("h", None, 10)  # it removes what is too many
            assert [one.data for one in missed.publications] == ["2"]
            with pytest.raises(LimitReached):
                await publisher.publish("h", "x" * 11)
            # A worker with older rules that connects again does not replace them.
            await redis.cut("normal")
            await worker.is_up()
            await worker.publish("room", "x")
            with pytest.raises(LimitReached):
                await publisher.publish("h", "x" * 11)


async def test_without_redis_a_publish_is_unavailable(redis: RedisServer) -> None:
    await redis.kill()
    async with Publisher(redis.url, timeout=0.1) as publisher:
        with pytest.raises(Unavailable, match=r"no answer from Redis .* in 0\.1 s"):
            await publisher.publish("room", "text")


@pytest.mark.parametrize(
    ("url", "error", "text"),
    [
        ("http://a", ValueError, "unknown scheme"),
        ("local:", TopicsError, "local: cannot be published to"),
        ("local:topics", ValueError, "the URL must be"),
        ("memory:", TopicsError, "memory: cannot be published to"),
        (None, TypeError, "the URL must be a str"),
    ],
)
def test_other_urls_are_errors(url: str, error: type[Exception], text: str) -> None:
    for kind in (Publisher, SyncPublisher):
        with pytest.raises(error, match=text):
            kind(url)


def test_a_missing_extra_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wsgate.brokers.redis.publisher", None)
    with pytest.raises(TopicsError, match=r"pip install 'wsgate\[redis\]'"):
        Publisher("redis://a")


async def test_wrong_arguments_are_refused(redis: RedisServer) -> None:
    async with Publisher(redis.url) as publisher:
        with pytest.raises(ValueError, match="must not be empty"):
            await publisher.publish("", "text")
        with pytest.raises(TypeError, match="must be a str or bytes"):
            await publisher.publish("room", 1)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="must not be empty"):
            await publisher.publish("room", "text", id="")


def test_unknown_names_of_the_package_are_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        topics.Nonsense  # noqa: B018


# -- without async ---------------------------------------------------------------------------------


async def test_a_thread_publishes(redis: RedisServer, worker: Node) -> None:
    def publish() -> list[str | None]:
        with SyncPublisher(redis.url, timeout=PATIENCE) as publisher:
            publisher.publish("room", "text")
            return [publisher.publish("h", "1", id="id1"), publisher.publish("h", b"2", keep=False)]

    assert await asyncio.to_thread(publish) == ["id1", None]
    await worker.recorder.has("room", "text")
    await worker.recorder.has("h", "1", b"2")


async def test_threads_may_share_a_publisher(redis: RedisServer, worker: Node) -> None:
    def publish_all() -> None:
        with (
            SyncPublisher(redis.url, timeout=PATIENCE) as publisher,
            ThreadPoolExecutor(4) as pool,
        ):
            list(pool.map(lambda number: publisher.publish("h", f"{number}"), range(100)))

    await asyncio.to_thread(publish_all)
    await until(lambda: len(worker.recorder.data("h")) == 100, PATIENCE)


async def test_a_connection_that_ended_between_two_calls_is_opened_again(
    redis: RedisServer, worker: Node
) -> None:
    loop = asyncio.get_running_loop()

    def publish() -> None:
        with SyncPublisher(redis.url, timeout=PATIENCE) as publisher:
            publisher.publish("room", "1")
            asyncio.run_coroutine_threadsafe(redis.cut("normal"), loop).result(PATIENCE)
            publisher.publish("room", "2")

    await asyncio.to_thread(publish)
    await worker.recorder.has("room", "1", "2")


async def test_a_dead_connection_is_given_up_after_an_error(redis: RedisServer) -> None:
    paused, tried = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def publish() -> str | None:
        with SyncPublisher(redis.url, timeout=PATIENCE) as publisher:
            publisher.publish("room", "1")
            redis.signal(signal.SIGSTOP)
            publisher._carrier._histories.timeout = 0.1  # type: ignore[attr-defined]
            with pytest.raises(Unavailable):
                publisher.publish("room", "2")
            loop.call_soon_threadsafe(tried.set)
            assert paused.wait(PATIENCE)
            return publisher.publish("room", "3")

    publishing = asyncio.create_task(asyncio.to_thread(publish))
    async with asyncio.timeout(PATIENCE):
        await tried.wait()
    redis.signal(signal.SIGCONT)
    paused.set()
    assert await publishing is None


async def test_in_an_event_loop_the_other_publisher_is_named(redis: RedisServer) -> None:
    with (
        pytest.raises(RuntimeError, match=r"use wsgate\.topics\.Publisher"),
        SyncPublisher(redis.url),
    ):
        pass


# -- without a block -------------------------------------------------------------------------------


async def test_a_publisher_is_open_until_it_is_closed(redis: RedisServer, worker: Node) -> None:
    publisher = Publisher(redis.url, timeout=PATIENCE)
    for text in ("1", "2"):
        await publisher.open()
        with pytest.raises(RuntimeError, match="is open already"):
            await publisher.open()
        await publisher.publish("room", text)
        for _ in range(2):
            await publisher.close()
        with pytest.raises(RuntimeError, match=r"is not open: .* call open\(\)"):
            await publisher.publish("room", "closed")
    await worker.recorder.has("room", "1", "2")


async def test_a_publisher_without_async_is_open_until_it_is_closed(
    redis: RedisServer, worker: Node
) -> None:
    def publish() -> None:
        publisher = SyncPublisher(redis.url, timeout=PATIENCE)
        for text in ("1", "2"):
            publisher.open()
            with pytest.raises(RuntimeError, match="is open already"):
                publisher.open()
            publisher.publish("room", text)
            for _ in range(2):
                publisher.close()
            with pytest.raises(RuntimeError, match=r"is not open: .* call open\(\)"):
                publisher.publish("room", "closed")

    await asyncio.to_thread(publish)
    await worker.recorder.has("room", "1", "2")


FORKING = """
import os, sys
from wsgate.topics import SyncPublisher

publisher = SyncPublisher(sys.argv[1], timeout=30)

def publish_as(name):
    publisher.open()
    publisher.publish("h", name + " 1")
    publisher.publish("h", name + " 2")

def use_inherited():
    for use in (publisher.open, lambda: publisher.publish("h", "inherited")):
        try:
            use()
        except RuntimeError as error:
            print(error, flush=True)
    publisher.close()

def in_child(use, *arguments):
    if not (child := os.fork()):
        use(*arguments)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

in_child(publish_as, "child")
in_child(publish_as, "other")
publish_as("parent")
in_child(use_inherited)
publisher.publish("h", "parent 3")
publisher.close()
"""


async def test_each_process_opens_a_publisher_of_its_own(redis: RedisServer, worker: Node) -> None:
    async with program("-c", FORKING, redis.url) as process:
        assert await process.ended() == 0, process.text
        error = "the publisher was opened before this process was forked: open it in the child only"
        assert process.log == [error, error]
    texts = [f"{name} {n}" for name in ("child", "other", "parent") for n in (1, 2)]
    await worker.recorder.has("h", *texts, "parent 3")


# -- the command -----------------------------------------------------------------------------------


async def publish_by_command(
    *arguments: str, topics: str | None = None, stdin: bytes = b""
) -> tuple[int, list[str]]:
    """Return the exit status and what is printed. topics: the variable WSGATE_TOPICS."""
    variables = {} if topics is None else {"WSGATE_TOPICS": topics}
    command = ("-m", "wsgate", "publish", *arguments)
    with tempfile.TemporaryFile() as file:
        file.write(stdin)
        file.seek(0)
        async with program(*command, variables=variables, stdin=file) as process:
            return await process.ended(), process.log


async def test_the_command_publishes(redis: RedisServer, worker: Node) -> None:
    assert await publish_by_command(redis.url, "room", "text") == (0, [])
    assert await publish_by_command(redis.url, "h", "kept", "--id", "id1") == (0, ["id1"])
    await worker.recorder.has("room", "text")
    await worker.recorder.has("h", "kept")


async def test_the_errors_of_the_command_are_one_line() -> None:
    status, lines = await publish_by_command("redis://127.0.0.1:x", "room", "text")
    assert (status, len(lines)) == (1, 1)
    assert lines[0].startswith("Error: malformed address")
    status, lines = await publish_by_command("redis://127.0.0.1:1", "room", "text")
    assert (status, len(lines)) == (1, 1)
    assert "no answer from Redis 127.0.0.1:1 in 5 s: " in lines[0]
    status, lines = await publish_by_command("redis://a", "", "text")
    assert (status, lines) == (1, ["Error: the name of a topic must not be empty"])


async def test_the_command_has_the_url_of_the_variable(redis: RedisServer, worker: Node) -> None:
    assert await publish_by_command("room", "text", topics=redis.url) == (0, [])
    other = "redis://127.0.0.1:x"
    assert await publish_by_command(redis.url, "room", "of the argument", topics=other) == (0, [])
    await worker.recorder.has("room", "text", "of the argument")


async def test_the_command_publishes_standard_input(redis: RedisServer, worker: Node) -> None:
    for text in (b'{"text":\n"gr\xc3\xbc\xc3\x9f"}\n', b"two lines, \n\n", b""):
        assert await publish_by_command(redis.url, "room", "-", stdin=text) == (0, [])
    await worker.recorder.has("room", '{"text":\n"gr\u00fc\u00df"}', "two lines, \n", "")
