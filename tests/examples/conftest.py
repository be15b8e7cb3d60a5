"""Fixtures of the tests of the examples."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from examples.chat.app import Chat
from examples.chat.rooms import Limits


@pytest.fixture
async def chat() -> AsyncIterator[Chat]:
    """Return a chat without a rate limit; check that it has no tasks left at the end."""
    yield Chat(Limits(burst=10_000), list_pause=0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
