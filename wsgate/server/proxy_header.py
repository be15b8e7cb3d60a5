"""The start of a connection with the PROXY protocol: reads the header, then steps aside."""

import asyncio
import math
from typing import TYPE_CHECKING

from wsgate.asgi.scope import Peer, host_and_port
from wsgate.observe.log_format import format_address
from wsgate.observe.throttled_log import throttled
from wsgate.proxies.proxy_protocol import InvalidProxyHeader, ProxyHeader, parse
from wsgate.server.connection import Connection
from wsgate.server.connection_info import ConnectionInfo, Kind
from wsgate.types import Address

if TYPE_CHECKING:
    from wsgate.proxies.trusted import TrustedPeers
    from wsgate.server.listener import Listener


class ProxyHeaderReader(asyncio.Protocol):
    """The protocol of a transport until the PROXY header of its connection is complete.

    Then the listener's protocol for connections takes the transport over, with the bytes that
    follow the header. The reader counts as an open connection until then, and has the time of a
    request's head. Whatever is wrong aborts the connection; only the log says why.

    bucket: for `Deadlines`.
    """

    __slots__ = (
        "_data",
        "_deadline",
        "_is_admitted",
        "_listener",
        "_peer",
        "_proxies",
        "_transport",
        "_worker",
        "bucket",
        "connection_id",
    )

    def __init__(self, listener: "Listener", proxies: "TrustedPeers") -> None:
        self._listener = listener
        self._proxies = proxies
        self._worker = listener.worker
        self._data = b""
        self._deadline = math.inf
        self._is_admitted = False
        self.bucket: int | None = None
        self.connection_id = listener.worker.connection_ids.new()
        self._peer: Peer
        self._transport: asyncio.Transport

    # -- what the transport reports ----------------------------------------------------------------

    def connection_made(
        self,
        transport: asyncio.Transport,  # type: ignore[override]  # always one here
    ) -> None:
        """Wait for the header of a peer that may send one; abort any other connection."""
        self._transport = transport
        worker, admission = self._worker, self._listener.admission
        client = host_and_port(transport.get_extra_info("peername"))
        self._peer = self._listener.peer(client, transport.get_extra_info("sockname"))
        worker.connections.add(self)
        self._is_admitted = admission.enter(None)
        self._deadline = worker.clock() + worker.config.ws_handshake_timeout
        worker.deadlines.schedule(self, self._deadline)
        if client is None and _is_tcp(self._peer.server):
            self.abort()  # the client has reset it, as HAProxy's checks do: no address is left
        elif not self._proxies.trusts_peer(client, self._peer.server):
            self._refuse("--proxy-allow-from does not list the peer")
        elif worker.stopping or (not self._is_admitted and admission.is_swamped):
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Parse the header, and hand over once it is complete."""
        if self._transport.is_closing():
            return
        self._data += data
        try:
            header = parse(self._data)
        except InvalidProxyHeader as error:
            self._refuse(str(error))
            return
        if header is not None:
            self._hand_over(header)

    def _hand_over(self, header: ProxyHeader) -> None:
        transport, rest = self._transport, self._data[header.size :]
        self._leave()
        connection = self._listener.announced(header)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if rest:
            connection.data_received(rest)

    def eof_received(self) -> None:
        """Log a header that stays incomplete; the transport closes itself.

        A connection without a byte is a check whether the port is open, and not logged.
        """
        if self._data:
            self._refuse("it ended within its PROXY header")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's interface
        """Clean up."""
        self._leave()

    def _leave(self) -> None:
        self._listener.admission.leave(None, was_admitted=self._is_admitted)
        self._worker.connection_ended(self)

    def _refuse(self, reason: str) -> None:
        address = format_address(self._peer.client) or "a Unix socket"
        throttled.warning("Connection from %s closed: %s", address, reason)
        self.abort()

    # -- what the worker calls ---------------------------------------------------------------------

    def check(self, now: float) -> float:
        """Abort the connection if its header is late.

        Args:
            now: Time of the worker's clock in seconds.

        Returns:
            When to check again, infinity for never.
        """
        if now < self._deadline:
            return self._deadline
        self._refuse("its PROXY header did not arrive in time")
        return math.inf

    @property
    def unsent_bytes(self) -> int:
        """Nothing: it has written nothing."""
        return 0

    def stop(self) -> None:
        """Abort the connection: it has no request yet."""
        self.abort()

    def info(self) -> ConnectionInfo:
        """Return what an operator sees of the connection."""
        opened_at = self._deadline - self._worker.config.ws_handshake_timeout
        return ConnectionInfo(Kind.IDLE, self._peer.client, None, opened_at)

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()


class AnnouncedConnection(Connection):
    """A connection whose ends are those that a PROXY header announces."""

    __slots__ = ("_announced",)

    def __init__(self, listener: "Listener", announced: ProxyHeader) -> None:
        super().__init__(listener)
        self._announced = announced

    def find_peer(self, transport: asyncio.Transport) -> Peer:
        """Return the announced addresses of both ends."""
        peer, announced = super().find_peer(transport), self._announced
        peer.client, peer.server = announced.source, announced.destination
        if announced.is_tls:
            peer.scheme = "https"
        return peer


def _is_tcp(server: Address | None) -> bool:
    """Return whether a scope's `server` is an address of TCP; that of a Unix socket has no port."""
    return server is not None and server[1] is not None
