"""The round trip through Redis: publish a message, and wait until another connection has it.

    python -m benchmarks.redis_round_trip SECONDS CARRIER

CARRIER is one of CARRIERS. All of them run in one process on uvloop, with one message at a time:
publisher and receiver have connections of their own to a redis-server that is started for them. The
time is that from the call that publishes to the moment at which the receiver's task has the
message. The program prints one line of JSON with the figures.
"""

import asyncio
import contextlib
import contextvars
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator

import redis.asyncio
import uvloop

from wsgate import Config
from wsgate.brokers.redis.factory import make_redis_broker
from wsgate.server.topic_service import TopicService
from wsgate.topics.interface import Topics

TOPIC, KEPT_TOPIC = "round-trip", "round-trip-kept"
RULES = (f"{KEPT_TOPIC} history=100",)
MESSAGE = "x" * 64
TIMEOUT = 5.0
START_TIMEOUT = 20.0

Publish = Callable[[str], Awaitable[object]]
Ends = tuple[Publish, AsyncIterator[str]]
Carrier = Callable[[int], contextlib.AbstractAsyncContextManager[Ends]]


@contextlib.asynccontextmanager
async def redis_py(port: int) -> AsyncGenerator[Ends]:
    """Publish and receive with redis-py alone."""
    async with (
        redis.asyncio.Redis(port=port) as publisher,
        redis.asyncio.Redis(port=port) as receiver,
        receiver.pubsub() as channel,
    ):
        await channel.subscribe(TOPIC)
        assert (await anext(channel.listen()))["type"] == "subscribe"

        async def messages() -> AsyncGenerator[str]:
            async for message in channel.listen():
                yield message["data"].decode()

        async with contextlib.aclosing(messages()) as received:
            yield lambda text: publisher.publish(TOPIC, text), received


@contextlib.asynccontextmanager
async def plain(port: int) -> AsyncGenerator[Ends]:
    """Publish to a plain topic in one worker, and listen in another one."""
    async with _wsgate(port, TOPIC) as carrier:
        yield carrier


@contextlib.asynccontextmanager
async def kept(port: int) -> AsyncGenerator[Ends]:
    """Publish to a topic with history in one worker, and listen in another one."""
    async with _wsgate(port, KEPT_TOPIC) as carrier:
        yield carrier


CARRIERS: dict[str, Carrier] = {"redis-py": redis_py, "plain": plain, "kept": kept}


@contextlib.asynccontextmanager
async def _wsgate(port: int, topic: str) -> AsyncGenerator[Ends]:
    async with (
        _worker(port) as publisher,
        _worker(port) as receiver,
        receiver.listen(topic) as listener,
    ):
        await publisher.count(topic)  # the publisher is connected

        async def messages() -> AsyncGenerator[str]:
            async for message in listener:
                yield str(message.data)

        async with contextlib.aclosing(messages()) as received:
            yield lambda text: publisher.publish(topic, text), received


@contextlib.asynccontextmanager
async def _worker(port: int) -> AsyncGenerator[Topics]:
    """Run the topics of a worker without its server; yield them as an app's lifespan has them."""
    config = Config(topics_rule=RULES)
    broker = make_redis_broker(
        f"redis://127.0.0.1:{port}",
        publish_timeout=config.topics_publish_timeout,
        max_bytes=config.topics_history_max_bytes,
    )
    service = TopicService(config, broker, contextvars.copy_context)
    await service.start()
    try:
        yield Topics(service.extension(None))
    finally:
        service.end_listeners()
        await service.stop()


async def measure(carrier: Carrier, port: int, seconds: float, warm_up: float) -> list[float]:
    """Return the times of round trips, in seconds."""
    times = []
    async with carrier(port) as (publish, received):
        clock = time.perf_counter
        start = clock() + warm_up
        while (began := clock()) < start + seconds:
            text = f"{began} {MESSAGE}"[: len(MESSAGE)]
            got, _ = await asyncio.gather(_receive(received), publish(text))
            message, at = got
            if message != text:
                raise SystemExit(f"another message came: {message!r}")
            if began >= start:
                times.append(at - began)
    return times


async def _receive(received: AsyncIterator[str]) -> tuple[str, float]:
    async with asyncio.timeout(TIMEOUT):
        message = await anext(received)
    return message, time.perf_counter()


@contextlib.contextmanager
def redis_server() -> Iterator[int]:
    """Run a server that keeps nothing; yield its port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            _wait_until_open(port)
            yield port
        finally:
            server.kill()


def _wait_until_open(port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def main() -> None:
    """Measure, and print the figures."""
    seconds, name = float(sys.argv[1]), sys.argv[2]
    with redis_server() as port:
        times = sorted(uvloop.run(measure(CARRIERS[name], port, seconds, seconds / 6)))
    figures = {
        "rate": len(times) / seconds,
        "p50_ms": statistics.median(times) * 1e3,
        "p99_ms": times[len(times) * 99 // 100] * 1e3,
        "max_ms": times[-1] * 1e3,
    }
    print(json.dumps({key: round(value, 4) for key, value in figures.items()}))


if __name__ == "__main__":
    main()
