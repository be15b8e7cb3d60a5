"""A live server on a free loopback port, inside the running event loop."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from wsgate.config import Config
from wsgate.process.server import Server
from wsgate.types import App


class LiveServer:
    """A server that runs. host, port: where; url, ws_url: the same for clients, without a path."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.host, self.port = server.sockets[0].getsockname()[:2]
        self.url = f"http://{self.host}:{self.port}"
        self.ws_url = f"ws://{self.host}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._server.worker.connections)

    @property
    def tasks(self) -> int:
        """How many calls of the app are under way."""
        return len(self._server.worker.tasks)

    async def settled(self) -> None:
        """Wait until no connection is open and no call of the app is under way."""
        while not self._server.worker.is_idle:
            await self._server.worker.ended.wait()

    async def stop(self) -> None:
        """Stop gracefully, as SIGTERM does; leaving the context does it too."""
        if not self._server.worker.stopping:
            await self._server.stop()


@contextlib.asynccontextmanager
async def serve(app: App, **options: Any) -> AsyncIterator[LiveServer]:
    """Serve an app while the context lasts.

    options: those of `wsgate.Config`, but for `host` (127.0.0.1) and `port` (a free one).
    Raises StartupFailed.
    """
    server = Server(app, Config(**{"host": "127.0.0.1", "port": 0, **options}))
    await server.start()
    live = LiveServer(server)
    try:
        yield live
    finally:
        await live.stop()
