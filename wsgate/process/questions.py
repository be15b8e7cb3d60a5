"""Questions over a channel: one end asks for a command, the other end executes it and answers.

Each question has a number. An answer comes in parts, each of which the asking end fetches when it
has a use for it, so that neither end buffers more than one. The lines:

{"ask": 7, "command": "connections", "arguments": {...}}   executes a command
{"answer": 7, "part": {...}}                               a part; the next one has to be fetched
{"fetch": 7}                                               asks for the next part
{"answer": 7, "end": true}                                 there are no more parts
{"answer": 7, "error": "..."}                              it was refused
{"drop": 7}                                                the rest is not wanted
{"tell": "log-level", "arguments": {...}}                  a command without an answer
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Callable

from wsgate.process.channel import Line
from wsgate.process.commands import Arguments, CommandRefused, Commands, Part, guarded_parts

ANSWER_TIMEOUT = 2.0  # seconds to wait for each part of an answer
FETCH_TIMEOUT = 60.0  # seconds after which an answer that is not fetched is dropped
MOST_QUESTIONS = 64  # that are answered at the same time


class NoAnswer(Exception):
    """The other end does not answer in time, or does not read."""


class Gone(NoAnswer):
    """The other end has ended, and all that it had with it."""


class Question:
    """One question that was asked; `parts` returns its answer."""

    def __init__(self, asker: "Asker", number: int) -> None:
        self._asker = asker
        self._number = number
        self._lines: asyncio.Queue[Line | None] = asyncio.Queue(maxsize=1)
        self._is_done = False
        self._deadline = asyncio.get_running_loop().time() + ANSWER_TIMEOUT

    def take(self, line: Line | None) -> None:
        """Take a line of the answer; None if the other end is gone."""
        if line is None and self._lines.full():
            self._lines.get_nowait()
        with contextlib.suppress(asyncio.QueueFull):  # nobody has fetched that much
            self._lines.put_nowait(line)

    async def parts(self) -> AsyncGenerator[Part]:
        """Yield the parts of the answer.

        Raises:
            NoAnswer: There is none in time.
            Gone: There will be none.
            CommandRefused: The other end refuses.
        """
        try:
            while (part := await self._next_part()) is not None:
                yield part
                self._deadline = asyncio.get_running_loop().time() + ANSWER_TIMEOUT
                self._asker.send({"fetch": self._number})
        finally:
            self.drop()

    async def _next_part(self) -> Part | None:
        line = await self._next_line()
        self._is_done = line is None or "part" not in line
        if line is None:
            raise Gone if self._asker.is_closed else NoAnswer
        if "error" in line:
            raise CommandRefused(str(line["error"]))
        return line.get("part")

    async def _next_line(self) -> Line | None:
        if not self._lines.empty():
            return self._lines.get_nowait()
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._lines.get()
        except TimeoutError:
            raise NoAnswer from None

    def drop(self) -> None:
        """Ask for no more of the answer."""
        self._asker.forget(self._number)
        if not self._is_done:
            self._is_done = True
            self._asker.send({"drop": self._number})


class Asker:
    """The asking end.

    Args:
        send: Sends a line; returns False if the other end does not read.

    Attributes:
        is_closed: The other end is gone.
    """

    def __init__(self, send: Callable[[Line], bool]) -> None:
        self.send = send
        self._numbers = itertools.count(1)
        self._questions: dict[int, Question] = {}
        self.is_closed = False

    def ask(self, command: str, arguments: Arguments) -> Question:
        """Ask for a command at once; the caller reads `parts`, or calls `drop`."""
        number = next(self._numbers)
        question = Question(self, number)
        line = {"ask": number, "command": command, "arguments": dict(arguments)}
        if self.is_closed or not self.send(line):
            question.take(None)
        else:
            self._questions[number] = question
        return question

    def tell(self, command: str, arguments: Arguments) -> None:
        """Have a command executed, as soon as the other end runs, without an answer."""
        self.send({"tell": command, "arguments": dict(arguments)})

    def take(self, line: Line) -> None:
        """Take a line with an answer. Late ones, which nobody expects any more, are ignored."""
        question = self._questions.get(line["answer"])
        if question is not None:
            question.take(line)

    def forget(self, number: int) -> None:
        """Expect no more of an answer."""
        self._questions.pop(number, None)

    def close(self) -> None:
        """Record that the other end is gone."""
        self.is_closed = True
        for question in self._questions.values():
            question.take(None)


class Answerer:
    """The answering end.

    Args:
        commands: Executes the commands.
        send: Sends a line.
    """

    def __init__(self, commands: Commands, send: Callable[[Line], object]) -> None:
        self._commands = commands
        self._send = send
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._told: set[asyncio.Task[None]] = set()
        self._fetched: dict[int, asyncio.Event] = {}

    def take(self, line: Line) -> None:
        """Process a line of the asking end."""
        if "ask" in line:
            self._begin(line["ask"], line["command"], line["arguments"])
        elif "tell" in line:
            self._execute(line["tell"], line["arguments"])
        elif "fetch" in line and (fetched := self._fetched.get(line["fetch"])) is not None:
            fetched.set()
        elif "drop" in line and (task := self._tasks.get(line["drop"])) is not None:
            task.cancel()

    def _begin(self, number: int, command: str, arguments: Arguments) -> None:
        if len(self._tasks) >= MOST_QUESTIONS:
            self._send({"answer": number, "error": "too many commands at the same time"})
            return
        self._fetched[number] = asyncio.Event()
        task = asyncio.get_running_loop().create_task(self._answer(number, command, arguments))
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._end(number))

    def _end(self, number: int) -> None:
        del self._tasks[number], self._fetched[number]

    async def _answer(self, number: int, command: str, arguments: Arguments) -> None:
        try:
            parts = guarded_parts(self._commands, command, arguments)
            async with contextlib.aclosing(parts):
                async for part in parts:
                    self._send({"answer": number, "part": part})
                    await self._wait_for_fetch(number)
        except CommandRefused as refused:
            self._send({"answer": number, "error": str(refused)})
        except TimeoutError:
            return  # the asking end has forgotten it
        else:
            self._send({"answer": number, "end": True})

    async def _wait_for_fetch(self, number: int) -> None:
        async with asyncio.timeout(FETCH_TIMEOUT):
            await self._fetched[number].wait()
        self._fetched[number].clear()

    def _execute(self, command: str, arguments: Arguments) -> None:
        task = asyncio.get_running_loop().create_task(self._discard(command, arguments))
        self._told.add(task)
        task.add_done_callback(self._told.discard)

    async def _discard(self, command: str, arguments: Arguments) -> None:
        with contextlib.suppress(CommandRefused):
            async for _ in guarded_parts(self._commands, command, arguments):
                pass

    async def close(self) -> None:
        """Cancel what is still being executed."""
        tasks = {*self._tasks.values(), *self._told}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
