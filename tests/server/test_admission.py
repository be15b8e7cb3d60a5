"""Which connections are admitted."""

import os
import resource
import threading
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings, strategies as st

from wsgate.process.row import Row
from wsgate.process.scoreboard import Field, Scoreboard, create_file
from wsgate.server.admission import Admission, default_limit
from wsgate.server.other_workers import NoOtherWorkers
from wsgate.types import Address

ONE, OTHER = ("192.0.2.1", 1), ("192.0.2.2", 1)


@pytest.mark.parametrize(
    ("soft", "limit"),
    [(8, 6), (64, 48), (512, 384), (1_024, 896), (1_048_576, 1_048_448)],
)
def test_the_limit_of_open_files_leaves_room(
    monkeypatch: pytest.MonkeyPatch, soft: int, limit: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, resource.RLIM_INFINITY))
    assert default_limit() == limit


def test_a_system_without_a_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    infinity = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: infinity)
    assert default_limit() == 1_000_000


def test_the_total_number_of_connections_is_limited() -> None:
    admission = Admission(2, None)
    assert admission.enter(ONE)
    assert admission.enter(OTHER)
    assert not admission.enter(ONE)
    admission.leave(ONE, was_admitted=False)
    assert not admission.enter(None), "the one that was turned away made no room"
    admission.leave(ONE, was_admitted=True)
    assert admission.enter(None)


def test_connections_from_one_address_are_limited() -> None:
    admission = Admission(100, 2)
    assert admission.enter(ONE)
    assert admission.enter(("192.0.2.1", 2))
    assert not admission.enter(("192.0.2.1", 3))
    assert admission.enter(OTHER)
    admission.leave(ONE, was_admitted=True)
    assert admission.enter(ONE)


def test_the_total_limit_comes_before_the_limit_of_an_address() -> None:
    admission = Admission(1, 5)
    assert admission.enter(ONE)
    assert not admission.enter(OTHER)


def test_rejected_connections_of_one_address_do_not_use_up_the_total() -> None:
    admission = Admission(3, 2)
    assert [admission.enter(ONE) for _ in range(9)] == [True] * 2 + [False] * 7
    assert admission.enter(OTHER)


def test_the_limit_of_an_address_needs_an_address() -> None:
    admission = Admission(3, 1)
    assert [admission.enter(None) for _ in range(4)] == [True] * 3 + [False]
    admission.leave(None, was_admitted=True)
    assert admission.enter(None)


def test_rejected_connections_do_not_linger_when_there_are_too_many() -> None:
    admission = Admission(1, None)
    admission.enter(ONE)
    for _ in range(64):
        admission.enter(OTHER)
        assert not admission.is_swamped
    admission.enter(OTHER)
    assert admission.is_swamped
    admission.leave(OTHER, was_admitted=False)
    assert not admission.is_swamped


def test_requests_of_a_proxy_count_for_their_client_only() -> None:
    admission = Admission(1, 2)
    assert admission.enter(None), "the proxy's connection"
    assert [admission.enter_request(ONE) for _ in range(3)] == [True, True, False]
    assert admission.enter_request(OTHER)
    assert admission.enter_request(None)
    admission.leave_request(None)
    admission.leave_request(ONE)
    assert admission.enter_request(ONE)
    for client in (ONE, ONE, OTHER):
        admission.leave_request(client)
    assert not admission._per_address
    assert admission.refused == 0


def test_connections_and_requests_of_one_address_count_together() -> None:
    admission = Admission(9, 2)
    assert admission.enter(ONE)
    assert admission.enter_request(ONE)
    assert not admission.enter_request(ONE)
    assert not admission.enter(ONE)


@pytest.mark.parametrize(
    ("host", "other", "is_one"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::1", "::2", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.10", False),
    ],
)
def test_which_addresses_count_as_one(host: str, other: str, is_one: bool) -> None:
    admission = Admission(100, 1)
    assert admission.enter((host, 1))
    assert admission.enter((other, 1)) is not is_one
    admission.leave((host, 1), was_admitted=True)
    admission.leave((other, 1), was_admitted=not is_one)
    assert not admission._per_address, "an address that has left takes no memory"


_CLIENTS: st.SearchStrategy[Address | None] = st.none() | st.tuples(
    st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"]), st.integers(1, 9)
)


@given(st.integers(1, 5), st.none() | st.integers(1, 3), st.lists(_CLIENTS, max_size=20))
def test_counts_hold_for_any_order_of_connects_and_disconnects(
    max_total: int, max_per_address: int | None, clients: list[Address | None]
) -> None:
    admission = Admission(max_total, max_per_address)
    inside: list[tuple[Address | None, bool]] = []
    for at, client in enumerate(clients):
        admitted = [other for other, is_in in inside if is_in]
        of_one = sum(
            other is not None and client is not None and other[0] == client[0] for other in admitted
        )
        fits = len(admitted) < max_total and (
            client is None or max_per_address is None or of_one < max_per_address
        )
        assert admission.enter(client) is fits
        inside.append((client, fits))
        if at % 3 == 2:
            leaver, was_in = inside.pop(at % len(inside))
            admission.leave(leaver, was_admitted=was_in)
        assert admission.total == sum(is_in for _, is_in in inside)
        assert admission.refused == sum(not is_in for _, is_in in inside)
    for client, was_in in inside:
        admission.leave(client, was_admitted=was_in)
    assert (admission.total, admission.refused, admission._per_address) == (0, 0, Counter())


# -- several workers -------------------------------------------------------------------------------


class Others(NoOtherWorkers):
    """The other workers, with numbers of the test. reported: the last ones of this worker."""

    def __init__(self) -> None:
        self.open_elsewhere = 0
        self.of_addresses: Counter[str] = Counter()
        self.reported: dict[str, int] = {}

    def connections(self) -> int:
        return self.open_elsewhere

    def count_of_address(self, address: str) -> int:
        return self.of_addresses[address]

    def report_connections(self, open_now: int, accepted: int) -> None:
        self.reported |= {"open": open_now, "accepted": accepted}

    def report_address(self, address: str, count: int) -> None:
        self.reported[address] = count


def test_the_connections_of_the_other_workers_count() -> None:
    others = Others()
    admission = Admission(5, None, others)
    others.open_elsewhere = 3
    assert [admission.enter(ONE) for _ in range(3)] == [True, True, False]
    assert (admission.total, admission.refused) == (2, 1)
    assert others.reported == {"open": 2, "accepted": 3}, "the one that was counted has left again"
    others.open_elsewhere = 2
    assert admission.enter(ONE)


def test_the_limit_of_open_files_is_that_of_one_worker() -> None:
    others = Others()
    others.open_elsewhere = 10**9
    assert Admission(None, None, others).enter(ONE)


def test_an_address_counts_in_all_workers() -> None:
    others = Others()
    admission = Admission(None, 3, others)
    others.of_addresses["192.0.2.1"] = 2
    assert [admission.enter(ONE), admission.enter(ONE)] == [True, False]
    assert others.reported["192.0.2.1"] == 1
    assert admission.is_address_full(ONE)
    assert not admission.is_address_full(OTHER)
    assert not admission.enter_request(ONE)
    assert admission.enter_request(OTHER)
    admission.leave(ONE, was_admitted=True)
    assert others.reported["192.0.2.1"] == 0
    others.of_addresses["192.0.2.1"] = 3
    assert not admission.enter(ONE)
    assert not admission._per_address.get("192.0.2.1")


def test_a_change_of_the_total_is_noticed() -> None:
    totals: list[int] = []
    admission = Admission(2, None)
    admission.on_change = lambda: totals.append(admission.total)
    admission.enter(ONE)
    admission.enter(ONE)
    admission.enter(ONE)
    admission.leave(ONE, was_admitted=False)
    admission.leave(ONE, was_admitted=True)
    assert totals == [1, 2, 1]


class Turns:
    """Lets threads run in the order of a test: each waits before it uses what they share."""

    def __init__(self, order: Iterable[int], count: int) -> None:
        self._order = iter(order)
        self._may_run = [threading.Semaphore(0) for _ in range(count)]
        self._has_stopped = threading.Semaphore(0)
        self.running = set(range(count))

    def take(self, thread: int) -> None:
        """Wait for the next turn of a thread."""
        self._has_stopped.release()
        assert self._may_run[thread].acquire(timeout=60)

    def finish(self, thread: int) -> None:
        """End a thread."""
        self.running.discard(thread)
        self._has_stopped.release()

    def run(self) -> Iterator[None]:
        """Let one thread after the other take its turn, and yield after each."""
        for _ in self._may_run:
            assert self._has_stopped.acquire(timeout=60)
        while self.running:
            yield
            ready = sorted(self.running)
            self._may_run[ready[next(self._order, 0) % len(ready)]].release()
            assert self._has_stopped.acquire(timeout=60)


class SteppedBoard(Scoreboard):
    """A scoreboard whose users take turns at each number that they read or write."""

    def __init__(self, descriptor: int, turns: Turns, thread: int) -> None:
        super().__init__(descriptor)
        self._turns, self._thread = turns, thread

    def put(self, row: int, field: Field, value: int) -> None:
        self._turns.take(self._thread)
        super().put(row, field, value)

    def column(self, field: Field) -> list[int]:
        self._turns.take(self._thread)
        return super().column(field)

    def put_address(self, row: int, key: int, count: int) -> None:
        self._turns.take(self._thread)
        super().put_address(row, key, count)

    def address(self, row: int, key: int) -> int:
        self._turns.take(self._thread)
        return super().address(row, key)


_STEPS = st.lists(
    st.tuples(st.sampled_from(["enter", "leave", "request"]), st.sampled_from([ONE, OTHER])),
    max_size=6,
)


def take_step(
    admission: Admission,
    step: str,
    client: Address,
    admitted: Counter[Address],
    requests: Counter[Address],
) -> None:
    if step == "enter":
        admitted[client] += admission.enter(client)
    elif step == "request":
        requests[client] += admission.enter_request(client)
    elif admitted[client]:
        admitted[client] -= 1
        admission.leave(client, was_admitted=True)


@settings(max_examples=100)
@given(
    st.lists(_STEPS, min_size=2, max_size=3),
    st.none() | st.integers(1, 3),
    st.none() | st.integers(1, 2),
    st.lists(st.integers(0, 2), max_size=200),
)
def test_workers_that_interleave_never_exceed_a_limit(
    steps: list[list[tuple[str, Address]]],
    limit: int | None,
    per_address: int | None,
    order: list[int],
) -> None:
    turns, descriptor = Turns(order, len(steps)), create_file(with_addresses=True)
    admitted: list[Counter[Address]] = [Counter() for _ in steps]
    requests: list[Counter[Address]] = [Counter() for _ in steps]

    def work(number: int) -> None:
        row = Row(SteppedBoard(descriptor, turns, number), number, len(steps))
        admission = Admission(limit, per_address, row)
        turns.take(number)
        for step, client in steps[number]:
            take_step(admission, step, client, admitted[number], requests[number])
        turns.finish(number)

    board = Scoreboard(descriptor)
    for _ in steps:
        board.assign()
    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(len(steps))]
    try:
        for thread in threads:
            thread.start()
        for _ in turns.run():
            assert sum(counter.total() for counter in admitted) <= (limit or 99)
            for client in (ONE, OTHER):
                counted = sum(counter[client] for counter in (*admitted, *requests))
                assert counted <= (per_address or 99)
        for thread in threads:
            thread.join(60)
        assert sum(board.column(Field.CONNECTIONS)) == sum(c.total() for c in admitted)
    finally:
        os.close(descriptor)


def test_workers_one_after_the_other_use_the_whole_limit() -> None:
    descriptor = create_file(with_addresses=True)
    board = Scoreboard(descriptor)
    rows = [Row(board, number, 3) for number in (board.assign(), board.assign(), board.assign())]  # type: ignore[arg-type]
    workers = [Admission(5, None, row) for row in rows]
    assert [workers[n % 3].enter(ONE) for n in range(7)] == [True] * 5 + [False] * 2
    workers[0].leave(ONE, was_admitted=True)
    assert [worker.enter(ONE) for worker in workers] == [True, False, False]
    os.close(descriptor)
