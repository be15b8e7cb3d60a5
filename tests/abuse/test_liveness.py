"""Peers that vanish, stall, do not answer or reset: each is dropped at its deadline.

Options shorten the deadlines; the app's `hasty` shortens those that have no option. A deadline may
be LATE seconds late, plus the period of the sweep, and EARLY seconds early.
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
    Counts,
    Socket,
    connected,
    opened,
    serving,
    wait_for_calls,
)
from tests.abuse.harness import Target
from tests.apps.abuse_flow import KERNEL, MESSAGES, RECEIVE_TIMEOUT, SIZE
from tests.harness.client import close_code, handshake, text_frame
from tests.harness.waiting import pause

pytestmark = pytest.mark.asyncio(loop_scope="module")

# SEND_TIMEOUT and RECEIVE_TIMEOUT are longer than a Ping's timeout: it must not fire before them.
PING_INTERVAL, PING_TIMEOUT, SEND_TIMEOUT, CLOSE_TIMEOUT = 0.25, 0.5, 3.0, 1.5
APP = "tests.apps.abuse_flow:app"
OPTIONS = (
    *("--ws-ping-interval", str(PING_INTERVAL), "--ws-ping-timeout", str(PING_TIMEOUT)),
    *("--ws-send-timeout", str(SEND_TIMEOUT), "--ws-close-timeout", str(CLOSE_TIMEOUT)),
)
FLUSH_CHECK = 1.0  # seconds until a Ping is seen to have left the write buffer
LINGER = 2.0  # seconds for a client to close TCP after the closing handshake
EARLY, LATE = 0.3, 5.0  # seconds by which a deadline may be off: clocks, and a loaded machine
HIGH_WATER = 65_536  # bytes in the write buffer at which senders wait
CROWD = 200

_NAMES = count()


def new_name() -> str:
    """Return a name that no other test uses."""
    return f"n{next(_NAMES)}"


def kept(took: float, deadline: float, slack: float = 0.0) -> bool:
    """Return whether a deadline was kept. slack: seconds that it may be late by design."""
    return deadline - EARLY <= took <= deadline + slack + LATE


async def test_a_peer_that_never_answers_pings_is_closed_with_1011_at_the_deadline(
    server: Target, measured: Measured
) -> None:
    name = new_name()
    async with opened(server, f"/talk/{name}") as client:
        assert await client.read_frame() == (frames.PING, b"", True, 0)
        pinged = time.monotonic()
        assert close_code(await client.read_frame()) == (1011, "keepalive ping timeout")
        took = time.monotonic() - pinged
        found = await wait_for_calls(server, "ended", name, 1)
        await client.read_end()  # the Close was not answered
    assert kept(took, PING_TIMEOUT, slack=FLUSH_CHECK)
    assert found == Counts(1, 1, 0, 0, {1011: 1}, 1)
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
            assert (await client.read_frame()).opcode == frames.PING  # no Pong is sent
            await client.send(bytes([next(rest)]))
        took = time.monotonic() - began
        await client.send(bytes(rest) + frame[-1:])
        assert (await client.read_until(frames.BINARY)).payload == payload
    measured(
        "a frame that takes longer than the Ping timeout, no Pong",
        f"survives longer than {PING_TIMEOUT} s",
        f"{took:.2f} s",
    )


async def test_a_slow_consumer_is_closed_with_1013_and_not_with_1011(
    server: Target, measured: Measured
) -> None:
    name = new_name()
    async with opened(server, f"/pour/{name}", window=WINDOW) as client:
        began = time.monotonic()
        found = await wait_for_calls(server, "ended", name, 1)
        took = time.monotonic() - began
        # The client is not gone: it reads all that was sent, and the Close after it.
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
    assert found.max_sent <= texts < MESSAGES
    measured("a client that reads nothing", f"1013 after {SEND_TIMEOUT} s", f"{took:.2f} s")


async def test_two_hundred_clients_that_do_not_read_ten_thousand_messages_each(
    server: Target, measured: Measured
) -> None:
    name = new_name()
    async with contextlib.AsyncExitStack() as stack:
        before = server.watch_memory()
        for _ in range(CROWD):
            await stack.enter_async_context(opened(server, f"/pour/{name}", window=WINDOW))
        all_open = time.monotonic()
        echo = await server.echo()  # other clients are served
        found = await wait_for_calls(server, "ended", name, CROWD)
        took = time.monotonic() - all_open
        grown = server.memory().peak - before
        await server.check_released()  # before any of the clients closes
    each = grown / CROWD
    assert found.codes == {1013: CROWD}
    assert found.repeated == CROWD
    assert each <= 3 * (HIGH_WATER + SIZE), "a write buffer, and the rest of a connection"
    assert found.max_sent <= MESSAGES / 4
    assert took <= SEND_TIMEOUT + LATE
    measured(
        f"{CROWD} clients never read {MESSAGES} messages of {SIZE} bytes",
        f"a buffer of {HIGH_WATER} bytes and a message; then 1013",
        f"{each / 1024:.0f} KiB each; at most {found.max_sent} messages accepted, including the "
        f"kernel's buffer; all ended {took:.1f} s after the last connected; an echo took "
        f"{echo:.3f} s",
    )


async def _stay_silent_after_our_close(server: Target, name: str, sends: bytes = b"") -> float:
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
    names = new_name(), new_name()
    silent, talking = await asyncio.gather(
        _stay_silent_after_our_close(server, names[0]),
        _stay_silent_after_our_close(server, names[1], sends=text_frame("x" * 50_000)),
    )
    for name in names:
        found = await wait_for_calls(server, "ended", name, 1)
        assert (found.codes, found.received, found.repeated) == ({4000: 1}, 1, 1)
    assert kept(silent, CLOSE_TIMEOUT)
    assert kept(talking, CLOSE_TIMEOUT)
    measured(
        "client ignores our Close; client ignores our Close and keeps sending",
        f"aborted after {CLOSE_TIMEOUT} s",
        f"{silent:.2f} s; {talking:.2f} s",
    )


async def test_tcp_is_closed_at_once_after_both_closes(server: Target, measured: Measured) -> None:
    # RFC 6455 section 7.1.1: after both Closes the server closes TCP at once.
    name = new_name()
    async with opened(server, f"/talk/{name}") as client:
        await client.send(frames.close(1001))
        assert close_code(await client.read_until(frames.CLOSE)) == (1001, "")
        await client.read_end()
        with contextlib.suppress(ConnectionError):
            while True:  # the kernel answers with a reset: the socket is closed
                await client.send(b"x" * 1_000)
    found = await wait_for_calls(server, "ended", name, 1)
    assert found == Counts(1, 1, 0, 0, {1001: 1}, 1)
    measured("TCP kept open after both Closes", "closed at once", "reset")


async def test_a_peer_that_keeps_tcp_open_after_a_protocol_error_is_aborted_at_the_deadline(
    server: Target, measured: Measured
) -> None:
    name = new_name()
    async with opened(server, f"/talk/{name}") as client:
        await client.send(frames.frame(0x3))
        assert close_code(await client.read_until(frames.CLOSE)) == (1002, "protocol error")
        began = time.monotonic()
        await client.read_end()
        with contextlib.suppress(ConnectionError):
            while True:  # it is discarded, and later answered with a reset
                await client.send(b"x" * 1_000)
        took = time.monotonic() - began
    found = await wait_for_calls(server, "ended", name, 1)
    assert found == Counts(1, 1, 0, 0, {1002: 1}, 1)
    assert kept(took, LINGER)
    measured("TCP kept open after a protocol error", f"aborted after {LINGER} s", f"{took:.2f} s")


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
    await wait_for_calls(server, "started", name, 1)
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
    await wait_for_calls(server, "sent", name, 10)
    return client


async def after_the_close_of_the_client(server: Target, name: str) -> Socket:
    client = await _talking(server, name)
    await client.send(frames.close(3000))
    assert close_code(await client.read_until(frames.CLOSE)) == (3000, "")
    return client


async def after_our_close(server: Target, name: str) -> Socket:
    client = await _talking(server, name)
    await client.send(text_frame("close"))
    assert close_code(await client.read_until(frames.CLOSE)) == (4000, "")
    return client


# ASGI: websocket.disconnect comes "when either connection to the client is lost, either from the
# client closing the connection, the server closing the connection, or loss of the socket", and its
# code is "the WebSocket close code". If a Close was sent or received before the reset, its code is
# kept. Without one the code is 1006, also before the accept. The app is not called for an
# incomplete request, so it gets no disconnect.
@pytest.mark.parametrize(
    ("stage", "codes"),
    [
        (after_the_connect, []),
        (in_the_middle_of_the_head, []),
        (before_the_accept, [1006]),
        (after_the_accept, [1006]),
        (in_the_middle_of_a_frame, [1006]),
        (while_the_app_sends, [1006]),
        (after_the_close_of_the_client, [3000]),
        (after_our_close, [4000]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_reset(server: Target, measured: Measured, stage: Stage, codes: list[int]) -> None:
    name = new_name()
    client = await stage(server, name)
    began = time.monotonic()
    client.reset()
    found = await wait_for_calls(server, "ended", name, len(codes))
    took = time.monotonic() - began
    await server.check_released()
    assert found.started == found.ended == found.repeated == len(codes)
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
    await wait_for_calls(server, "started", name, 1)
    await client.send(text_frame("x") * 10_000)
    return client


@pytest.mark.parametrize("loop_name", ["uvloop"])
async def test_a_silent_peer_is_dropped_though_reading_is_paused(
    loop_name: str, measured: Measured
) -> None:
    name = new_name()
    async with serving(loop_name, *OPTIONS, hasty=True) as server:
        client = await with_reading_paused(server, name)
        with contextlib.closing(client.sock):
            began = time.monotonic()
            # Pings are sent, but a Pong cannot be read: the peer must not time out for that.
            frame = await client.read_until(frames.CLOSE)
            took = time.monotonic() - began
            assert close_code(frame) == (1011, "the application does not receive")
            await client.read_end()
            aborted = time.monotonic() - began - took
            await server.ask("/release", method="POST")
            found = await wait_for_calls(server, "ended", name, 1)
    assert kept(took, RECEIVE_TIMEOUT)
    assert kept(aborted, CLOSE_TIMEOUT)
    assert (found.codes, found.repeated) == ({1011: 1}, 1)
    assert found.received <= 16, "messages that wait for the app"
    measured(
        "a silent peer, reading paused",
        f"1011 after {RECEIVE_TIMEOUT} s, aborted {CLOSE_TIMEOUT} s later",
        f"{took:.2f} s, {aborted:.2f} s",
    )


_NEW_NETWORK = 0x4000_0000  # CLONE_NEWNET


class Network:
    """A private network namespace with only a loopback interface, which can be taken down."""

    def unplug(self) -> None:
        """Take the interface down: everything sent is lost silently."""
        self._set("down")

    def plug(self) -> None:
        """Bring the interface up."""
        self._set("up")

    @staticmethod
    def _set(how: str) -> None:
        subprocess.run(["ip", "link", "set", "lo", how], check=True)


@pytest.fixture
def network() -> Iterator[Network]:
    """Move this thread into a private network namespace; processes started in it inherit it."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_NEW_NETWORK):
            pytest.skip(f"no private network: {os.strerror(ctypes.get_errno())}")
        try:
            found = Network()
            try:
                found.plug()
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"the interface cannot be set up: {error}")
            yield found
        finally:
            assert libc.setns(home, _NEW_NETWORK) == 0
    finally:
        os.close(home)


NO_PINGS = ("--ws-ping-interval", "0")


@dataclass(frozen=True, slots=True)
class Vanishing:
    """When a peer vanishes: the close code that the app receives, and the deadline in seconds.

    late: seconds that it may be late by design. hasty: the deadline has no option.
    """

    stage: Stage
    options: tuple[str, ...]
    code: int
    deadline: float
    late: float = 0.0
    hasty: bool = False


VANISHING = {
    "idle": Vanishing(after_the_accept, OPTIONS, 1011, PING_TIMEOUT, PING_INTERVAL + FLUSH_CHECK),
    "while sending to it": Vanishing(
        while_the_app_sends, (*OPTIONS, *NO_PINGS), 1013, SEND_TIMEOUT
    ),
    "reading paused": Vanishing(with_reading_paused, OPTIONS, 1011, RECEIVE_TIMEOUT, hasty=True),
    "without Pings": Vanishing(after_the_accept, NO_PINGS, 1006, KERNEL, late=1.0, hasty=True),
}


async def _wait_for_end(server: Target, what: Vanishing, name: str, began: float) -> float:
    """Wait until the WebSocket has ended and its file descriptor is closed; return the seconds."""
    line = await server.process.logged(rf'{name}" \[closed\] (\d+)')
    took = time.monotonic() - began
    assert int(line[1]) == what.code
    while len(server.files()) > server._files:  # the Close is lost, too, so TCP is aborted
        assert time.monotonic() < began + took + CLOSE_TIMEOUT + LATE
        await pause(0.05)
    return took


@pytest.mark.parametrize("loop_name", ["uvloop"])
async def test_peers_that_vanish_silently(
    network: Network, loop_name: str, measured: Measured
) -> None:
    name = new_name()
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
                all_ended = (
                    _wait_for_end(server, what, name, began)
                    for server, what in zip(servers, VANISHING.values(), strict=True)
                )
                times = await asyncio.gather(*all_ended)
            finally:
                network.plug()
        for server, (when, what), took in zip(servers, VANISHING.items(), times, strict=True):
            await server.ask("/release", method="POST")
            found = await wait_for_calls(server, "ended", name, 1)
            assert (found.codes, found.repeated) == ({what.code: 1}, 1), when
            # If the Close cannot be sent, the end is logged when TCP ends.
            assert kept(took, what.deadline, what.late + CLOSE_TIMEOUT), when
            measured(f"a peer vanishes: {when}", f"{what.code}, {what.deadline} s", f"{took:.2f} s")
