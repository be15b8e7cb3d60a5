"""The HTTP/1.1 driver for trusted proxies: each request has the client that its headers name."""

from enum import Enum

from wsgate.asgi.scope import ForwardedPeer, Peer
from wsgate.http.events import UpgradeRequest
from wsgate.http.request import Request
from wsgate.observe.throttled_log import throttled
from wsgate.proxies.forwarded import NOTHING, Forwarded
from wsgate.server.http1_driver import Http1Driver, report_full, service_unavailable

TIME_TO_SEND = 1.0  # seconds: a proxy connects because it has a request


class Standing(Enum):
    """What the connection counts as; it changes at the first request with the headers."""

    CLIENT = "one of its own address"
    EXCESS = "one too many of its own address, unless it is a proxy's"
    PROXY = "a proxy's: its requests count, for their clients"


_CLIENT, _EXCESS, _PROXY = Standing


class ForwardedHttp1Driver(Http1Driver):
    """Serves requests for the clients that their headers name.

    A trusted address may be that of a proxy, of a client on the same machine, or of both. So a
    connection counts for its own address like any other, until a request has the headers. From then
    on each request and WebSocket counts for its client while the app's call runs. `done` of its
    `Exchange` or `WebSocket` stops counting it: they recognise it by its `ForwardedPeer`.
    """

    __slots__ = ("_standing",)

    _standing: Standing

    def start(self) -> None:
        """Wait for the first request."""
        self._standing = _CLIENT
        super().start()

    def wait_for_proxy(self) -> None:
        """Wait for a first request with the headers: anything else is above the limit.

        A proxy may open more connections than one client may have, before its first request has
        shown that it is one.
        """
        self._set_deadline(TIME_TO_SEND)
        self._standing = _EXCESS

    def serve_request(self, request: Request, peer: Peer) -> bool:
        """Serve a request; one above its client's limit gets a 503, and the connection stays."""
        said = self._read_headers(request)
        if self._standing is not _PROXY:
            if self._standing is _EXCESS:
                report_full()
                self.refuse_request(request, peer)
                return False
            return super().serve_request(request, peer)
        forwarded, admission = self._peer_of(request, said), self.worker.admission
        if not admission.enter_request(forwarded.client):
            _report_limit()
            self.begin_exchange(request, forwarded).answer(service_unavailable())
            return False
        is_served = super().serve_request(request, forwarded)
        if not is_served:
            admission.leave_request(forwarded.client)
        return is_served

    def upgrade(self, upgrade: UpgradeRequest, peer: Peer) -> bool:
        """Serve a handshake, unless it is above its client's limit."""
        said = self._read_headers(upgrade.request)
        if self._standing is not _PROXY:
            if self._standing is _EXCESS:
                report_full()
                self.refuse_handshake(upgrade, peer, service_unavailable())
                return False
            return super().upgrade(upgrade, peer)
        forwarded, admission = self._peer_of(upgrade.request, said), self.worker.admission
        if not admission.enter_request(forwarded.client):
            _report_limit()
            self.refuse_handshake(upgrade, forwarded, service_unavailable())
            return False
        is_served = super().upgrade(upgrade, forwarded)
        if not is_served:
            admission.leave_request(forwarded.client)
        return is_served

    def _read_headers(self, request: Request) -> Forwarded:
        """Return what the headers of a request say; the first ones show that this is a proxy."""
        reader = self.worker.forwarded
        assert reader is not None  # else the connection has another driver
        said = reader.read(request.headers)
        if said is not NOTHING and self._standing is not _PROXY:
            self._standing = _PROXY
            self.wire.share()
        return said

    def _peer_of(self, request: Request, said: Forwarded) -> Peer:
        """Return the peer of a proxy's request, and replace its Host if the proxy names another."""
        peer = self.wire.peer  # a ForwardedPeer, too: for requests without the headers
        if said is NOTHING:
            return peer
        client = said.client if said.names_client else peer.client
        scheme = said.scheme or peer.scheme
        if said.host is not None or said.port is not None:
            host = said.outside_host(request.host, scheme)
            if host is not None:
                request.replace_host(host)
        return ForwardedPeer(client, peer.server, scheme, peer.tls, said.root_path)

    def _set_deadline(self, seconds: float) -> None:
        if self._standing is not _EXCESS:  # that gets no more time for the rest of a head
            super()._set_deadline(seconds)

    def _end_slow_request(self) -> None:
        if self._standing is _EXCESS:
            self.turn_away()
        else:
            super()._end_slow_request()


def _report_limit() -> None:
    throttled.warning("A proxy's client is at --limit-connections-per-ip: answering with 503")
