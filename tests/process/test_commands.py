"""What all commands have in common: unknown names, faults, arguments."""

from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from tests.harness.log import LogCapture, capture_log
from wsgate.process import commands
from wsgate.process.commands import Arguments, CommandRefused, Part, guarded_parts, parts_of


@pytest.fixture(autouse=True)
def log() -> Iterator[LogCapture]:
    with capture_log() as lines:
        yield lines


async def double(subject: int, arguments: Arguments) -> AsyncGenerator[Part]:
    yield {"result": 2 * subject, **arguments}


class Failing:
    """Executes one part of a command, and fails then."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.is_closed = False

    async def run(self, name: str, arguments: Arguments) -> AsyncGenerator[Part]:
        try:
            yield {"name": name}
            raise self.error
        finally:
            self.is_closed = True


async def test_a_command_is_found_by_its_name() -> None:
    parts = parts_of({"double": double}, 4, "double", {"more": 1})
    assert [part async for part in parts] == [{"result": 8, "more": 1}]
    with pytest.raises(CommandRefused, match="there is no command 'halve'"):
        parts_of({"double": double}, 4, "halve", {})


async def test_a_fault_is_logged_and_one_line_for_the_operator(log: LogCapture) -> None:
    parts = guarded_parts(Failing(KeyError("x")), "fail", {})
    assert await anext(parts) == {"name": "fail"}
    with pytest.raises(CommandRefused, match="the command has failed: the log says why"):
        await anext(parts)
    assert log.errors


async def test_a_refusal_is_passed_on_without_a_line_in_the_log(log: LogCapture) -> None:
    parts = guarded_parts(Failing(CommandRefused("no")), "fail", {})
    await anext(parts)
    with pytest.raises(CommandRefused, match="no"):
        await anext(parts)
    assert not log.errors


async def test_a_command_that_nobody_reads_to_its_end_is_closed() -> None:
    failing = Failing(KeyError())
    parts = guarded_parts(failing, "fail", {})
    await anext(parts)
    await parts.aclose()
    assert failing.is_closed


@pytest.mark.parametrize("value", [1, 5, 9])
def test_a_number_within_its_bounds(value: int) -> None:
    assert commands.number({"n": value}, "n", 1, 9) == value


@pytest.mark.parametrize("value", [0, 10, True, 1.0, "1", [], {}])
def test_another_number_is_refused(value: Any) -> None:
    with pytest.raises(CommandRefused, match="n must be a number from 1 to 9"):
        commands.number({"n": value}, "n", 1, 9)


@pytest.mark.parametrize("value", [1, True, [], {}, "x" * 1_001])
def test_another_text_is_refused(value: Any) -> None:
    with pytest.raises(CommandRefused, match="t must be a string of at most 1000 characters"):
        commands.text({"t": value}, "t")


def test_arguments_that_are_not_given() -> None:
    assert commands.number({}, "n", 1, 9) is None
    assert commands.text({"t": None}, "t") is None
    assert commands.required("", "t") == ""
    with pytest.raises(CommandRefused, match="t is missing"):
        commands.required(None, "t")
