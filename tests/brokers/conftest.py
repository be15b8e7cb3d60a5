"""Fixtures of the brokers' tests, and the event loops that they run on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.harness.brokers import Node, node
from tests.harness.loops import pytest_asyncio_loop_factories
from tests.harness.redis import RedisServer, redis_server

__all__ = ["durable", "one", "other", "pytest_asyncio_loop_factories", "redis"]


@pytest_asyncio.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """Run a Redis server, whose data are gone when it ends."""
    async with redis_server(tmp_path) as server:
        yield server


@pytest_asyncio.fixture
async def durable(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """Run a Redis server that writes each change to a file before it answers."""
    options = ("--appendonly", "yes", "--appendfsync", "always")
    async with redis_server(tmp_path, *options) as server:
        yield server


@pytest_asyncio.fixture
async def one(redis: RedisServer) -> AsyncIterator[Node]:
    """Run a broker."""
    async with node(redis.url) as worker:
        yield worker


@pytest_asyncio.fixture
async def other(redis: RedisServer) -> AsyncIterator[Node]:
    """Run another broker."""
    async with node(redis.url) as worker:
        yield worker
