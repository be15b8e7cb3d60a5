"""The memory that workers share: rows, and the table of addresses."""

import mmap
import os
import stat
from collections.abc import Iterator

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wsgate.process import scoreboard as module
from wsgate.process.scoreboard import ROWS, Field, Scoreboard, create_file


@pytest.fixture(params=[False, True], ids=["plain", "addresses"])
def file(request: pytest.FixtureRequest) -> Iterator[int]:
    descriptor = create_file(with_addresses=request.param)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def board(file: int) -> Scoreboard:
    return Scoreboard(file)


@pytest.fixture
def tables() -> Iterator[Scoreboard]:
    """Return a scoreboard with room for addresses, whose rows 0 to 2 are in use."""
    descriptor = create_file(with_addresses=True)
    board = Scoreboard(descriptor)
    for _ in range(3):
        board.assign()
    yield board
    os.close(descriptor)


# -- rows ------------------------------------------------------------------------------------------


def test_rows_are_assigned_and_freed(board: Scoreboard) -> None:
    assert [board.assign() for _ in range(3)] == [0, 1, 2]
    assert board.length == 3
    board.clear(1)
    assert board.length == 3
    assert board.assign() == 1
    board.clear(2)
    board.clear(1)
    assert board.length == 1
    board.clear(0)
    assert board.length == 0
    assert board.assign() == 0


def test_there_is_an_end_of_rows(board: Scoreboard) -> None:
    assert [board.assign() for _ in range(ROWS + 2)] == [*range(ROWS), None, None]
    board.clear(ROWS - 1)
    assert board.assign() == ROWS - 1
    for row in range(ROWS):
        board.put(row, Field.CONNECTIONS, row)
    assert board.column(Field.CONNECTIONS) == list(range(ROWS))
    assert set(board.column(Field.BEAT)) == {1}, "no other column is written"


def test_all_see_the_same_numbers(file: int) -> None:
    one, other = Scoreboard(file), Scoreboard(os.dup(file))
    row = one.assign()
    assert row is not None
    for field in Field:
        one.put(row, field, 10 + field)
    assert [other.get(row, field) for field in Field] == [10 + field for field in Field]
    assert [other.column(field) for field in Field] == [[10 + field] for field in Field]
    other.clear(row)
    assert [one.get(row, field) for field in Field] == [0] * len(Field)


@pytest.mark.parametrize("value", [-(2**63), -1, 0, 2**63 - 1])
def test_a_number_has_64_bits(board: Scoreboard, value: int) -> None:
    board.put(0, Field.CONNECTIONS, value)
    assert board.get(0, Field.CONNECTIONS) == value


def test_the_end_of_the_server_is_seen_by_all(file: int) -> None:
    one, other = Scoreboard(file), Scoreboard(file)
    before = other.is_final
    one.finish()
    assert (before, other.is_final) == (False, True)
    assert other.assign() == 0


def test_a_file_without_memfd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    descriptor = create_file(with_addresses=False)
    try:
        assert os.fstat(descriptor).st_nlink == 0, "nobody else can open it"
        assert stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077 == 0
        assert Scoreboard(descriptor).assign() == 0
    finally:
        os.close(descriptor)


# -- addresses -------------------------------------------------------------------------------------


def test_an_address_counts_in_each_row(tables: Scoreboard) -> None:
    tables.put_address(0, 7, 2)
    tables.put_address(2, 7, 3)
    tables.put_address(2, 8, 1)
    assert [tables.address(row, 7) for row in range(3)] == [2, 0, 3]
    assert tables.count_of_address(7) == 5
    assert tables.count_of_address(8) == 1
    assert tables.count_of_address(9) == 0
    tables.put_address(2, 7, 0)
    assert tables.count_of_address(7) == 2


def test_an_ended_worker_counts_no_address(tables: Scoreboard) -> None:
    for row in range(3):
        tables.put_address(row, 7, 1)
    tables.clear(1)
    assert [tables.address(row, 7) for row in range(3)] == [1, 0, 1]
    tables.clear(2)
    assert tables.count_of_address(7) == 1
    assert [tables.assign(), tables.assign()] == [1, 2]
    assert tables.count_of_address(7) == 1


def same_set(count: int) -> list[int]:
    """Return keys of one set."""
    return [5 + module._SETS * n for n in range(count)]


def test_an_address_without_room_counts_in_its_own_worker_only(tables: Scoreboard) -> None:
    *inside, outside = same_set(module._WAYS + 1)
    for key in inside:
        tables.put_address(0, key, 1)
    tables.put_address(0, outside, 1)
    assert tables.count_of_address(outside) == 0
    assert [tables.count_of_address(key) for key in inside] == [1] * module._WAYS
    tables.put_address(0, outside, 0)
    tables.put_address(0, inside[3], 0)
    tables.put_address(0, outside, 2)
    assert tables.count_of_address(outside) == 2
    assert tables.count_of_address(inside[3]) == 0
    assert tables.count_of_address(5 + 1) == 0, "the neighbour of the set"


def test_the_last_address_of_the_last_row_is_within_the_memory(tables: Scoreboard) -> None:
    key = 2**64 - 1
    tables.put_address(ROWS - 1, key, 9)
    assert tables.address(ROWS - 1, key) == 9
    tables.clear(ROWS - 1)
    assert tables.address(ROWS - 1, key) == 0


@pytest.mark.skipif(not hasattr(mmap, "MADV_REMOVE"), reason="needs Linux")
def test_only_addresses_use_memory() -> None:
    descriptor = create_file(with_addresses=True)
    try:
        board = Scoreboard(descriptor)
        rows = [board.assign() for _ in range(3)]
        for row in rows:
            assert row is not None
            board.clear(row)  # writes the numbers of a row
        before = os.fstat(descriptor).st_blocks
        for key in range(1, 10_000):
            board.put_address(1, key, 1)
        assert os.fstat(descriptor).st_blocks > before
        board.clear(1)
        assert os.fstat(descriptor).st_blocks <= before
        assert [board.count_of_address(key) for key in range(1, 10_000, 999)] == [0] * 11
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("failure", [AttributeError, OSError])
def test_a_system_that_cannot_free_the_memory_of_a_table(
    tables: Scoreboard, monkeypatch: pytest.MonkeyPatch, failure: type[Exception]
) -> None:
    class Map:
        def madvise(self, *_: object) -> None:
            raise failure

    for row in range(3):
        tables.put_address(row, 7, 1)
    monkeypatch.setattr(tables, "_map", Map())
    tables.clear(1)
    assert [tables.address(row, 7) for row in range(3)] == [1, 0, 1]


class Addresses(RuleBasedStateMachine):
    """The table of addresses beside a dict, with keys of few sets so that they get full."""

    keys = st.sampled_from(same_set(module._WAYS + 4) + [key + 1 for key in same_set(4)])
    rows = st.integers(0, 2)

    def __init__(self) -> None:
        super().__init__()
        self.file = create_file(with_addresses=True)
        self.board = Scoreboard(self.file)
        for _ in range(3):
            self.board.assign()
        self.model: dict[tuple[int, int], int] = {}

    def teardown(self) -> None:
        os.close(self.file)

    def is_full(self, row: int, key: int) -> bool:
        same = [k for r, k in self.model if r == row and k % module._SETS == key % module._SETS]
        return len(same) >= module._WAYS

    @rule(row=rows, key=keys, count=st.integers(0, 3))
    def put(self, row: int, key: int, count: int) -> None:
        self.board.put_address(row, key, count)
        if not count:
            self.model.pop((row, key), None)
        elif (row, key) in self.model or not self.is_full(row, key):
            self.model[row, key] = count

    @rule(row=rows)
    def clear(self, row: int) -> None:
        self.board.clear(row)
        self.model = {place: count for place, count in self.model.items() if place[0] != row}
        while self.board.length < 3:
            self.board.assign()
        if not self.board.get(row, Field.BEAT):
            self.board.put(row, Field.BEAT, 1)

    @invariant()
    def same(self) -> None:
        for key in {key for _, key in self.model} | {5, 6}:
            expected = [self.model.get((row, key), 0) for row in range(3)]
            assert [self.board.address(row, key) for row in range(3)] == expected
            assert self.board.count_of_address(key) == sum(expected)


TestAddresses = Addresses.TestCase
TestAddresses.settings = settings(max_examples=50, stateful_step_count=60)


@given(st.sets(st.integers(1, 2**64 - 1), max_size=200))
@settings(max_examples=20)
def test_any_keys_find_their_counts(keys: set[int]) -> None:
    descriptor = create_file(with_addresses=True)
    try:
        board = Scoreboard(descriptor)
        row = board.assign()
        assert row is not None
        for count, key in enumerate(keys, 1):
            board.put_address(row, key, count)
        assert [board.count_of_address(key) for key in keys] == list(range(1, len(keys) + 1))
    finally:
        os.close(descriptor)
