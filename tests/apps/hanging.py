"""An app whose requests never end; prints when one begins."""

import asyncio
from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Wait forever, without reading the body."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    print("called", flush=True)  # noqa: T201  # a test reads it
    await asyncio.Event().wait()
