"""What all commands of the control socket have in common: their form, and checks of arguments."""

import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Protocol, TypeVar

from wsgate import loggers

Arguments = Mapping[str, Any]
Part = dict[str, Any]
"""A part of an answer: an object of JSON. An answer has one or more."""

_Subject = TypeVar("_Subject")
Table = Mapping[str, Callable[[_Subject, Arguments], AsyncGenerator[Part]]]
"""The commands of a server or a supervisor, by name."""

LONGEST_TEXT = 1_000  # characters of an argument
MOST = 2**31  # the largest number of a process


class CommandRefused(Exception):
    """A command cannot be executed. The text is one line for the operator."""


class Commands(Protocol):
    """Executes commands."""

    def run(self, name: str, arguments: Arguments) -> AsyncGenerator[Part]:
        """Yield the parts of the answer. Raises CommandRefused, also after some parts."""


def parts_of(
    table: Table[_Subject], subject: _Subject, name: str, arguments: Arguments
) -> AsyncGenerator[Part]:
    """Return the answer to a command of a table.

    Args:
        table: The commands.
        subject: The first argument of each.
        name: Of the command.
        arguments: Of the command; it ignores those that it does not know.

    Raises:
        CommandRefused: There is no such command.
    """
    command = table.get(name)
    if command is None:
        raise CommandRefused(f"there is no command {name[:LONGEST_TEXT]!r}")
    return command(subject, arguments)


async def guarded_parts(
    commands: Commands, name: str, arguments: Arguments
) -> AsyncGenerator[Part]:
    """Yield the parts of an answer; a fault of ours is logged and refuses the command."""
    try:
        async with contextlib.aclosing(commands.run(name, arguments)) as parts:
            async for part in parts:
                yield part
    except CommandRefused:
        raise
    except Exception:  # noqa: BLE001  # the server has to go on
        loggers.error.exception("The command %s has failed", name)
        raise CommandRefused("the command has failed: the log says why") from None


def parse_request(request: bytes) -> tuple[str, Arguments]:
    """Return the name and the arguments of a command. Raises CommandRefused."""
    try:
        line = json.loads(request)
    except (ValueError, RecursionError):
        line = None
    if not isinstance(line, dict) or not isinstance(line.get("command"), str):
        raise CommandRefused('a request is an object of JSON with a "command"')
    arguments = line.get("arguments") or {}
    if not isinstance(arguments, dict):
        raise CommandRefused('the "arguments" of a request are an object')
    return line["command"], arguments


# -- arguments -------------------------------------------------------------------------------------


def number(arguments: Arguments, name: str, lowest: int, highest: int) -> int | None:
    """Return an argument that is a whole number; None if it is not given."""
    value = arguments.get(name)
    if value is None:
        return None
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if not is_number or not lowest <= value <= highest:
        raise CommandRefused(f"{name} must be a number from {lowest} to {highest}")
    assert isinstance(value, int)
    return value


def text(arguments: Arguments, name: str) -> str | None:
    """Return an argument that is a string; None if it is not given."""
    value = arguments.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise CommandRefused(f"{name} must be a string of at most {LONGEST_TEXT} characters")
    return value


def required(value: _Subject | None, name: str) -> _Subject:
    """Return the value of an argument that has to be given."""
    if value is None:
        raise CommandRefused(f"{name} is missing")
    return value
