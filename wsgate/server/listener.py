"""A listener: accepts the connections of one listening socket for a worker."""

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from wsgate.asgi.scope import Peer
from wsgate.server.connection import Connection
from wsgate.types import Address

if TYPE_CHECKING:
    from wsgate.server.admission import Admission
    from wsgate.server.worker import Worker

ACCEPT_AT_ONCE = 16  # connections that are accepted in one iteration of the loop
MAX_WAITING = 4_096  # connections that are taken out of a backlog before its socket is closed


class Listener:
    """Accepts connections on a socket that it does not own: who opened it closes it.

    worker: serves the connections. admission: how many may be open, over all listeners of the
    worker. scheme: "http" or "https". sock: None for connections that are made in another way.
    """

    def __init__(self, worker: "Worker", sock: socket.socket | None, scheme: str = "http") -> None:
        self.worker = worker
        self.admission: Admission = worker.admission
        self.scheme = scheme
        self.sock = sock
        self._servers: list[asyncio.Server] = []
        self._sockname: object = None
        self._address: Address | None = None

    def peer(self, client: Address | None, sockname: object) -> Peer:
        """Return who is at both ends of a connection.

        client: None for the client of a Unix socket. sockname: the address at which it arrived.
        """
        if sockname != self._sockname:  # nearly always it is that of the connection before
            self._sockname = sockname
            self._address = _address_of(sockname)
        return Peer(client, self._address, self.scheme)

    @property
    def name(self) -> str:
        """Where clients find the socket, as in the line that reports it."""
        assert self.sock is not None  # only a listener in memory has none
        return name_of(self.sock, self.scheme)

    async def start(self, backlog: int) -> None:
        """Accept connections. Raises OSError where the socket cannot listen."""
        sock = self.sock
        assert sock is not None  # only a listener in memory has none
        sock.setblocking(False)
        sock.listen(backlog)  # here, because uvloop reports to nobody that it fails
        for handle in self._handles(sock):
            self._servers.append(await self._serve(handle))
        # For the kernel it is the backlog; for asyncio also how many it accepts in one iteration,
        # and how often it complains in one when there are no more file descriptors.
        sock.listen(backlog)

    def _handles(self, sock: socket.socket) -> Iterator[socket.socket]:
        """Yield a socket as often as it takes to accept many connections in one iteration.

        uvloop accepts one in an iteration on each handle. When everybody reconnects at once, an
        iteration that accepts sixteen of them costs little more than one that accepts one.
        """
        yield sock
        if not isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
            for _ in range(ACCEPT_AT_ONCE - 1):
                yield sock.dup()

    async def _serve(self, sock: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        if sock.family != getattr(socket, "AF_UNIX", None):
            return await loop.create_server(self.connection, sock=sock, backlog=ACCEPT_AT_ONCE)
        create = functools.partial(loop.create_unix_server, self.connection, sock=sock)
        try:
            # The loop must not remove the file: only its owner knows whose it is.
            return await create(backlog=ACCEPT_AT_ONCE, cleanup_socket=False)  # type: ignore[call-arg]  # since 3.13
        except TypeError:  # before Python 3.13 a loop has no such argument, and removes nothing
            return await create(backlog=ACCEPT_AT_ONCE)

    def connection(self) -> Connection:
        """Return a new connection, for the loop to report to."""
        return Connection(self)

    # -- stop --------------------------------------------------------------------------------------

    def stop_accepting(self) -> None:
        """Have the loop accept no more, as far as that is possible before `close`.

        asyncio sets up what it has accepted over some iterations, for which its server must be
        open.
        """
        loop = asyncio.get_running_loop()
        if isinstance(loop, asyncio.SelectorEventLoop) and self.sock is not None:
            loop.remove_reader(self.sock)

    def take_backlog(self) -> list[socket.socket]:
        """Return the connections that wait in the backlog, which closing the socket would reset."""
        accepted: list[socket.socket] = []
        with contextlib.suppress(OSError):  # there are no more, or no more file descriptors
            while self.sock is not None and len(accepted) < MAX_WAITING:
                accepted.append(self.sock.accept()[0])
        return accepted

    def close(self) -> None:
        """Stop listening; the loop closes its handles of the socket."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def serve_accepted(self, sock: socket.socket) -> None:
        """Serve a connection that was accepted elsewhere."""
        with contextlib.suppress(OSError):  # the client has left already
            await asyncio.get_running_loop().connect_accepted_socket(self.connection, sock)


def _address_of(sockname: object) -> Address | None:
    if isinstance(sockname, tuple):
        return sockname if len(sockname) == 2 else sockname[:2]  # noqa: PLR2004  # IPv6 has more
    if sockname and isinstance(sockname, str):
        return sockname, None  # ASGI: the path of a Unix socket, and None
    return None  # or an unnamed one


def name_of(sock: socket.socket, scheme: str = "http") -> str:
    """Return where clients find a listening socket, as in the line that reports it."""
    address = sock.getsockname()
    if sock.family == getattr(socket, "AF_UNIX", None):
        if isinstance(address, bytes):  # abstract: its name begins with a zero byte
            address = "@" + os.fsdecode(address[1:])
        return f"unix socket {address or '(unnamed)'}"
    host = f"[{address[0]}]" if sock.family == socket.AF_INET6 else address[0]
    return f"{scheme}://{host}:{address[1]}"
