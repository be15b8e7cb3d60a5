"""Questions and answers over a channel: parts, deadlines, ends that are gone or do not read."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

import pytest

from tests.harness.log import LogCapture, capture_log
from tests.harness.waiting import nothing_left, start_task, turns, until
from wsgate.process import questions
from wsgate.process.channel import Line
from wsgate.process.commands import Arguments, CommandRefused, Part
from wsgate.process.questions import Answerer, Asker, Gone, NoAnswer, Question


@pytest.fixture(autouse=True)
def log() -> Iterator[LogCapture]:
    with capture_log() as lines:
        yield lines


@pytest.fixture(autouse=True)
async def _nothing_left() -> AsyncIterator[None]:
    async with nothing_left(), asyncio.timeout(30):
        yield


class Counting:
    """Counts on request. made: the parts that were made; ended: the commands that have ended."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.ended: list[str] = []

    async def run(self, name: str, arguments: Arguments) -> AsyncGenerator[Part]:
        try:
            for number in range(arguments.get("count", 0)):
                self.made.append(number)
                yield {"number": number}
            if name == "refuse":
                raise CommandRefused("not now")
            if name == "hang":
                await asyncio.Event().wait()
            if name == "fail":
                raise KeyError(name)
        finally:
            self.ended.append(name)


class Ends:
    """Both ends of a channel in memory. lines: all that was sent; reads: the answerer is fast."""

    def __init__(self) -> None:
        self.commands = Counting()
        self.lines: list[Line] = []
        self.reads = True
        self.asker = Asker(self._to_answerer)
        self.answerer = Answerer(self.commands, self._to_asker)

    def _to_answerer(self, line: Line) -> bool:
        self._deliver(line, self.answerer.take)
        return self.reads

    def _to_asker(self, line: Line) -> None:
        self._deliver(line, self.asker.take)

    def _deliver(self, line: Line, take: object) -> None:
        self.lines.append(line)
        copy = json.loads(json.dumps(line))
        if self.reads:
            asyncio.get_running_loop().call_soon(take, copy)  # type: ignore[arg-type]

    async def numbers(self, command: str = "count", **arguments: int) -> list[int]:
        question = self.asker.ask(command, arguments)
        return [part["number"] async for part in question.parts()]


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    ends = Ends()
    yield ends
    await ends.answerer.close()


@pytest.mark.parametrize("count", [0, 1, 5])
async def test_an_answer_has_any_number_of_parts(ends: Ends, count: int) -> None:
    assert await ends.numbers(count=count) == list(range(count))
    await turns()
    assert not ends.asker._questions
    assert not ends.answerer._tasks
    assert not any("drop" in line for line in ends.lines)


async def test_answers_are_not_mixed_up(ends: Ends) -> None:
    counts = [3, 0, 7, 1]
    found = await asyncio.gather(*(ends.numbers(count=count) for count in counts))
    assert [len(numbers) for numbers in found] == counts


async def test_a_part_is_made_when_the_one_before_was_fetched(ends: Ends) -> None:
    parts = ends.asker.ask("count", {"count": 9}).parts()
    await anext(parts)
    await turns()
    assert ends.commands.made == [0]
    await anext(parts)
    await turns()
    assert ends.commands.made == [0, 1]
    await parts.aclose()


async def test_an_answer_that_nobody_wants_any_more_is_dropped(ends: Ends) -> None:
    parts = ends.asker.ask("count", {"count": 9}).parts()
    await anext(parts)
    await parts.aclose()
    await until(lambda: ends.commands.ended == ["count"])
    await turns()
    assert not ends.answerer._tasks


async def test_a_question_can_be_dropped_before_it_is_read(ends: Ends) -> None:
    question = ends.asker.ask("hang", {})
    question.drop()
    question.drop()
    await turns()
    assert not ends.answerer._tasks
    assert [line for line in ends.lines if "drop" in line] == [{"drop": 1}]


@pytest.mark.parametrize(
    ("command", "text"), [("refuse", "not now"), ("fail", "the command has failed")]
)
async def test_a_refusal_follows_the_parts_before_it(ends: Ends, command: str, text: str) -> None:
    parts = ends.asker.ask(command, {"count": 1}).parts()
    assert await anext(parts) == {"number": 0}
    with pytest.raises(CommandRefused, match=text):
        await anext(parts)


async def test_an_answer_that_is_late_is_none(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "ANSWER_TIMEOUT", 0.01)
    with pytest.raises(NoAnswer):
        await ends.numbers("hang")
    await until(lambda: ends.commands.ended == ["hang"])
    ends.asker.take({"answer": 1, "part": {}})  # it is ignored


async def test_the_deadline_begins_with_the_question(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several that are asked at the same time do not wait one after the other.
    monkeypatch.setattr(questions, "ANSWER_TIMEOUT", 0.01)
    asked = [ends.asker.ask("hang", {}) for _ in range(2)]
    with pytest.raises(NoAnswer):
        await anext(asked[0].parts())
    assert asked[1]._deadline <= asyncio.get_running_loop().time()
    with pytest.raises(NoAnswer):
        await anext(asked[1].parts())


async def test_an_answer_that_is_there_may_be_read_late(ends: Ends) -> None:
    question = ends.asker.ask("count", {"count": 1})
    await turns()
    question._deadline = 0.0
    assert [part async for part in question.parts()] == [{"number": 0}]


async def test_an_end_that_does_not_read_does_not_answer(ends: Ends) -> None:
    ends.reads = False
    with pytest.raises(NoAnswer) as raised:
        await ends.numbers(count=1)
    assert raised.type is NoAnswer
    assert not ends.asker._questions


async def test_an_end_that_is_gone_does_not_answer(ends: Ends) -> None:
    waiting = start_task(ends.numbers("hang"))
    with_a_part = ends.asker.ask("count", {"count": 1})
    await turns()
    ends.asker.close()
    with pytest.raises(Gone):
        await waiting
    with pytest.raises(Gone):
        await anext(with_a_part.parts())
    with pytest.raises(Gone):
        await ends.numbers(count=1)


async def test_more_than_was_fetched_is_ignored(ends: Ends) -> None:
    question = Question(ends.asker, 9)
    for number in range(3):
        question.take({"part": {"number": number}})
    assert await anext(question.parts()) == {"number": 0}


async def test_an_answer_that_is_not_fetched_ends(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "FETCH_TIMEOUT", 0.01)
    question = ends.asker.ask("count", {"count": 2})
    await until(lambda: ends.commands.ended == ["count"])
    question.drop()


async def test_a_command_that_is_told_has_no_answer(ends: Ends, log: LogCapture) -> None:
    for command in ("count", "refuse"):
        ends.asker.tell(command, {"count": 2})
    await until(lambda: sorted(ends.commands.ended) == ["count", "refuse"])
    assert not [line for line in ends.lines if "answer" in line]
    assert not log.errors


async def test_too_many_questions_are_refused(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "MOST_QUESTIONS", 2)
    first = [ends.asker.ask("hang", {}) for _ in range(2)]
    with pytest.raises(CommandRefused, match="too many commands at the same time"):
        await ends.numbers(count=1)
    for question in first:
        question.drop()
    await turns()
    assert await ends.numbers(count=1) == [0]


async def test_lines_that_fit_no_question_are_ignored(ends: Ends) -> None:
    for line in ({"fetch": 9}, {"drop": 9}, {"from": "a newer version"}):
        ends.answerer.take(line)
    ends.asker.take({"answer": 9, "part": {}})


async def test_a_close_cancels_what_is_still_executed(ends: Ends) -> None:
    question = ends.asker.ask("hang", {})
    ends.asker.tell("hang", {})
    await turns()
    await ends.answerer.close()
    assert ends.commands.ended == ["hang", "hang"]
    question.drop()
