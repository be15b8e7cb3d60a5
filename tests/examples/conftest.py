"""Fixtures of the tests of the examples."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from examples.chat.app import Chat
from examples.chat.rooms import Limits
from tests.harness.topics import own_rules
from wsgate.testing import LiveServer, serve
from wsgate.topics import presence

__all__ = ["own_rules"]


@pytest.fixture
def chat(own_rules: None, monkeypatch: pytest.MonkeyPatch) -> Chat:
    """Return a chat without a rate limit, in which who has gone has left at once."""
    monkeypatch.setattr(presence, "GRACE", 0.0)
    return Chat(Limits(burst=100_000), list_pause=0)


@pytest_asyncio.fixture
async def server(chat: Chat) -> AsyncIterator[LiveServer]:
    """Serve the chat."""
    async with serve(chat) as server:
        yield server
