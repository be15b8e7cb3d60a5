"""Timeouts and limits of an open WebSocket, with a clock set by the test."""

import asyncio
import math

import pytest

from tests import frames
from tests.harness.app import text
from tests.harness.client import close_code, text_frame
from tests.harness.memory import Peer, opened, peer
from tests.harness.waiting import turns
from wsgate.server import liveness as module
from wsgate.server.deadlines import LINGER, TICK
from wsgate.server.liveness import _CHECKS_PER_TIMEOUT, RECEIVE_TIMEOUT

LARGE = "x" * 50_000


async def is_open(ws: Peer) -> None:
    """Check that nothing was sent, and that messages still pass in both directions."""
    ws.client.send(text_frame("still here"))
    assert await ws.call.receive_payloads(1) == ["still here"]
    await ws.call.send(text("and here"))
    assert await ws.read_texts(1) == ["and here"]


async def closes(ws: Peer, code: int, reason: str) -> None:
    """Read the server's Close, answer it, and check that the app gets the same code."""
    assert await ws.read_close() == (code, reason)
    ws.client.send(frames.close(code))
    assert await ws.receive_disconnect() == (code, reason)
    await ws.client.ended()


# -- idleness --------------------------------------------------------------------------------------


async def test_an_idle_websocket_is_closed() -> None:
    async with opened(ws_idle_timeout=60, ws_ping_interval=0) as ws:
        await ws.client.advance(59)
        assert not ws.client.received
        await ws.client.advance(1 + TICK)
        await closes(ws, 1001, "idle timeout")


async def test_a_message_in_either_direction_resets_the_idle_timeout() -> None:
    async with opened(ws_idle_timeout=60, ws_ping_interval=0) as ws:
        for _ in range(3):
            await ws.client.advance(50)
            ws.client.send(text_frame("from the client"))
            assert await ws.call.receive_payloads(1) == ["from the client"]
            await ws.client.advance(50)
            await ws.call.send(text("from the app"))
            assert await ws.read_texts(1) == ["from the app"]
        # The message is found at one of eight looks, so the end may be so much later.
        await ws.client.advance(59)
        assert not ws.client.received
        await ws.client.advance(1 + 60 / 8 + TICK)
        await closes(ws, 1001, "idle timeout")


async def test_pings_do_not_reset_the_idle_timeout() -> None:
    async with opened(ws_idle_timeout=60, ws_ping_interval=10) as ws:
        for _ in range(5):
            await ws.client.advance(10)
            ws.client.send(frames.frame(frames.PING, b"me too") + frames.frame(frames.PONG))
            assert {(await ws.read_frame()).opcode for _ in range(2)} == {frames.PING, frames.PONG}
        await ws.client.advance(10 + TICK)
        assert (await ws.read_frame()).opcode == frames.PING
        await closes(ws, 1001, "idle timeout")


async def test_without_an_idle_timeout_a_websocket_may_be_idle() -> None:
    async with opened(ws_ping_interval=0) as ws:
        await ws.client.advance(3_600)
        await is_open(ws)


# -- age -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.9, 1.0, 1.1])
async def test_a_websocket_is_closed_at_its_maximum_age(
    monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr(module, "_between", lambda low, high: share)
    async with opened(ws_max_lifetime=100, ws_ping_interval=0) as ws:
        await ws.client.advance(100 * share - 1)
        await is_open(ws)
        await ws.client.advance(1 + TICK)
        await closes(ws, 1012, "lifetime reached")


async def test_maximum_ages_vary_by_a_tenth() -> None:
    lives = []
    for _ in range(20):
        async with opened(ws_max_lifetime=100, ws_ping_interval=0) as ws:
            began = ws.client.clock.now
            await ws.client.advance(90 - TICK)
            while not ws.client.received:
                await ws.client.advance(TICK)
            lives.append(ws.client.clock.now - began)
            assert await ws.read_close() == (1012, "lifetime reached")
    assert 90 <= min(lives) < max(lives) <= 110 + TICK
    assert max(lives) - min(lives) > 2, "they all end together"


# -- the rate of messages --------------------------------------------------------------------------


async def test_a_client_above_the_message_rate_is_closed() -> None:
    async with opened(ws_max_message_rate=2, ws_max_message_burst=3) as ws:
        for number in range(3):
            ws.client.send(text_frame(str(number)))
        assert await ws.call.receive_payloads(3) == ["0", "1", "2"]
        await ws.client.advance(1)
        ws.client.send(text_frame("3") + text_frame("4"))
        assert await ws.call.receive_payloads(2) == ["3", "4"]
        ws.client.send(text_frame("5"))
        await closes(ws, 1008, "message rate exceeded")


async def test_messages_before_the_rate_was_exceeded_are_delivered() -> None:
    async with opened(ws_max_message_rate=1, ws_max_message_burst=2) as ws:
        ws.client.send(text_frame("0"))
        ws.client.send(text_frame("1"))
        ws.client.send(text_frame("2"))
        assert await ws.call.receive_payloads(2) == ["0", "1"]
        await closes(ws, 1008, "message rate exceeded")


@pytest.mark.parametrize(("rate", "burst"), [(5, 10), (0.1, 1), (0.75, 1), (2.5, 5)])
async def test_the_burst_is_two_seconds_worth(rate: float, burst: int) -> None:
    async with opened(ws_max_message_rate=rate, ws_max_queue=100) as ws:
        for number in range(burst):
            ws.client.send(text_frame(str(number)))
        assert len(await ws.call.receive_payloads(burst)) == burst
        ws.client.send(text_frame("one too many"))
        await closes(ws, 1008, "message rate exceeded")


async def test_messages_after_the_close_do_not_count() -> None:
    async with opened(ws_max_message_rate=1, ws_max_message_burst=1) as ws:
        ws.client.send(b"".join(text_frame(str(number)) for number in range(50)))
        assert await ws.read_close() == (1008, "message rate exceeded")
        ws.client.send(b"".join(text_frame(str(number)) for number in range(50)))
        ws.client.send(frames.close(1008))
        assert await ws.receive_disconnect() == (1008, "message rate exceeded")
        assert await ws.client.ended() == b""


async def test_without_the_setting_there_is_no_rate() -> None:
    async with opened(ws_max_queue=1_000) as ws:
        ws.client.send(text_frame("x") * 1_000)
        assert len(await ws.call.receive_payloads(1_000)) == 1_000


# -- an app that does not receive ------------------------------------------------------------------


async def test_an_app_that_does_not_receive_is_disconnected() -> None:
    async with opened(ws_max_queue=1) as ws:
        ws.client.send(text_frame("a") + text_frame("b"))
        assert ws.client.transport.is_paused
        ws.client.send(frames.frame(frames.PONG))  # it is not read
        await ws.client.advance(RECEIVE_TIMEOUT - 1)
        while ws.client.received:
            assert (await ws.read_frame()).opcode == frames.PING
        await ws.client.advance(1 + RECEIVE_TIMEOUT / _CHECKS_PER_TIMEOUT)
        assert await ws.read_close() == (1011, "the application does not receive")
        ws.client.send(frames.close(1011))
        assert await ws.call.receive_payloads(1) == ["a"]
        assert await ws.receive_disconnect() == (1011, "the application does not receive")


async def test_an_app_that_receives_in_time_is_not_disconnected() -> None:
    async with opened(ws_max_queue=1, ws_ping_interval=0) as ws:
        for _ in range(3):
            ws.client.send(text_frame("a") + text_frame("b"))
            await ws.client.advance(RECEIVE_TIMEOUT - 1)
            assert await ws.call.receive_payloads(2) == ["a", "b"]
            await turns()
        await ws.client.advance(2 * RECEIVE_TIMEOUT)
        await is_open(ws)


# -- a client that does not read -------------------------------------------------------------------


async def test_a_client_that_does_not_read_is_closed() -> None:
    async with opened(ws_send_timeout=30, ws_ping_interval=0, ws_close_timeout=10) as ws:
        ws.client.stall()
        await ws.call.send(text(LARGE))
        sending = ws.call.start_send(text(LARGE))
        await turns()
        assert not sending.done()
        await ws.client.advance(29)
        assert not sending.done()
        await ws.client.advance(1 + TICK)
        await asyncio.wait([sending], timeout=10)
        assert await ws.receive_disconnect() == (1013, "slow consumer")
        await ws.client.advance(LINGER - 2 * TICK)
        assert ws.client.worker.connections
        await ws.client.advance(2 * TICK)  # after LINGER, not after --ws-close-timeout
        assert not ws.client.worker.connections
        assert any("1013 slow consumer" in line for line in ws.log.access)


async def test_a_client_that_does_not_read_after_its_protocol_error() -> None:
    async with opened(ws_send_timeout=3, ws_ping_interval=0) as ws:
        ws.client.stall()
        await ws.call.send(text(LARGE))
        sending = ws.call.start_send(text(LARGE))
        await turns()
        ws.client.send(frames.frame(frames.TEXT, b"\xff"))
        await ws.client.advance(3 + TICK)
        await asyncio.wait([sending], timeout=10)
        assert (await ws.receive_disconnect())[0] == 1007
        await ws.client.advance(LINGER - 2 * TICK)
        assert ws.client.worker.connections
        await ws.client.advance(3 * TICK)  # a reader's time is over, and does not begin again
        assert not ws.client.worker.connections


async def test_a_shorter_close_timeout_still_applies() -> None:
    async with opened(ws_send_timeout=30, ws_ping_interval=0, ws_close_timeout=1) as ws:
        ws.client.stall()
        sending = ws.call.start_send(text(LARGE * 2))
        await ws.client.advance(30 + 1 + 2 * TICK)
        await asyncio.wait([sending], timeout=10)
        assert not ws.client.worker.connections


# -- a peer that is gone ---------------------------------------------------------------------------


async def test_a_peer_that_is_gone_has_no_time_to_answer_our_close() -> None:
    async with opened(ws_ping_interval=10, ws_ping_timeout=5, ws_close_timeout=100) as ws:
        await ws.client.advance(10)
        assert (await ws.read_frame()).opcode == frames.PING
        await ws.client.advance(5 + 1 + TICK)  # a second until the Ping is seen to have left
        assert await ws.read_close() == (1011, "keepalive ping timeout")
        assert await ws.receive_disconnect() == (1011, "keepalive ping timeout")
        await ws.client.advance(LINGER + 2 * TICK)
        assert not ws.client.worker.connections


async def test_a_peer_that_was_only_slow_may_still_answer() -> None:
    async with opened(ws_ping_interval=10, ws_ping_timeout=5) as ws:
        await ws.client.advance(16 + TICK)
        await ws.read_frame()
        assert await ws.read_close() == (1011, "keepalive ping timeout")
        ws.client.send(frames.close(1011))
        await ws.client.ended()


async def test_a_client_that_reads_late_gets_the_close_code() -> None:
    async with opened(ws_send_timeout=30, ws_ping_interval=0) as ws:
        ws.client.stall()
        await ws.call.send(text(LARGE))
        sending = ws.call.start_send(text(LARGE))
        await ws.client.advance(30 + TICK)
        await asyncio.wait([sending], timeout=10)
        ws.client.read_on()
        assert [len((await ws.read_frame()).payload) for _ in range(2)] == [50_000, 50_000]
        await closes(ws, 1013, "slow consumer")


async def test_a_client_that_reads_in_time_is_not_closed() -> None:
    async with opened(ws_send_timeout=30, ws_ping_interval=0) as ws:
        for _ in range(3):
            ws.client.stall()
            await ws.call.send(text(LARGE))
            sending = ws.call.start_send(text(LARGE))
            await ws.client.advance(29)
            ws.client.read_on()
            await asyncio.wait([sending], timeout=10)
            assert await ws.read_texts(2) == [LARGE, LARGE]
        await is_open(ws)


# -- Pings -----------------------------------------------------------------------------------------


async def test_a_client_that_answers_is_checked_once_in_each_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[float] = []
    check = module.Liveness.check

    def note(liveness: module.Liveness, now: float, websocket: module.Watched) -> float:
        checked.append(now)
        return check(liveness, now, websocket)

    monkeypatch.setattr(module.Liveness, "check", note)
    async with opened(ws_ping_interval=20, ws_ping_timeout=20) as ws:
        while not ws.client.received:
            await ws.client.advance(TICK)
        checked.clear()
        for _ in range(10):
            assert (await ws.read_frame()).opcode == frames.PING
            ws.client.send(frames.frame(frames.PONG))
            await ws.client.advance(20 + TICK)
        assert len(checked) == 10


@pytest.mark.parametrize("interval", [0.25, 20.0, 3600.0])
def test_first_pings_are_random_and_at_few_moments(interval: float) -> None:
    now = 1_234.5
    drawn = [module._first_ping(now, interval) for _ in range(1_000)]
    assert 0.5 <= min(drawn) < 0.6
    assert 0.9 < max(drawn) <= 1.0 + 1e-9
    moments = {round(now / interval + first, 6) for first in drawn}
    assert 5 < len(moments) <= 11


async def test_pauses_in_reading_are_found_between_pings() -> None:
    async with opened(ws_max_queue=1, ws_ping_interval=1_000) as ws:
        await ws.client.advance(200)  # a check has found that nothing was paused
        ws.client.send(text_frame("a") + text_frame("b"))
        assert ws.client.transport.is_paused
        await ws.client.advance(RECEIVE_TIMEOUT - 1)
        assert not ws.client.received
        await ws.client.advance(1 + RECEIVE_TIMEOUT / _CHECKS_PER_TIMEOUT)
        assert await ws.read_close() == (1011, "the application does not receive")


# -- several at a time -----------------------------------------------------------------------------


async def test_deadlines_that_expire_together_send_one_close() -> None:
    async with opened(
        ws_idle_timeout=50, ws_send_timeout=50, ws_ping_interval=25, ws_ping_timeout=25
    ) as ws:
        ws.client.stall()
        sending = ws.call.start_send(text(LARGE * 2))
        await ws.client.advance(120)
        await asyncio.wait([sending], timeout=10)
        code = (await ws.receive_disconnect())[0]
        ws.client.read_on()
        closes = [frame for frame in frames.parsed(await ws.client.ended()) if frame.opcode == 8]
        assert [close_code(frame)[0] for frame in closes] in ([], [code])


async def test_no_deadline_applies_after_a_close() -> None:
    async with opened(ws_idle_timeout=2, ws_max_lifetime=2, ws_close_timeout=100) as ws:
        ws.client.send(text_frame("a"))
        await ws.call.send({"type": "websocket.close", "code": 4000})
        await ws.client.advance(50)
        assert await ws.read_close() == (4000, "")
        assert not ws.client.received
        ws.client.send(frames.close(4000))
        await ws.client.ended()


# -- before it is open -----------------------------------------------------------------------------


async def test_an_app_that_does_not_accept_in_time() -> None:
    async with peer(ws_handshake_timeout=10) as ws:
        await ws.request()
        await ws.client.advance(9)
        assert not ws.client.received
        await ws.client.advance(1 + TICK)
        assert (await ws.client.ended()).startswith(b"HTTP/1.1 503 ")
        assert await ws.call.receive() == {"type": "websocket.connect"}
        assert (await ws.receive_disconnect())[0] == 1006
        with pytest.raises(OSError, match="the client has left"):
            await ws.call.send({"type": "websocket.accept"})
        assert ws.log.access == [
            (
                '127.0.0.1:50000 - "WebSocket /" 503 Service Unavailable '
                "(the application did not accept in time)"
            )
        ]


async def test_the_accept_timeout_does_not_apply_to_an_open_websocket() -> None:
    async with peer(ws_handshake_timeout=10, ws_ping_interval=0) as ws:
        await ws.request()
        await ws.client.advance(9)
        await ws.call.accept()
        await ws.client.until(b"\r\n\r\n")
        await ws.client.advance(100)
        await is_open(ws)


# -- the parts -------------------------------------------------------------------------------------


def test_random_values_are_within_their_bounds() -> None:
    drawn = [module._between(0.5, 1.0) for _ in range(1_000)]
    assert 0.5 <= min(drawn) < 0.6
    assert 0.9 < max(drawn) <= 1.0
    assert math.isclose(sum(drawn) / 1_000, 0.75, abs_tol=0.05)
