"""The meter of messages, compiled and plain, and what the message path counts with it."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.frames import BINARY, TEXT, frame
from tests.server.twins import PLAIN, Twin
from wsgate.metrics.families import EVENT_TIME, MESSAGE_SIZE
from wsgate.server import fast_path
from wsgate.server.message_meter import PlainMessageMeter

try:
    from wsgate.server._fast_path import MessageMeter
except ImportError:  # no compiler was found
    MessageMeter = PlainMessageMeter  # type: ignore[assignment, misc]  # the same class

METERS: dict[str, Any] = {meter.__module__: meter for meter in (PlainMessageMeter, MessageMeter)}
MESSAGES = st.one_of(
    st.binary(max_size=100),
    st.text(max_size=100),
    st.sampled_from(MESSAGE_SIZE.bounds).flatmap(
        lambda bound: st.sampled_from([bound - 1, bound, bound + 1]).map(lambda n: bytes(int(n)))
    ),
    st.text(alphabet="a\xe4\u20ac\U0001f600\ud800", max_size=100),
)


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=list(METERS.values()), ids=list(METERS))
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return each of the meters' classes in turn."""
    meter: Callable[..., Any] = request.param
    return meter


@given(messages=st.lists(MESSAGES, max_size=5), times=st.integers(0, 1000))
def test_the_twins_count_the_same_sizes(messages: list[str | bytes], times: int) -> None:
    meters = [make() for make in METERS.values()]
    for meter in meters:
        for message in messages:
            meter.record_received(message)
            meter.record_sent(message, times)
            meter.record_sent(message)
    found = [(*map(tuple, (meter.received(), meter.sent())),) for meter in meters]
    assert found.count(found[0]) == len(found)
    sizes = [
        len(one.encode(errors="surrogatepass")) if isinstance(one, str) else len(one)
        for one in messages
    ]
    assert sum(found[0][0][0]) == len(messages)
    assert found[0][0][1] == sum(sizes)
    assert sum(found[0][1][0]) == (times + 1) * len(messages)
    assert found[0][1][1] == (times + 1) * sum(sizes)


def test_a_size_is_counted_in_the_first_bucket_that_holds_it(make: Callable[..., Any]) -> None:
    for index, bound in enumerate(MESSAGE_SIZE.bounds):
        for size, bucket in ((int(bound), index), (int(bound) + 1, index + 1)):
            meter = make()
            meter.record_received(bytes(size))
            counts, _ = meter.received()
            assert [number for number, count in enumerate(counts) if count] == [bucket]


@pytest.mark.parametrize("factor", [1.0, 1 + 1e-9])
def test_a_time_is_counted_in_the_first_bucket_that_holds_it(
    make: Callable[..., Any], factor: float
) -> None:
    for index, bound in enumerate(EVENT_TIME.bounds):
        meter = make()
        meter.record_event(bound * factor)
        counts, total = meter.events()
        assert [number for number, count in enumerate(counts) if count] == [index + (factor > 1)]
        assert math.isclose(total, bound, rel_tol=1e-6)


async def test_the_path_counts_what_is_received_and_sent(twin: Twin) -> None:
    twin.batch.message_meter = meter = meter_of(twin)()
    arrival = twin.path.expect()
    twin.path.data(frame(TEXT, "gr\u00fc\u00df"))
    assert await arrival == "gr\u00fc\u00df"
    arrival = twin.path.expect()
    twin.path.data(frame(BINARY, b"12"))
    await arrival
    assert twin.path.put({"type": "websocket.send", "text": "\u20ac"})
    assert twin.path.put({"type": "websocket.send", "bytes": b"1234567"})
    assert (sum(meter.received()[0]), meter.received()[1]) == (2, 8)
    assert (sum(meter.sent()[0]), meter.sent()[1]) == (2, 10)


async def test_what_could_not_be_sent_is_not_counted(twin: Twin) -> None:
    twin.batch.message_meter = meter = meter_of(twin)()
    assert not twin.path.put({"type": "websocket.send", "text": "\ud800"})
    twin.path.gate.shut(0.0)
    assert not twin.path.put({"type": "websocket.send", "text": "a"})
    assert sum(meter.sent()[0]) == 0


async def test_an_event_takes_from_one_receive_to_the_next(twin: Twin) -> None:
    clock = Clock()
    twin.batch.message_meter = meter = meter_of(twin)(clock=clock)
    for seconds in (0.2, 3.0):
        receiving = asyncio.ensure_future(twin.path.receive())
        await asyncio.sleep(0)
        clock.now += 60.0  # the app waits
        twin.path.data(frame(TEXT, "a"))
        await receiving
        clock.now += seconds
    twin.path.others_to_receive.append({"type": "websocket.disconnect"})
    twin.path.is_open = False
    assert await twin.path.receive() == {"type": "websocket.disconnect"}
    counts, total = meter.events()
    assert math.isclose(total, 3.2)
    found = [EVENT_TIME.bounds[number] for number, count in enumerate(counts) if count]
    assert found == [0.25, 10.0]
    assert twin.path.handed_at == clock.now


async def test_a_receive_that_is_cancelled_counts_the_event_before_it_once(twin: Twin) -> None:
    clock = Clock()
    twin.batch.message_meter = meter = meter_of(twin)(clock=clock)
    twin.path.handed_at = 99.0
    receiving = asyncio.ensure_future(twin.path.receive())
    await asyncio.sleep(0)
    receiving.cancel()
    await asyncio.wait([receiving])
    clock.now += 5.0
    twin.path.receiver = None
    receiving = asyncio.ensure_future(twin.path.receive())
    await asyncio.sleep(0)
    twin.path.data(frame(TEXT, "a"))
    await receiving
    assert (sum(meter.events()[0]), meter.events()[1]) == (1, 1.0)


async def test_without_a_meter_nothing_is_noted(twin: Twin) -> None:
    receiving = asyncio.ensure_future(twin.path.receive())
    await asyncio.sleep(0)
    twin.path.data(frame(TEXT, "a"))
    await receiving
    assert twin.path.handed_at == 0.0
    assert twin.batch.message_meter is None


async def test_a_clock_that_fails_fails_the_call(twin: Twin) -> None:
    def fail() -> float:
        raise OSError("no clock")

    twin.batch.message_meter = meter_of(twin)(clock=fail)
    twin.path.handed_at = 1.0
    with pytest.raises(OSError, match="no clock"):
        await twin.path.receive()


def test_what_is_no_message_is_refused(make: Callable[..., Any]) -> None:
    meter = make()
    for call in (meter.record_received, meter.record_sent):
        with pytest.raises((TypeError, AttributeError)):
            call(None)


def meter_of(twin: Twin) -> Callable[..., Any]:
    """Return the class of the meter that goes with a twin."""
    return PlainMessageMeter if twin.deliver is fast_path.deliver else MessageMeter


def test_the_twins_are_told_apart() -> None:
    assert PLAIN[0].__module__ == fast_path.__name__
