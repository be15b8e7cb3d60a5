"""The other workers of the machine: plain publications go to them without the hub."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable, Sequence

from wsgate.brokers.local import worker_socket
from wsgate.brokers.local.frame_connection import FrameConnection
from wsgate.brokers.local.frame_server import FrameServer
from wsgate.brokers.local.peer import Peer
from wsgate.brokers.local.peer_link import PeerLink
from wsgate.brokers.local.waiting_frames import WaitingFrames
from wsgate.topics.messages import Delivered, Message, PeerHello
from wsgate.topics.wire_format import WireError, encode

PATIENCE = 0.5  # seconds to wait for a worker that does not answer or read, until it does again
MAX_UNREAD = PATIENCE / 2  # seconds after which a publish reads first what has arrived
READ_ITERATIONS = 3  # of the loop, in which all that has arrived is read, on asyncio and on uvloop
CHECK_INTERVAL = 1.0  # seconds between two checks whether a worker still exists


class Mesh:
    """All other workers, with one connection to each.

    The hub names the workers to each other. A new hub may not know one that does not run, so this
    worker also finds those before it by their files. Of two, the one whose name is less connects.

    Args:
        topics: The topics that this worker has attached.
        on_publication: Called with each publication of another worker.
        count_dropped: Called with the cause for each publication that is dropped.

    Attributes:
        name: The name of this worker.
        peers: The other workers by their names.
        settled: Set when a hub has named all others, for the first time.
    """

    def __init__(
        self,
        topics: Iterable[str],
        on_publication: Callable[[Delivered], object],
        count_dropped: Callable[[str], object],
    ) -> None:
        self.name = worker_socket.make_name()
        self.peers: dict[str, Peer] = {}
        self.settled = asyncio.Event()
        self._topics = topics
        self._on_publication = on_publication
        self._count_dropped = count_dropped
        # What is published before the hub has named all others: each that it names gets it.
        self._early = WaitingFrames(lambda: count_dropped("hub"))
        self._read_at = (
            -math.inf
        )  # when the loop has last read what had arrived, as far as is known
        self._hub = ""  # the path of its socket
        self._server = FrameServer(lambda _: None, self._take, self._end)
        self._peer_of: dict[FrameConnection, Peer] = {}
        self._links: dict[Peer, asyncio.Task[None]] = {}
        self._checks: dict[Peer, asyncio.TimerHandle] = {}

    # -- start and stop ----------------------------------------------------------------------------

    async def listen(self, hub: str) -> None:
        """Accept connections of other workers, unless that is done already. Raises OSError.

        Args:
            hub: The path of the hub's socket; ours is beside it.
        """
        if not self._hub:
            sock = worker_socket.listen(worker_socket.path_of(hub, self.name))
            self._hub = hub
            await self._server.start(sock)
            for name in worker_socket.find_names(hub):
                if name != self.name:
                    self.add(name)

    async def stop(self) -> None:
        """End all connections. What was published is sent first, to those that read it soon."""
        if self._hub:
            worker_socket.remove(self._path_of(self.name))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*[connection.send_all() for connection in self._peer_of])
        self._remove_all()
        if self._links:
            await asyncio.wait(self._links.values())
        await self._server.stop()
        self._remove_all()  # those that have connected meanwhile

    def _remove_all(self) -> None:
        for peer in list(self.peers.values()):
            self._remove(peer)

    def _path_of(self, name: str) -> str:
        return worker_socket.path_of(self._hub, name)

    # -- the other workers -------------------------------------------------------------------------

    def add_all(self, names: Iterable[str]) -> None:
        """Add the workers that a hub knows; others may not have connected to it yet."""
        for name in names:
            self.add(name)
        # These workers have a copy. What is dropped here from now on is lost only for workers that
        # are not known yet, if there are any: so it is not counted.
        self._early = WaitingFrames(lambda: None, self._early)

    def settle(self) -> None:
        """Note that the hub has named all workers."""
        self.settled.set()
        self._early.take_all()

    def add(self, name: str) -> Peer:
        """Return another worker; if it is new, one of the two connects."""
        peer = self.peers.get(name)
        if peer is None:
            peer = Peer(name, self._topics, self._on_publication, self._count_dropped, self._early)
            self.peers[name] = peer
            if self.name < name:
                self._start_link(peer)
            else:
                self._plan_check(peer)
        return peer

    def _remove(self, peer: Peer) -> None:
        """Forget a worker that does not exist any more, and what waits for it."""
        del self.peers[peer.name]
        peer.close()
        if peer in self._links:
            self._links[peer].cancel()
        if peer in self._checks:
            self._checks.pop(peer).cancel()

    def _plan_check(self, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        self._checks[peer] = loop.call_later(CHECK_INTERVAL, self._check, peer)

    def _check(self, peer: Peer) -> None:
        """Check whether a worker that should connect still exists."""
        if (planned := self._checks.pop(peer, None)) is not None:
            planned.cancel()
        if peer.connection is not None:
            return
        if worker_socket.is_listening(self._path_of(peer.name)):
            self._plan_check(peer)
        else:
            self._remove(peer)

    # -- connections -------------------------------------------------------------------------------

    def _start_link(self, peer: Peer) -> None:
        link = PeerLink(
            self._path_of(peer.name),
            lambda connection: self._greet(peer, connection),
            self._take,
            self._end,
            lambda: self._remove(peer),
        )
        task = asyncio.get_running_loop().create_task(link.run())
        if not task.done():  # else it has ended within `create_task`
            self._links[peer] = task
            task.add_done_callback(lambda _: self._links.pop(peer, None))

    def _greet(self, peer: Peer, connection: FrameConnection) -> None:
        connection.send(PeerHello(self.name))
        self._begin(peer, connection)

    def _begin(self, peer: Peer, connection: FrameConnection) -> None:
        self._peer_of[connection] = peer
        peer.begin(connection)

    def _take(self, connection: FrameConnection, message: Message) -> None:
        peer = self._peer_of.get(connection)
        if peer is not None:
            peer.take(message)
        elif isinstance(message, PeerHello):
            self._begin(self.add(message.name), connection)
        else:
            raise WireError(f"{type(message).__name__} is out of place")

    def _end(self, connection: FrameConnection) -> None:
        peer = self._peer_of.pop(connection, None)
        if peer is None:
            return
        peer.end(connection)
        if self.peers.get(peer.name) is peer and peer.name < self.name:  # it connects, not we
            self._check(peer)

    # -- topics and publications -------------------------------------------------------------------

    def want(self, topic: str) -> None:
        """Ask all for the publications of a topic."""
        for peer in self.peers.values():
            peer.want(topic)

    def detach(self, topic: str) -> None:
        """Ask for no more publications of a topic."""
        for peer in self.peers.values():
            peer.detach(topic)

    async def wait_until_noted(self) -> None:
        """Wait until all know what was asked for; a short time for those that do not answer."""
        found = {peer: peer.wait_until_noted() for peer in self.peers.values()}
        waiters = {waiter: peer for peer, waiter in found.items() if waiter is not None}
        if waiters:
            _, pending = await asyncio.wait(waiters, timeout=PATIENCE)
            for waiter in pending:
                waiters[waiter].is_silent = True

    async def publish(self, topic: str, data: str | bytes) -> None:
        """Send a message to those that have attached its topic."""
        if self.peers and asyncio.get_running_loop().time() - self._read_at > MAX_UNREAD:
            await self._read_first()
        peers = [peer for peer in self.peers.values() if peer.wants(topic)]
        if not peers and self.settled.is_set():
            return
        frame = encode(Delivered(0, topic, None, 0, 0, data))
        if not self.settled.is_set():
            self._early.add(topic, frame)
        for peer in peers:
            peer.publish(topic, frame)
        full = [peer for peer in peers if peer.is_full]
        if full:
            await self._wait_for_readers(full)

    async def _read_first(self) -> None:
        """Read what has arrived: while the loop was blocked, a worker may have asked for a topic.

        Nobody waits longer than PATIENCE until this worker has noted it.
        """
        for _ in range(READ_ITERATIONS):
            await asyncio.sleep(0)
        self._read_at = asyncio.get_running_loop().time()

    async def _wait_for_readers(self, peers: Sequence[Peer]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                for peer in peers:
                    await peer.drain()
        except TimeoutError:
            for peer in peers:
                peer.is_stuck = peer.is_full
