"""A worker's row: what it reports, and what it knows of the others."""

import os
import time
from collections.abc import Iterator

import pytest

from wsgate.config import Config
from wsgate.process.row import Row, _key
from wsgate.process.scoreboard import Field, Scoreboard, create_file
from wsgate.server.worker import Worker


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    descriptor = create_file(with_addresses=True)
    yield Scoreboard(descriptor)
    os.close(descriptor)


@pytest.fixture
def rows(board: Scoreboard) -> list[Row]:
    """Return the rows of three workers."""
    for _ in range(3):
        board.assign()
    return [Row(board, number, 3) for number in range(3)]


async def nothing(*_: object) -> None:
    """Do nothing."""


def test_a_row_is_what_a_worker_knows_of_the_others(rows: list[Row]) -> None:
    others = Worker(nothing, Config(), other_workers=rows[0]).other_workers
    assert others is rows[0]
    assert others.count == 3
    found = others.connections(), others.accepted(), others.calls()
    assert found == (0, 0, 0)
    assert others.count_of_address("192.0.2.1") == 0
    assert others.fewest_connections() is None


def test_the_others_are_counted_without_oneself(rows: list[Row]) -> None:
    for number, row in enumerate(rows, 1):
        row.report_connections(number, 10 * number)
        row.report_calls(100 * number)
        row.report_address("192.0.2.1", number)
    assert [row.connections() for row in rows] == [5, 4, 3]
    assert [row.accepted() for row in rows] == [50, 40, 30]
    assert [row.calls() for row in rows] == [500, 400, 300]
    assert [row.count_of_address("192.0.2.1") for row in rows] == [5, 4, 3]
    assert [row.count_of_address("192.0.2.2") for row in rows] == [0, 0, 0]


def test_an_ended_worker_does_not_count(board: Scoreboard, rows: list[Row]) -> None:
    for row in rows:
        row.report_connections(5, 5)
        row.report_calls(5)
        row.report_accepting(accepting=True)
    board.clear(1)
    board.clear(2)
    assert rows[0].connections() == rows[0].accepted() == rows[0].calls() == 0
    assert rows[0].fewest_connections() is None


def test_the_emptiest_is_one_of_the_others_that_accept(rows: list[Row]) -> None:
    one, two, three = rows
    one.report_connections(0, 0)
    two.report_connections(7, 7)
    three.report_connections(9, 9)
    one.report_accepting(accepting=True)
    assert one.fewest_connections() is None
    three.report_accepting(accepting=True)
    assert one.fewest_connections() == 9
    two.report_accepting(accepting=True)
    assert [row.fewest_connections() for row in rows] == [7, 0, 0]
    two.report_accepting(accepting=False)
    assert [row.fewest_connections() for row in rows] == [9, 0, 0]


def test_what_the_supervisor_reads(
    board: Scoreboard, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 12.5)
    rows[1].report_beat(0.25)
    assert board.column(Field.BEAT) == [1, 12_500_000, 1]
    assert board.column(Field.LAG) == [0, 250_000, 0]
    rows[2].report_expired()
    assert board.column(Field.EXPIRED) == [0, 0, 1]


def test_a_key_is_the_same_in_all_processes_and_never_0() -> None:
    assert _key("192.0.2.1") == 14444445668234438673
    assert _key("192.0.2.1") != _key("192.0.2.2")
    assert 0 < _key("") < 2**64


def test_a_key_of_0_would_be_a_free_place(monkeypatch: pytest.MonkeyPatch) -> None:
    class Zeros:
        def __init__(self, *_: object, **__: object) -> None:
            """Take anything."""

        def digest(self) -> bytes:
            return bytes(8)

    monkeypatch.setattr("wsgate.process.row.blake2b", Zeros)
    assert _key("192.0.2.1") == 1
