"""A listener: accepts connections on one listening socket for a worker."""

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeGuard

from wsgate.asgi.scope import Peer, host_and_port
from wsgate.observe.throttled_log import throttled
from wsgate.proxies.proxy_protocol import ProxyHeader
from wsgate.server.connection import Connection
from wsgate.server.proxy_header import AnnouncedConnection, ProxyHeaderReader
from wsgate.server.tls_stream import TlsStream
from wsgate.types import Address

if TYPE_CHECKING:
    from wsgate.server.admission import Admission
    from wsgate.server.worker import Worker

ACCEPT_AT_ONCE = 16  # connections accepted in one loop iteration
# Loop iterations from an accept to the first read of the connection, with a margin.
ACCEPT_ITERATIONS = 6
_RETRY = 1.0  # seconds until accepting is tried again
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
        self._backlog = 0
        self._resuming: asyncio.Task[None] | None = None
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
        self._backlog = backlog
        await self._accept()

    async def _accept(self) -> None:
        """Let the loop accept on the socket. Raises OSError if there is no descriptor for that."""
        assert self.sock is not None  # only a listener in memory has none
        while len(self._servers) < _handle_count(self.worker.other_workers.count):
            await self._accept_on(_Handle(fileno=os.dup(self.sock.fileno())))

    async def _accept_on(self, handle: socket.socket) -> None:
        """Let the loop accept on a duplicate of the socket, which the loop closes."""
        try:
            server = await self._serve(handle)
        except BaseException:
            handle.close()
            raise
        # It is listed before it accepts: who cancels the start closes it. A descriptor of a shared
        # socket that is only closed stays in the kernel's list of the loop (epoll(7)).
        self._servers.append(server)
        await server.start_serving()

    async def _serve(self, sock: socket.socket) -> asyncio.Server:
        """Return a server that does not accept yet."""
        loop = asyncio.get_running_loop()
        # asyncio accepts as many connections in one iteration, and logs as many errors when there
        # are no free file descriptors. uvloop only passes the number on to the kernel.
        backlog = ACCEPT_AT_ONCE if _is_asyncio(loop) else self._backlog
        if sock.family != getattr(socket, "AF_UNIX", None):
            return await loop.create_server(
                self.protocol, sock=sock, backlog=backlog, start_serving=False
            )
        create = functools.partial(
            loop.create_unix_server, self.protocol, sock=sock, start_serving=False
        )
        try:
            # The loop must not remove the file: its owner does, if it is still the same file.
            return await create(backlog=backlog, cleanup_socket=False)  # type: ignore[call-arg]  # since 3.13
        except TypeError:  # before Python 3.13 there is no such argument, and no removal
            return await create(backlog=backlog)

    # -- pauses ------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop accepting until `resume`: the other workers accept on the socket meanwhile."""
        self.stop_accepting()
        servers, self._servers = self._servers, []
        if _is_asyncio(self.worker.loop):
            self._close_later(servers, ACCEPT_ITERATIONS)
        else:
            _close(servers)

    def _stop_resuming(self) -> None:
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None

    def _close_later(self, servers: list[asyncio.Server], iterations: int) -> None:
        """Close servers once the loop has set up what it has accepted."""
        if iterations:
            self.worker.call_soon(functools.partial(self._close_later, servers, iterations - 1))
        else:
            _close(servers)

    def resume(self) -> None:
        """Accept again after `pause`."""
        self._stop_resuming()
        self._resuming = self.worker.loop.create_task(
            self._resume(),
            name="wsgate listener",
            context=self.worker.variables.copy(),  # a context cannot be entered twice
        )

    async def _resume(self) -> None:
        while True:
            try:
                await self._accept()
            except OSError as error:  # no file descriptor is free
                throttled.warning("%s: cannot accept at the moment: %s", self.name, error.strerror)
                await asyncio.sleep(_RETRY)
            else:
                return

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
        self._stop_resuming()
        loop = asyncio.get_running_loop()
        if _is_asyncio(loop):
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
        self._stop_resuming()
        _close(self._servers)
        self._servers.clear()

    async def serve_accepted(self, sock: socket.socket) -> None:
        """Serve a connection that `take_backlog` has accepted."""
        with contextlib.suppress(OSError):  # the client has already disconnected
            await asyncio.get_running_loop().connect_accepted_socket(self.protocol, sock)


class _Handle(socket.socket):
    """A duplicate of a listening socket, for the loop to accept on.

    asyncio's loop would set the backlog of the shared socket to the number of connections that it
    accepts at once, and the kernel would drop connections.
    """

    def listen(self, backlog: int = 0, /) -> None:
        """Do nothing: the socket listens already."""


def _is_asyncio(loop: asyncio.AbstractEventLoop) -> TypeGuard[asyncio.SelectorEventLoop]:
    return isinstance(loop, asyncio.SelectorEventLoop)


def _handle_count(workers: int) -> int:
    """Return how many handles of a socket the loop needs to accept many connections per iteration.

    uvloop accepts one connection per handle and iteration. When all clients reconnect together, an
    iteration that accepts sixteen costs little more than one that accepts one. The loop closes each
    handle, so all of them are duplicates. Every connection wakes the handles of all workers, so
    they share the number.
    """
    if _is_asyncio(asyncio.get_running_loop()):
        return 1
    return max(ACCEPT_AT_ONCE // workers, 1)


def _close(servers: Iterable[asyncio.Server]) -> None:
    for server in servers:
        server.close()


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


def url_of(sock: socket.socket, scheme: str) -> str | None:
    """Return the URL of a listening socket for a client on this machine; None without a port."""
    address = host_and_port(sock.getsockname())
    if address is None:
        return None
    host, port = address
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # not bound here
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


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
