"""What one loop iteration flushes of many connections, by both twins, and that nothing is lost."""

import asyncio
from typing import Any

import pytest

from tests.server.twins import Twin
from wsgate.server.fast_path import MAX_FLUSHED
from wsgate.server.write_batch import MIN_LATE

FIRST = MAX_FLUSHED + MIN_LATE  # how many the iteration flushes in which too many were written


def streams_of(twin: Twin, count: int) -> list[Any]:
    return [twin.stream_type(twin.batch) for _ in range(count)]


def is_sent(stream: Any) -> bool:
    return bool(stream.transport.written)


async def turn() -> None:
    """Let one iteration of the loop pass."""
    await asyncio.sleep(0)


@pytest.mark.parametrize("count", [0, 1, MAX_FLUSHED])
async def test_up_to_the_limit_all_are_flushed_at_once(twin: Twin, count: int) -> None:
    streams = streams_of(twin, count)
    for stream in streams:
        stream.write(b"x")
    await turn()
    assert all(is_sent(stream) for stream in streams)
    assert not twin.batch.has_late
    assert not twin.batch.is_scheduled


async def test_more_are_flushed_in_the_next_iterations_in_order(twin: Twin) -> None:
    streams = streams_of(twin, FIRST + MAX_FLUSHED + 10)
    for stream in streams:
        stream.write(b"x")
    for flushed in (FIRST, FIRST + MAX_FLUSHED, len(streams)):
        await turn()
        assert [is_sent(stream) for stream in streams] == [
            number < flushed for number in range(len(streams))
        ]
    assert not twin.batch.has_late
    assert not twin.batch.is_scheduled
    assert all(stream.transport.written == [b"x"] for stream in streams)


async def test_what_is_written_in_this_iteration_goes_first(twin: Twin) -> None:
    streams = streams_of(twin, 4 * MAX_FLUSHED)
    for stream in streams:
        stream.write(b"to all")
    await turn()
    twin.stream.write(b"an answer")
    await turn()
    assert twin.written == [b"an answer"]
    assert sum(map(is_sent, streams)) == FIRST + MAX_FLUSHED - 1


async def test_the_late_ones_are_not_kept_waiting_by_others(twin: Twin) -> None:
    late = streams_of(twin, FIRST + 2 * MIN_LATE)
    for stream in late:
        stream.write(b"late")
    await turn()
    others = streams_of(twin, MAX_FLUSHED)
    for expected in (FIRST + MIN_LATE, len(late)):
        for stream in others:
            stream.write(b"x")
        await turn()
        assert sum(map(is_sent, late)) == expected
    assert all(len(stream.transport.written) == 2 for stream in others)


async def test_a_late_connection_keeps_its_order(twin: Twin) -> None:
    streams = streams_of(twin, FIRST + 1)
    for stream in streams:
        stream.write(b"1")
    await turn()
    last = streams[-1]
    assert not is_sent(last)
    last.write(b"2")
    last.write(b"3")
    await turn()
    assert last.transport.written == [b"123"]
    last.write(b"4")
    await turn()
    assert last.transport.written == [b"123", b"4"]


async def test_a_late_connection_may_write_much(twin: Twin) -> None:
    streams = streams_of(twin, FIRST + 1)
    for stream in streams:
        stream.write(b"1")
    await turn()
    last = streams[-1]
    last.write(b"2" * 70_000)
    assert last.transport.written == [b"1" + b"2" * 70_000], "it leaves at once, after what waited"
    last.transport.unsent = 1
    last.write(b"3")
    await turn()
    assert last.transport.written[1:] == [b"3"]


async def test_connections_that_are_closed_in_between_are_left_out(twin: Twin) -> None:
    streams = streams_of(twin, FIRST + MAX_FLUSHED)
    for stream in streams:
        stream.write(b"x")
    await turn()
    for stream in streams[1::2]:
        stream.transport.is_broken = True
    await turn()
    await turn()
    assert [is_sent(stream) for stream in streams[FIRST:]] == [True, False] * (MAX_FLUSHED // 2)
    assert all(stream.pending is None for stream in streams)
    assert not twin.batch.has_late


async def test_a_connection_that_fails_does_not_keep_the_others(twin: Twin) -> None:
    streams = streams_of(twin, FIRST + MAX_FLUSHED + 1)
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))

    def fail(data: Any) -> None:
        raise OSError("broken")

    for number in (5, FIRST + 5):
        streams[number].transport.write = fail
    for stream in streams:
        stream.write(b"x")
    for _ in range(4):
        await turn()
    assert [stream.aborts for stream in streams].count(1) == 2
    assert sum(map(is_sent, streams)) == len(streams) - 2
    assert [str(failure["exception"]) for failure in failures] == ["broken", "broken"]
    assert not twin.batch.has_late
