"""A listener: accepts connections on one listening socket for a worker."""

import asyncio
import contextlib
import functools
import os
import socket
from typing import TYPE_CHECKING

from wsgate.asgi.scope import Peer, host_and_port
from wsgate.proxies.proxy_protocol import ProxyHeader
from wsgate.server.connection import Connection
from wsgate.server.proxy_header import AnnouncedConnection, ProxyHeaderReader
from wsgate.server.tls_stream import TlsStream
from wsgate.types import Address

if TYPE_CHECKING:
    from wsgate.server.admission import Admission
    from wsgate.server.worker import Worker

ACCEPT_AT_ONCE = 16  # connections accepted in one loop iteration
MAX_WAITING = 4_096  # connections taken from the backlog before the socket is closed


class Listener:
    """Accepts connections on a socket, which its opener closes.

    worker: serves the connections, with TLS if it has certificates. admission: the connection
    limits, shared by all listeners of the worker. proxies: the peers that begin each connection
    with a PROXY header, None without the PROXY protocol. scheme: "http" or "https". sock: None if
    connections come from elsewhere, as in tests.
    """

    def __init__(self, worker: "Worker", sock: socket.socket | None) -> None:
        self.worker = worker
        self.admission: Admission = worker.admission
        self.proxies = worker.proxies
        self.scheme = "http" if worker.certificates is None else "https"
        self.sock = sock
        self._servers: list[asyncio.Server] = []
        self._sockname: object = None
        self._address: Address | None = None

    def peer(self, client: Address | None, sockname: object) -> Peer:
        """Return the addresses of both ends of a connection.

        Args:
            client: None for the client of a Unix socket.
            sockname: The local address of the connection, as `getsockname` returns it.
        """
        if sockname != self._sockname:  # rare: most connections have the same local address
            self._sockname = sockname
            self._address = _server_address(sockname)
        return Peer(client, self._address, self.scheme)

    @property
    def name(self) -> str:
        """The address of the socket, such as http://127.0.0.1:8000."""
        assert self.sock is not None  # only a listener in memory has none
        return name_of(self.sock, self.scheme)

    @property
    def description(self) -> str:
        """The address as logged at startup: a wildcard with the families that it includes."""
        assert self.sock is not None  # only a listener in memory has none
        return self.name + _meaning_of_wildcard(self.sock)

    async def start(self, backlog: int) -> None:
        """Listen and accept connections.

        Args:
            backlog: Connections that may wait in the kernel to be accepted.

        Raises:
            OSError: The socket cannot listen.
        """
        sock = self.sock
        assert sock is not None  # only a listener in memory has none
        sock.setblocking(False)
        sock.listen(backlog)  # here, because uvloop ignores an error of it
        for _ in range(_handle_count()):
            await self._accept_on(sock.dup())
        # Again, because `_serve` has set it to ACCEPT_AT_ONCE: asyncio accepts as many connections
        # in one iteration, and logs as many errors when there are no free file descriptors.
        sock.listen(backlog)

    async def _accept_on(self, handle: socket.socket) -> None:
        """Let the loop accept on a duplicate of the socket, which the loop closes."""
        try:
            server = await self._serve(handle)
        except BaseException:
            handle.close()
            raise
        self._servers.append(server)

    async def _serve(self, sock: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        if sock.family != getattr(socket, "AF_UNIX", None):
            return await loop.create_server(self.protocol, sock=sock, backlog=ACCEPT_AT_ONCE)
        create = functools.partial(loop.create_unix_server, self.protocol, sock=sock)
        try:
            # The loop must not remove the file: its owner does, if it is still the same file.
            return await create(backlog=ACCEPT_AT_ONCE, cleanup_socket=False)  # type: ignore[call-arg]  # since 3.13
        except TypeError:  # before Python 3.13 there is no such argument, and no removal
            return await create(backlog=ACCEPT_AT_ONCE)

    def protocol(self) -> asyncio.Protocol:
        """Return the first protocol of a new connection: the loop's protocol factory."""
        if self.proxies is not None:
            return ProxyHeaderReader(self, self.proxies)
        return self.secured(Connection(self))

    def announced(self, header: ProxyHeader) -> asyncio.Protocol:
        """Return the protocol that follows a PROXY header."""
        announces = header.announces
        connection = AnnouncedConnection(self, header) if announces else Connection(self)
        return self.secured(connection)

    def secured(self, connection: Connection) -> asyncio.Protocol:
        """Return a connection as the loop's transport sees it, which is with TLS if there is."""
        return connection if self.worker.certificates is None else TlsStream(connection)

    # -- stop --------------------------------------------------------------------------------------

    def stop_accepting(self) -> None:
        """Stop accepting, if the loop can do that before `close`.

        asyncio needs some more iterations to set up what it has accepted, and its server must be
        open until then.
        """
        loop = asyncio.get_running_loop()
        if isinstance(loop, asyncio.SelectorEventLoop):
            for server in self._servers:
                for handle in server.sockets:
                    loop.remove_reader(handle.fileno())

    def take_backlog(self) -> list[socket.socket]:
        """Accept and return the connections in the backlog: closing the socket would reset them."""
        accepted: list[socket.socket] = []
        with contextlib.suppress(OSError):  # no more connections, or no free file descriptors
            while self.sock is not None and len(accepted) < MAX_WAITING:
                accepted.append(self.sock.accept()[0])
        return accepted

    def close(self) -> None:
        """Stop listening; the loop closes its duplicates of the socket, not the socket itself."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def serve_accepted(self, sock: socket.socket) -> None:
        """Serve a connection that `take_backlog` has accepted."""
        with contextlib.suppress(OSError):  # the client has already disconnected
            await asyncio.get_running_loop().connect_accepted_socket(self.protocol, sock)


def _handle_count() -> int:
    """Return how many handles of a socket the loop needs to accept many connections per iteration.

    uvloop accepts one connection per handle and iteration. When all clients reconnect together, an
    iteration that accepts sixteen costs little more than one that accepts one. The loop closes each
    handle, so all of them are duplicates.
    """
    is_asyncio = isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop)
    return 1 if is_asyncio else ACCEPT_AT_ONCE


def _server_address(sockname: object) -> Address | None:
    """Return the value of a scope's `server`; None for an unnamed Unix socket."""
    if sockname and isinstance(sockname, str):
        return sockname, None  # ASGI: the path of a Unix socket, and None
    return host_and_port(sockname)


def name_of(sock: socket.socket, scheme: str = "http") -> str:
    """Return the address of a listening socket, such as http://127.0.0.1:8000."""
    address = sock.getsockname()
    if sock.family == getattr(socket, "AF_UNIX", None):
        if isinstance(address, bytes):  # an abstract socket: its name starts with a zero byte
            address = "@" + os.fsdecode(address[1:])
        return f"unix socket {address or '(unnamed)'}"
    host = f"[{address[0]}]" if sock.family == socket.AF_INET6 else address[0]
    return f"{scheme}://{host}:{address[1]}"


def _meaning_of_wildcard(sock: socket.socket) -> str:
    """Return which addresses a socket listens on if it is bound to none in particular."""
    host = sock.getsockname()[:1]
    if sock.family == socket.AF_INET and host == ("0.0.0.0",):  # noqa: S104  # not bound here
        return ", all addresses of IPv4"
    if sock.family != socket.AF_INET6 or host != ("::",):
        return ""
    if sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return ", all addresses of IPv6 and none of IPv4"
    return ", all addresses of IPv6 and IPv4"  # a socket that another program opened
