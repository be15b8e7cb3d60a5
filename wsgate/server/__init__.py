"""The server: asyncio, sockets, clocks and everything that waits."""
