"""What the tests of the examples share."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from examples.chat.app import Chat
from examples.chat.rooms import Limits


@pytest.fixture
async def chat() -> AsyncIterator[Chat]:
    """Give a chat without a limit on the rate, and see that it leaves no task behind."""
    yield Chat(Limits(burst=10_000), list_pause=0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
