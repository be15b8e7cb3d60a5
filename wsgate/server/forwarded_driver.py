"""The HTTP/1.1 driver for trusted proxies: each request has the client that its headers name."""

from enum import Enum

from wsgate.asgi.scope import ForwardedPeer, Peer
from wsgate.http.events import UpgradeRequest
from wsgate.http.request import Request
from wsgate.observe.throttled_log import throttled
from wsgate.proxies.forwarded import NOTHING
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
        peer = self._peer_of(request, peer)
        if self._standing is _CLIENT:
            return super().serve_request(request, peer)
        if self._enter(peer):
            return self._leave_unless(super().serve_request(request, peer), peer)
        if self._standing is _PROXY:
            self.begin_exchange(request, peer).answer(service_unavailable())
        else:
            self.refuse_request(request, peer)
        return False

    def upgrade(self, upgrade: UpgradeRequest, peer: Peer) -> bool:
        """Serve a handshake, unless it is above its client's limit."""
        peer = self._peer_of(upgrade.request, peer)
        if self._enter(peer):
            return self._leave_unless(super().upgrade(upgrade, peer), peer)
        self.refuse_handshake(upgrade, peer, service_unavailable())
        return False

    def _peer_of(self, request: Request, peer: Peer) -> Peer:
        """Return the peer of a request, and replace its Host if the proxy names another.

        The first headers show that the connection is a proxy's. peer: that of the connection.
        """
        reader = self.worker.forwarded
        assert reader is not None  # else the connection has another driver
        template = request.template  # has the names of a known head's fields, which is quicker
        if template is not None and reader.names.isdisjoint(template.positions):
            return peer
        said = reader.read(request.headers)
        if said is NOTHING:
            return peer
        if self._standing is not _PROXY:
            self._standing = _PROXY
            self.wire.share()
        client = said.client if said.names_client else peer.client
        scheme = said.scheme or peer.scheme
        if said.host is not None or said.port is not None:
            host = said.outside_host(request.host, scheme)
            if host is not None:
                request.replace_host(host)
        return ForwardedPeer(client, peer.server, scheme, peer.tls, said.root_path)

    def _enter(self, peer: Peer) -> bool:
        """Count a proxy's request; return False and log it if a request is above a limit."""
        if self._standing is _CLIENT:
            return True
        if self._standing is _EXCESS:
            report_full()
            return False
        if self.worker.admission.enter_request(peer.client):
            return True
        throttled.warning("A proxy's client is at --limit-connections-per-ip: answering with 503")
        return False

    def _leave_unless(self, is_served: bool, peer: Peer) -> bool:  # it is passed on
        """Stop counting a proxy's request that was refused for another reason."""
        if self._standing is _PROXY and not is_served:
            self.worker.admission.leave_request(peer.client)
        return is_served

    def _set_deadline(self, seconds: float) -> None:
        if self._standing is not _EXCESS:  # that gets no more time for the rest of a head
            super()._set_deadline(seconds)

    def _end_slow_request(self) -> None:
        if self._standing is _EXCESS:
            self.turn_away()
        else:
            super()._end_slow_request()
