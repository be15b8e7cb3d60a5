"""The HTTP/1.1 driver of a trusted proxy's connection: each request has a client of its own."""

from wsgate.asgi.scope import ForwardedPeer, Peer
from wsgate.http.events import UpgradeRequest
from wsgate.http.request import Request
from wsgate.observe.throttled_log import throttled
from wsgate.proxies.forwarded import NOTHING
from wsgate.server.http1_driver import Http1Driver, service_unavailable


class ForwardedHttp1Driver(Http1Driver):
    """Serves requests for the clients that their headers name.

    Each request and WebSocket counts for its client while the app's call runs. `done` of its
    `Exchange` or `WebSocket` stops counting it: they recognise it by its `ForwardedPeer`.
    """

    __slots__ = ()

    def serve_request(self, request: Request, peer: Peer) -> bool:
        """Serve a request; one above its client's limit gets a 503, and the connection stays."""
        forwarded, admission = self._read_headers(request, peer), self.worker.admission
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
        forwarded, admission = self._read_headers(upgrade.request, peer), self.worker.admission
        if not admission.enter_request(forwarded.client):
            _report_limit()
            self.refuse_handshake(upgrade, forwarded, service_unavailable())
            return False
        is_served = super().upgrade(upgrade, forwarded)
        if not is_served:
            admission.leave_request(forwarded.client)
        return is_served

    def _read_headers(self, request: Request, peer: Peer) -> Peer:
        """Return the peer of a request, and replace its Host if the proxy names another.

        peer: that of the connection, a `ForwardedPeer` too: for requests without these headers.
        """
        reader = self.worker.forwarded
        assert reader is not None  # else the connection has another driver
        said = reader.read(request.headers)
        if said is NOTHING:
            return peer
        client = said.client if said.names_client else peer.client
        scheme = said.scheme or peer.scheme
        if said.host is not None or said.port is not None:
            host = said.outside_host(request.host, scheme)
            if host is not None:
                request.replace_host(host)
        return ForwardedPeer(client, peer.server, scheme, peer.tls, said.root_path)


def _report_limit() -> None:
    throttled.warning("A proxy's client is at --limit-connections-per-ip: answering with 503")
