"""Flow control of a WebSocket in memory: the receive queue, slow clients, Pings and Pongs."""

import asyncio
import itertools

import pytest

from tests import frames
from tests.frames import BINARY, PING, PONG, TEXT, frame
from tests.harness.app import close, text
from tests.harness.client import BAD_FRAME, text_frame
from tests.harness.memory import opened
from tests.harness.waiting import soon, turns
from wsgate.errors import ClientDisconnected
from wsgate.server.deadlines import LINGER

MIB = 1 << 20


# -- the queue ------------------------------------------------------------------------------------


async def test_queue_is_bounded_in_messages() -> None:
    async with opened() as ws:
        for i in range(100):
            ws.client.send(text_frame(str(i)))
        # All others stay with the client.
        assert ws.client.transport.is_paused
        assert len(ws.client._outbox) == len(b"".join(text_frame(str(i)) for i in range(16, 100)))
        assert await ws.call.receive_payloads(100) == list(map(str, range(100)))
        await turns()
        assert not ws.client.transport.is_paused


async def test_queue_is_bounded_in_bytes() -> None:
    message = b"a" * 600_000
    async with opened() as ws:
        for _ in range(5):
            ws.client.send(frame(BINARY, message))
            await turns(50)
        assert ws.client.transport.is_paused
        assert len(ws.client._outbox) == 3 * len(frame(BINARY, message))
        assert await ws.call.receive_payloads(5) == [message] * 5
        await turns()
        assert not ws.client.transport.is_paused


async def test_empty_queue_accepts_a_message_larger_than_its_limit() -> None:
    async with opened(ws_max_queue_size=1_000) as ws:
        for _ in range(3):
            ws.client.send(frame(BINARY, b"a" * 100_000))
            await turns(50)
        assert ws.client.transport.is_paused
        for _ in range(3):
            assert await ws.call.receive_payloads(1) == [b"a" * 100_000]


async def test_queue_of_one() -> None:
    async with opened(ws_max_queue=1) as ws:
        ws.client.send(b"".join(text_frame(str(i)) for i in range(50)) + frames.close(1000))
        assert await ws.call.receive_payloads(50) == list(map(str, range(50)))
        assert await ws.receive_disconnect() == (1000, "")


async def test_app_with_many_messages_yields_to_the_loop() -> None:
    async with opened() as ws:
        ws.client.send(text_frame("a") * 2_000)
        seen = 0
        steps: list[int] = []

        async def other() -> None:
            while True:
                steps.append(seen)
                await asyncio.sleep(0)

        task = asyncio.ensure_future(other())
        for seen in range(1, 2_001):  # noqa: B007  # the other task reads it
            assert (await ws.call._receive())["text"] == "a"
        task.cancel()
        # One is received; as many as the queue holds come after it.
        assert max(b - a for a, b in itertools.pairwise(steps)) <= 17


async def test_two_tasks_receive_at_once() -> None:
    async with opened() as ws:
        first, second = ws.call.start_receive(), ws.call.start_receive()
        await turns()
        ws.client.send(text_frame("a"))
        await turns()
        assert first.result() == {"type": "websocket.receive", "text": "a"}
        assert not second.done()
        third = ws.call.start_receive()
        await turns()
        ws.client.send(text_frame("b") + frames.close(1000))
        events = [await soon(second), await soon(third)]
        assert [event["type"] for event in events] == [
            "websocket.receive",
            "websocket.disconnect",
        ]


@pytest.mark.parametrize("moment", ["while it waits", "as the message comes"])
async def test_cancelled_receive_loses_no_message(moment: str) -> None:
    async with opened() as ws:
        for i in range(20):
            waiting = ws.call.start_receive()
            await turns()
            if moment == "while it waits":
                waiting.cancel()
                await turns()
                ws.client.send(text_frame(str(i)))
            else:
                ws.client.send(text_frame(str(i)))
                waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()
            assert await ws.call.receive_payloads(1) == [str(i)]


# -- sending --------------------------------------------------------------------------------------


async def test_send_waits_above_the_high_water_mark() -> None:
    async with opened() as ws:
        ws.client.stall()
        await soon(ws.call.send(text("a" * 60_000)))  # below the mark
        sending = ws.call.start_send(text("b" * 10_000))
        await turns()
        assert not sending.done()
        ws.client.read_on()
        await soon(sending)
        assert await ws.read_texts(2) == ["a" * 60_000, "b" * 10_000]


async def test_several_tasks_send_at_once() -> None:
    async with opened() as ws:
        ws.client.stall()
        sizes = 30_000
        tasks = [ws.call.start_send(text(f"{i:02}" + "a" * sizes)) for i in range(20)]
        await turns()
        assert [task.done() for task in tasks].count(True) == 2
        # What waits is not in the buffer: 3 messages have crossed the mark.
        assert ws.client.transport.get_write_buffer_size() < 4 * sizes
        ws.client.read_on()
        await soon(asyncio.gather(*tasks))
        assert [message[:2] for message in await ws.read_texts(20)] == [
            f"{i:02}" for i in range(20)
        ]


async def test_cancelled_senders_leave_the_others_alone() -> None:
    async with opened() as ws:
        ws.client.stall()
        tasks = [ws.call.start_send(text(f"{i}" + "a" * 70_000)) for i in range(6)]
        await turns()
        assert not any(task.done() for task in tasks)
        for cancelled in (0, 2, 4):  # the first has written its message already
            tasks[cancelled].cancel()
        await turns()
        ws.client.read_on()
        done = await soon(asyncio.gather(*tasks, return_exceptions=True))
        assert [type(result) for result in done] == [asyncio.CancelledError, type(None)] * 3
        assert [message[0] for message in await ws.read_texts(4)] == list("0135")
        await ws.call.send(text("go on"))
        assert await ws.read_texts(1) == ["go on"]


async def test_messages_of_receivers_that_are_cancelled_together_keep_their_order() -> None:
    async with opened() as ws:
        waiting = [asyncio.create_task(soon(ws.call.receive())) for _ in range(2)]
        await turns()
        ws.client.send(text_frame("one") + text_frame("two"))
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert await ws.call.receive_payloads(2) == ["one", "two"]


@pytest.mark.parametrize("way", ["eof", "drop", "close", "app closes"])
async def test_waiting_senders_end_with_the_connection(way: str) -> None:
    async with opened() as ws:
        ws.client.stall()
        wrote = ws.call.start_send(text("a" * 70_000))
        waits = [ws.call.start_send(text("b")), ws.call.start_send(text("c"))]
        await turns()
        if way == "close":
            ws.client.send(frames.close())
        elif way == "app closes":
            await ws.call.send(close())
        else:
            getattr(ws.client, way)()
        await soon(wrote)  # its message is on its way, as far as it goes
        for waiting in waits:
            with pytest.raises(ClientDisconnected):
                await soon(waiting)


async def test_slow_consumer_is_closed_and_then_aborted() -> None:
    async with opened(ws_send_timeout=30, ws_close_timeout=10, ws_ping_interval=0) as ws:
        ws.client.stall()
        wrote, waits = ws.call.start_send(text("a" * 70_000)), ws.call.start_send(text("b"))
        await turns()
        await ws.client.advance(29.5)
        assert not wrote.done()
        await ws.client.advance(1)
        await soon(wrote)
        with pytest.raises(ClientDisconnected):
            await soon(waits)
        assert await ws.receive_disconnect() == (1013, "slow consumer")
        await ws.client.advance(LINGER - 1)
        assert ws.client.worker.connections
        await ws.client.advance(1)
        await ws.wait_closed()
        assert "[closed] 1013 slow consumer after 32." in ws.log.access[1]


async def test_slow_consumer_that_reads_late_gets_the_close_code() -> None:
    async with opened(ws_send_timeout=30, ws_ping_interval=0) as ws:
        ws.client.stall()
        ws.call.start_send(text("a" * 70_000))
        await turns()
        await ws.client.advance(31)
        ws.client.read_on()
        assert (await ws.read_frame()).opcode == TEXT
        assert await ws.read_close() == (1013, "slow consumer")
        ws.client.send(frames.close(1013))
        assert await ws.client.ended() == b""


async def test_consumer_that_reads_in_time_is_not_slow() -> None:
    async with opened(ws_send_timeout=30, ws_ping_interval=0) as ws:
        for _ in range(4):
            ws.client.stall()
            sending = ws.call.start_send(text("a" * 70_000))
            await turns()
            await ws.client.advance(20)
            assert not sending.done()
            ws.client.read_on()
            await soon(sending)
            await ws.read_texts(1)
        await ws.client.advance(100)
        assert not ws.client.is_ended


# -- pings ----------------------------------------------------------------------------------------


async def test_pings_are_answered_without_the_app() -> None:
    async with opened() as ws:
        ws.client.send(b"".join(frame(PING, b"%d" % i) for i in range(300)))
        for i in range(300):
            assert await ws.read_frame() == (PONG, b"%d" % i, True, 0)
        ws.client.send(frame(PONG, b"unasked"))
        await turns()
        assert not ws.client.received


async def test_above_the_high_water_mark_only_the_latest_ping_is_answered() -> None:
    async with opened() as ws:
        ws.client.stall()
        sending = ws.call.start_send(text("a" * 70_000))
        await turns()
        buffered = ws.client.transport.get_write_buffer_size()
        for i in range(500):
            ws.client.send(frame(PING, b"%03d" % (2 * i)) + frame(PING, b"%03d" % (2 * i + 1)))
            if i % 100 == 0:
                await turns()
        assert ws.client.transport.get_write_buffer_size() == buffered
        ws.client.read_on()
        await soon(sending)
        await ws.read_texts(1)
        assert await ws.read_frame() == (PONG, b"999", True, 0)
        ws.client.send(frame(PING, b"a") + frame(PING, b"b"))
        assert await ws.read_frame() == (PONG, b"a", True, 0)
        assert await ws.read_frame() == (PONG, b"b", True, 0)
        ws.client.send(frames.close(1000))
        await ws.read_frame()
        assert f"out 1/{70_010 + 5 + 3 + 3 + 4} B" in ws.log.access[1]


@pytest.mark.parametrize("way", ["close", "drop", "app closes"])
async def test_waiting_pong_is_dropped_at_the_end_of_the_session(way: str) -> None:
    async with opened() as ws:
        ws.client.stall()
        sending = ws.call.start_send(text("a" * 70_000))
        await turns()
        ws.client.send(frame(PING, b"a"))
        await turns()
        if way == "close":
            ws.client.send(frames.close(1000))
        elif way == "drop":
            ws.client.drop()
        else:
            await ws.call.send(close(1000))
        await turns()
        await soon(sending)
        ws.client.read_on()
        if way != "drop":
            await ws.read_texts(1)
            if way == "app closes":
                assert await ws.read_frame() == (PONG, b"a", True, 0)  # it still may leave
            assert await ws.read_close() == (1000, "")
        await turns()
        assert not ws.client.received


async def test_pong_waits_until_the_gate_is_open() -> None:
    async with opened() as ws:
        ws.client.stall()
        sending = ws.call.start_send(text("a" * 70_000))
        await turns()
        ws.client.send(frame(PING, b"a"))
        ws.client.send(BAD_FRAME)  # wakes the waiting senders, which check the session's state
        await turns()
        assert not sending.done()
        ws.client.read_on()
        await soon(sending)
        await ws.read_texts(1)
        assert await ws.read_frame() == (PONG, b"a", True, 0)


async def test_ping_is_sent_every_interval() -> None:
    async with opened(ws_ping_interval=20, ws_ping_timeout=20) as ws:
        await ws.client.advance(9.5)
        assert not ws.client.received
        await ws.client.advance(11)  # the first one comes within the second half
        assert (await ws.read_frame()).opcode == PING
        ws.client.send(frame(PONG))
        times = []
        for _ in range(5):
            start = ws.client.clock.now
            while not ws.client.received:
                await ws.client.advance(0.25)
            assert (await ws.read_frame()).opcode == PING
            ws.client.send(frame(PONG))
            times.append(ws.client.clock.now - start)
        assert times[1:] == pytest.approx([20] * 4, abs=0.6)
        assert not ws.client.is_ended


async def test_silent_peer_is_closed_with_1011() -> None:
    async with opened(ws_ping_interval=20, ws_ping_timeout=8, ws_close_timeout=3) as ws:
        while not ws.client.received:
            await ws.client.advance(0.25)
        assert (await ws.read_frame()).opcode == PING
        await ws.client.advance(7.75)
        assert not ws.client.received
        await ws.client.advance(2)
        assert await ws.read_close() == (1011, "keepalive ping timeout")
        assert await ws.receive_disconnect() == (1011, "keepalive ping timeout")
        await ws.client.advance(3.5)
        await ws.wait_closed()


async def test_any_byte_counts_as_alive() -> None:
    huge = iter(frame(BINARY, b"a" * 10_000))
    async with opened(ws_ping_interval=20, ws_ping_timeout=8) as ws:
        for i in range(600):  # seconds
            await ws.client.advance(1)
            if i % 7 == 0:
                ws.client.send(bytes([next(huge)]))
        assert not ws.client.is_ended
        assert {f.opcode for f in frames.parsed(bytes(ws.client.received))} == {PING}


async def test_time_spent_paused_does_not_count_as_silence() -> None:
    async with opened(ws_ping_interval=20, ws_ping_timeout=8) as ws:
        ws.client.send(text_frame("a") * 20)
        await ws.client.advance(100)
        assert ws.client.transport.is_paused
        assert (await ws.read_frame()).opcode == PING
        ws.client.send(frame(PONG))  # it is not received
        await ws.client.advance(100)
        assert not ws.client.received  # one is enough until it can be answered
        assert await ws.call.receive_payloads(20) == ["a"] * 20
        await ws.client.advance(21)
        assert (await ws.read_frame()).opcode == PING
        await ws.client.advance(10)
        assert (await ws.read_close())[0] == 1011


async def test_time_spent_paused_is_limited() -> None:
    async with opened(ws_ping_interval=20, ws_ping_timeout=8) as ws:
        ws.client.send(text_frame("a") * 20)
        await ws.client.advance(299)
        assert (await ws.read_frame()).opcode == PING
        assert not ws.client.received
        await ws.client.advance(20)
        assert (await ws.read_close())[0] == 1011
        assert await ws.call.receive_payloads(16) == ["a"] * 16
        assert (await ws.receive_disconnect())[0] == 1011


async def test_ping_timeout_starts_when_the_ping_is_sent() -> None:
    async with opened(ws_ping_interval=20, ws_ping_timeout=8, ws_send_timeout=1_000) as ws:
        ws.client.stall()
        await ws.call.send(text("a"))  # far below the mark, and not read
        await ws.client.advance(100)
        assert not ws.client.is_ended
        ws.client.read_on()
        await ws.read_texts(1)
        assert (await ws.read_frame()).opcode == PING
        await ws.client.advance(7)
        assert not ws.client.received
        await ws.client.advance(3)
        assert (await ws.read_close())[0] == 1011


async def test_ping_interval_of_0_disables_pings() -> None:
    async with opened(ws_ping_interval=0) as ws:
        await ws.client.advance(1_000)
        ws.client.send(text_frame("a"))
        assert await ws.call.receive_payloads(1) == ["a"]
        await ws.client.advance(1_000)
        assert not ws.client.received
        assert not ws.client.is_ended
