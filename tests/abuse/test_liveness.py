"""Peers that vanish, stall, do not answer and break off: each is dropped at its deadline.

The deadlines are shortened by options; those that have none are shortened by the app's `hasty`.
A deadline is kept within LATE and the grain of the sweep, and never early.
"""

import asyncio
import contextlib
import ctypes
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import count

import pytest

from tests import frames
from tests.abuse.conftest import Measured
from tests.abuse.flow import (
    WINDOW,
    Socket,
    Told,
    connected,
    opened,
    serving,
    told,
)
from tests.abuse.harness import Target
from tests.apps.abuse_flow import KERNEL, MAX_PAUSE, MESSAGES, SIZE
from tests.harness.client import close_code, handshake, text_frame
from tests.harness.waiting import pause

pytestmark = pytest.mark.asyncio(loop_scope="module")

# The two that end in 1013, or while reading is paused, come later than a Ping's 1011 would.
PING_INTERVAL, PING_TIMEOUT, SEND_TIMEOUT, CLOSE_TIMEOUT = 0.25, 0.5, 3.0, 1.5
APP = "tests.apps.abuse_flow:app"
OPTIONS = (
    *("--ws-ping-interval", str(PING_INTERVAL), "--ws-ping-timeout", str(PING_TIMEOUT)),
    *("--ws-send-timeout", str(SEND_TIMEOUT), "--ws-close-timeout", str(CLOSE_TIMEOUT)),
)
FLUSH_CHECK = 1.0  # seconds until a Ping is seen to have left the write buffer
LINGER = 2.0  # seconds for a client to close TCP behind a closing handshake
EARLY, LATE = 0.3, 5.0  # seconds that a deadline may be off: clocks, and a loaded machine
HIGH_WATER = 65_536  # bytes of a write buffer, and one message
CROWD = 200

_NAMES = count()


def fresh() -> str:
    """Return a name that no other test's WebSockets have."""
    return f"n{next(_NAMES)}"


def kept(took: float, deadline: float, slack: float = 0.0) -> bool:
    """Tell whether something happened at its deadline; slack: how late it may be by design."""
    return deadline - EARLY <= took <= deadline + slack + LATE


async def test_a_peer_that_never_answers_pings_is_closed_with_1011_at_the_deadline(
    server: Target, measured: Measured
) -> None:
    name = fresh()
    async with opened(server, f"/talk/{name}") as client:
        assert await client.read_frame() == (frames.PING, b"", True, 0)
        pinged = time.monotonic()
        assert close_code(await client.read_frame()) == (1011, "keepalive ping timeout")
        took = time.monotonic() - pinged
        found = await told(server, "ended", name, 1)
        await client.read_end()  # though we did not answer the Close
    assert kept(took, PING_TIMEOUT, slack=FLUSH_CHECK)
    assert found == Told(1, 1, 0, 0, {1011: 1}, 1)
    measured("a peer answers no Ping", f"1011 in {PING_TIMEOUT + FLUSH_CHECK} s", f"{took:.2f} s")


async def test_a_frame_that_takes_longer_than_the_ping_timeout_keeps_its_client_alive(
    server: Target, measured: Measured
) -> None:
    payload = b"x" * 1_000
    frame = frames.frame(frames.BINARY, payload)
    async with opened(server, "/") as client:
        began = time.monotonic()
        head, rest = frame[:-500], iter(frame[-500:-1])
        await client.send(head)
        while time.monotonic() < began + 2 * (PING_TIMEOUT + FLUSH_CHECK):
            assert (await client.read_frame()).opcode == frames.PING  # and never a Pong
            await client.send(bytes([next(rest)]))
        took = time.monotonic() - began
        await client.send(bytes(rest) + frame[-1:])
        assert (await client.read_until(frames.BINARY)).payload == payload
    measured("one frame sent for long, no Pong", f"lives over {PING_TIMEOUT} s", f"{took:.2f} s")


async def test_a_slow_consumer_is_closed_with_1013_and_not_with_1011(
    server: Target, measured: Measured
) -> None:
    name = fresh()
    async with opened(server, f"/pour/{name}", window=WINDOW) as client:
        began = time.monotonic()
        found = await told(server, "ended", name, 1)
        took = time.monotonic() - began
        # It is not gone: it reads on, and finds all that was sent, and the Close behind it.
        texts = 0
        while (frame := await client.read_frame()).opcode == frames.TEXT:
            assert len(frame.payload) == SIZE
            texts += 1
        while frame.opcode == frames.PING:
            frame = await client.read_frame()
        assert close_code(frame) == (1013, "slow consumer")
        await client.send(frames.close(1013))
        await client.read_end()
    assert kept(took, SEND_TIMEOUT)
    assert found.codes == {1013: 1}
    assert found.most_sent <= texts < MESSAGES
    measured("a client that reads nothing", f"1013 after {SEND_TIMEOUT} s", f"{took:.2f} s")


async def test_two_hundred_clients_that_never_read_ten_thousand_messages_each(
    server: Target, measured: Measured
) -> None:
    name = fresh()
    async with contextlib.AsyncExitStack() as stack:
        before = server.watch_memory()
        for _ in range(CROWD):
            await stack.enter_async_context(opened(server, f"/pour/{name}", window=WINDOW))
        all_open = time.monotonic()
        echo = await server.echo()  # meanwhile all the others are served
        found = await told(server, "ended", name, CROWD)
        took = time.monotonic() - all_open
        grown = server.memory().peak - before
        await server.calm()  # not one of them has closed
    each = grown / CROWD
    assert found.codes == {1013: CROWD}
    assert found.again == CROWD
    assert each <= 3 * (HIGH_WATER + SIZE), "a write buffer, and what else a connection is"
    assert found.most_sent <= MESSAGES / 4
    assert took <= SEND_TIMEOUT + LATE
    measured(
        f"{CROWD} clients never read {MESSAGES} messages of {SIZE} bytes",
        f"a buffer holds {HIGH_WATER} and a message; then 1013",
        f"{each / 1024:.0f} KiB each; at most {found.most_sent} messages taken, kernel's buffer "
        f"included; all ended {took:.1f} s after the last came; an echo meanwhile {echo:.3f} s",
    )


async def _silent_behind_our_close(server: Target, name: str, sends: bytes = b"") -> float:
    async with opened(server, f"/talk/{name}") as client:
        await client.send(text_frame("close"))
        assert close_code(await client.read_until(frames.CLOSE)) == (4000, "")
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            if sends:
                while True:
                    await client.send(sends)
        await client.read_end()
        return time.monotonic() - began


async def test_peers_that_never_complete_the_close_are_aborted_at_the_deadline(
    server: Target, measured: Measured
) -> None:
    names = fresh(), fresh()
    silent, talking = await asyncio.gather(
        _silent_behind_our_close(server, names[0]),
        _silent_behind_our_close(server, names[1], sends=text_frame("x" * 50_000)),
    )
    for name in names:
        found = await told(server, "ended", name, 1)
        assert (found.codes, found.received, found.again) == ({4000: 1}, 1, 1)
    assert kept(silent, CLOSE_TIMEOUT)
    assert kept(talking, CLOSE_TIMEOUT)
    measured(
        "no answer to our Close; data behind it without end",
        f"aborted after {CLOSE_TIMEOUT} s",
        f"{silent:.2f} s; {talking:.2f} s",
    )


async def test_a_peer_that_closes_but_keeps_tcp_open_holds_nothing(
    server: Target, measured: Measured
) -> None:
    # RFC 6455 section 7.1.1: behind both Closes the server closes TCP at once.
    name = fresh()
    async with opened(server, f"/talk/{name}") as client:
        await client.send(frames.close(1001))
        assert close_code(await client.read_until(frames.CLOSE)) == (1001, "")
        await client.read_end()
        with contextlib.suppress(ConnectionError):
            while True:  # the kernel answers with a reset, for nobody has the socket any more
                await client.send(b"x" * 1_000)
    found = await told(server, "ended", name, 1)
    assert found == Told(1, 1, 0, 0, {1001: 1}, 1)
    measured("TCP kept open behind both Closes", "closed at once", "reset")


async def test_a_peer_that_keeps_tcp_open_behind_a_fault_is_aborted_at_the_deadline(
    server: Target, measured: Measured
) -> None:
    name = fresh()
    async with opened(server, f"/talk/{name}") as client:
        await client.send(frames.frame(0x3))
        assert close_code(await client.read_until(frames.CLOSE)) == (1002, "protocol error")
        began = time.monotonic()
        await client.read_end()
        with contextlib.suppress(ConnectionError):
            while True:  # it is thrown away, and then answered with a reset
                await client.send(b"x" * 1_000)
        took = time.monotonic() - began
    found = await told(server, "ended", name, 1)
    assert found == Told(1, 1, 0, 0, {1002: 1}, 1)
    assert kept(took, LINGER)
    measured("TCP kept open behind a fault", f"aborted after {LINGER} s", f"{took:.2f} s")


# -- resets ------------------------------------------------------------------------------------

Stage = Callable[[Target, str], Awaitable[Socket]]


async def _talking(server: Target, name: str) -> Socket:
    client = await connected(server)
    await client.send(handshake(target=f"/talk/{name}"))
    assert await client.read_head() == 101
    return client


async def after_the_connect(server: Target, name: str) -> Socket:
    return await connected(server)


async def in_the_middle_of_the_head(server: Target, name: str) -> Socket:
    client = await connected(server)
    await client.send(handshake(target=f"/talk/{name}")[:-10])
    return client


async def before_the_accept(server: Target, name: str) -> Socket:
    client = await connected(server)
    await client.send(handshake(target=f"/early/{name}"))
    await told(server, "begun", name, 1)
    return client


async def after_the_accept(server: Target, name: str) -> Socket:
    return await _talking(server, name)


async def in_the_middle_of_a_frame(server: Target, name: str) -> Socket:
    client = await _talking(server, name)
    await client.send(text_frame("whole"))
    assert (await client.read_until(frames.TEXT)).payload == b"whole"
    await client.send(text_frame("x" * 1_000)[:-1])
    return client


async def while_the_app_sends(server: Target, name: str) -> Socket:
    client = await connected(server, window=WINDOW)
    await client.send(handshake(target=f"/pour/{name}"))
    await told(server, "sent", name, 10)
    return client


async def behind_its_close(server: Target, name: str) -> Socket:
    client = await _talking(server, name)
    await client.send(frames.close(3000))
    assert close_code(await client.read_until(frames.CLOSE)) == (3000, "")
    return client


async def behind_our_close(server: Target, name: str) -> Socket:
    client = await _talking(server, name)
    await client.send(text_frame("close"))
    assert close_code(await client.read_until(frames.CLOSE)) == (4000, "")
    return client


# ASGI: websocket.disconnect comes "when either connection to the client is lost, either from the
# client closing the connection, the server closing the connection, or loss of the socket", and its
# code is "the WebSocket close code". Where a Close went before the reset, either way, its code says
# why the WebSocket ended, and the reset only how TCP did: the first code stays. Before the accept
# there is no WebSocket that could have a code, so that is 1006, too. A client whose request has not
# come whole is none that an app could be told of.
@pytest.mark.parametrize(
    ("stage", "codes"),
    [
        (after_the_connect, []),
        (in_the_middle_of_the_head, []),
        (before_the_accept, [1006]),
        (after_the_accept, [1006]),
        (in_the_middle_of_a_frame, [1006]),
        (while_the_app_sends, [1006]),
        (behind_its_close, [3000]),
        (behind_our_close, [4000]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_reset(server: Target, measured: Measured, stage: Stage, codes: list[int]) -> None:
    name = fresh()
    client = await stage(server, name)
    began = time.monotonic()
    client.reset()
    found = await told(server, "ended", name, len(codes))
    took = time.monotonic() - began
    await server.calm()
    assert found.begun == found.ended == found.again == len(codes)
    assert found.codes == dict.fromkeys(codes, 1)
    assert took <= LATE
    measured(
        f"a reset {stage.__name__.replace('_', ' ')}",
        f"noticed at once; disconnects: {codes}",
        f"{took:.3f} s; disconnects: {found.codes}",
    )


# -- peers that vanish -------------------------------------------------------------------------


async def with_reading_paused(server: Target, name: str) -> Socket:
    """Fill the queue of an app that does not receive, so that reading is paused."""
    client = await connected(server)
    await client.send(handshake(target=f"/deaf/{name}"))
    assert await client.read_head() == 101
    await told(server, "begun", name, 1)
    await client.send(text_frame("x") * 10_000)
    return client


@pytest.mark.parametrize("loop_name", ["uvloop"])
async def test_a_silent_peer_is_dropped_though_reading_is_paused(
    loop_name: str, measured: Measured
) -> None:
    name = fresh()
    async with serving(loop_name, *OPTIONS, hasty=True) as server:
        client = await with_reading_paused(server, name)
        with contextlib.closing(client.sock):
            began = time.monotonic()
            # Pings go out, and no Pong can be seen: that is not held against the peer.
            frame = await client.read_until(frames.CLOSE)
            took = time.monotonic() - began
            assert close_code(frame) == (1011, "the application does not receive")
            await client.read_end()
            aborted = time.monotonic() - began - took
            await server.ask("/release", method="POST")
            found = await told(server, "ended", name, 1)
    assert kept(took, MAX_PAUSE)
    assert kept(aborted, CLOSE_TIMEOUT)
    assert (found.codes, found.again) == ({1011: 1}, 1)
    assert found.received <= 16, "messages that wait for the app"
    measured(
        "a silent peer, reading paused",
        f"1011 after {MAX_PAUSE} s, aborted {CLOSE_TIMEOUT} s later",
        f"{took:.2f} s, {aborted:.2f} s",
    )


_NEW_NETWORK = 0x4000_0000  # CLONE_NEWNET


class Network:
    """A network of this process's own, which holds nothing but a loopback; it can be unplugged."""

    def unplug(self) -> None:
        """Take it down: what is sent is lost, and nobody is told."""
        self._set("down")

    def plug(self) -> None:
        """Bring it up."""
        self._set("up")

    @staticmethod
    def _set(how: str) -> None:
        subprocess.run(["ip", "link", "set", "lo", how], check=True)


@pytest.fixture
def network() -> Iterator[Network]:
    """Move into a network of one's own; processes started meanwhile are in it, too."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_NEW_NETWORK):
            pytest.skip(f"no network of one's own: {os.strerror(ctypes.get_errno())}")
        try:
            found = Network()
            try:
                found.plug()
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"a network cannot be plugged: {error}")
            yield found
        finally:
            assert libc.setns(home, _NEW_NETWORK) == 0
    finally:
        os.close(home)


NO_PINGS = ("--ws-ping-interval", "0")


@dataclass(frozen=True, slots=True)
class Vanishing:
    """When a peer vanishes, what the app is told, and when. late: how late that may be by design.

    hasty: the deadline has no option. The kernel's is not for a session that closes by itself.
    """

    stage: Stage
    options: tuple[str, ...]
    code: int
    deadline: float
    late: float = 0.0
    hasty: bool = False


VANISHING = {
    "idle": Vanishing(after_the_accept, OPTIONS, 1011, PING_TIMEOUT, PING_INTERVAL + FLUSH_CHECK),
    "sent to": Vanishing(while_the_app_sends, (*OPTIONS, *NO_PINGS), 1013, SEND_TIMEOUT),
    "reading paused": Vanishing(with_reading_paused, OPTIONS, 1011, MAX_PAUSE, hasty=True),
    "no pings": Vanishing(after_the_accept, NO_PINGS, 1006, KERNEL, late=1.0, hasty=True),
}


async def _is_told(server: Target, what: Vanishing, name: str, began: float) -> float:
    """See it ended, and its file descriptor closed, while the network is down."""
    line = await server.process.logged(rf'{name}" \[closed\] (\d+)')
    took = time.monotonic() - began
    assert int(line[1]) == what.code
    while len(server.files()) > server._files:  # the Close is lost, too: it is aborted
        assert time.monotonic() < began + took + CLOSE_TIMEOUT + LATE
        await pause(0.05)
    return took


@pytest.mark.parametrize("loop_name", ["uvloop"])
async def test_peers_that_vanish_without_a_word(
    network: Network, loop_name: str, measured: Measured
) -> None:
    name = fresh()
    async with contextlib.AsyncExitStack() as stack:
        servers = []
        for what in VANISHING.values():
            serves = serving(loop_name, *what.options, hasty=what.hasty)
            servers.append(await stack.enter_async_context(serves))
        with contextlib.ExitStack() as sockets:
            for server, what in zip(servers, VANISHING.values(), strict=True):
                client = await what.stage(server, name)
                sockets.enter_context(contextlib.closing(client.sock))
            began = time.monotonic()
            network.unplug()
            try:
                all_told = (
                    _is_told(server, what, name, began)
                    for server, what in zip(servers, VANISHING.values(), strict=True)
                )
                times = await asyncio.gather(*all_told)
            finally:
                network.plug()
        for server, (when, what), took in zip(servers, VANISHING.items(), times, strict=True):
            await server.ask("/release", method="POST")
            found = await told(server, "ended", name, 1)
            assert (found.codes, found.again) == ({what.code: 1}, 1), when
            # A Close that cannot leave is logged with the end of TCP.
            assert kept(took, what.deadline, what.late + CLOSE_TIMEOUT), when
            measured(f"a peer vanishes: {when}", f"{what.code}, {what.deadline} s", f"{took:.2f} s")
