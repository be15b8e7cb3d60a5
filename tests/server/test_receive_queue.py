"""The queue of messages that wait for the app: order and bounds."""

from sys import getsizeof

from hypothesis import given, settings, strategies as st

from wsgate.server.receive_queue import ReceiveQueue


def test_a_queue_is_first_in_first_out() -> None:
    queue = ReceiveQueue(3, 1_000)
    for message in ("one", b"two", "three"):
        queue.put(message)
    assert len(queue) == 3
    assert [queue.pop() for _ in range(3)] == ["one", b"two", "three"]
    assert len(queue) == 0


def test_a_queue_is_bounded_in_messages() -> None:
    queue = ReceiveQueue(2, 1_000_000)
    assert queue.room == 2
    queue.put("")
    assert queue.room == 1
    queue.put("")
    assert queue.room == 0
    queue.pop()
    assert queue.room == 1


def test_a_queue_is_bounded_in_memory() -> None:
    queue = ReceiveQueue(100, getsizeof(b"x" * 10) + 1)
    queue.put(b"x" * 10)
    assert queue.room == 99
    queue.put(b"")
    assert queue.room == 0
    queue.pop()
    assert queue.room == 99


def test_small_messages_count_with_all_the_memory_they_take() -> None:
    queue = ReceiveQueue(1_000, 500)
    while queue.room:
        queue.put(b"")
    assert len(queue) < 500 / 30


def test_an_empty_queue_accepts_a_message_larger_than_the_limit() -> None:
    queue = ReceiveQueue(2, 10)
    assert queue.room == 2
    queue.put(b"x" * 1_000)
    assert queue.room == 0
    assert queue.pop() == b"x" * 1_000
    assert queue.room == 2


def test_messages_put_back_keep_their_order_and_come_first() -> None:
    queue = ReceiveQueue(9, 1_000)
    for message in ("one", "two", "three"):
        queue.put(message)
    for taken in [queue.pop(), queue.pop()]:
        queue.put_back(taken)
    assert [queue.pop() for _ in range(3)] == ["one", "two", "three"]
    queue.put("four")
    queue.put_back("three")
    assert [queue.pop(), queue.pop()] == ["three", "four"]


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(), st.binary())), st.integers(1, 5))
def test_room_in_a_queue_is_the_limit_minus_its_messages(
    steps: list[str | bytes | None], max_messages: int
) -> None:
    queue, kept = ReceiveQueue(max_messages, 200), list[str | bytes]()
    for step in steps:
        if step is not None and queue.room:
            queue.put(step)
            kept.append(step)
        elif kept:
            assert queue.pop() == kept.pop(0)
        size = sum(map(getsizeof, kept))
        assert queue.room == (max_messages - len(kept) if size < 200 else 0)
