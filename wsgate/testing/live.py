"""A live server on a free loopback port, in the running event loop."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from wsgate.config import Config
from wsgate.process.server import Server
from wsgate.types import App


class LiveServer:
    """A running server.

    Attributes:
        host, port: the address it listens on.
        url, ws_url: the same as the start of an http or ws URL, without a path.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.host, self.port = server.sockets[0].getsockname()[:2]
        secure = "s" if server.config.has_tls else ""
        self.url = f"http{secure}://{self.host}:{self.port}"
        self.ws_url = f"ws{secure}://{self.host}:{self.port}"

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._server.worker.connections)

    @property
    def tasks(self) -> int:
        """The number of calls of the app that have not ended."""
        return len(self._server.worker.tasks)

    async def settled(self) -> None:
        """Wait until no connection is open and no call of the app is running."""
        while not self._server.worker.is_idle:
            await self._server.worker.ended.wait()

    async def stop(self) -> None:
        """Stop gracefully, as on SIGTERM. Leaving the context of `serve` does the same."""
        await self._server.stop()


@contextlib.asynccontextmanager
async def serve(app: App, **options: Any) -> AsyncIterator[LiveServer]:
    """Serve an app while the context lasts.

    Args:
        app: the ASGI app; its lifespan is run.
        options: those of `wsgate.Config`. The default of `host` is 127.0.0.1 and that of `port` is
            0, which takes a free port.

    Yields:
        The running server.

    Raises:
        ConfigError: a setting or the address cannot be used.
        StartupFailed: the app's lifespan refuses to start.
    """
    config = Config(**{"host": "127.0.0.1", "port": 0, **options})
    async with Server(app, config).running() as server:
        yield LiveServer(server)
