"""The commands of a supervisor, with workers that the test plays."""

import asyncio
from typing import Any, cast

import pytest

from tests.harness.waiting import start_task, turns
from wsgate.process.commands import CommandRefused, Part
from wsgate.process.questions import Asker
from wsgate.process.supervisor_control import SupervisorControl
from wsgate.process.worker_handle import State


class Worker:
    """A worker. answers: the parts that it gives to each question; None: it does not read."""

    def __init__(self, pid: int | None, row: int, answers: list[Part] | None = None) -> None:
        self.pid, self.row = pid, row
        self.state = State.READY
        self.is_outdated = False
        self.version = "1"
        self.was_killed = False
        self.started_at = 0.0
        self.told: list[str] = []
        self.asked: list[str] = []
        self.arguments: dict[str, Any] = {}  # of the last question
        self.asker = Asker(self._take)
        self.stack: list[str] = []
        self._answers = answers
        self._left: dict[int, list[Part]] = {}

    def _take(self, line: dict[str, Any]) -> bool:
        if "tell" in line:
            self.told.append(line["tell"])
        if "ask" in line:
            self.asked.append(line["command"])
            self.arguments = line["arguments"]
            self._left[line["ask"]] = list(self._answers or ())
        number = line.get("ask") or line.get("fetch")
        if number and self._answers is not None:
            left = self._left[number]
            answer = {"part": left.pop(0)} if left else {"end": True}
            asyncio.get_running_loop().call_soon(self.asker.take, {"answer": number, **answer})
        return self._answers is not None

    async def read_stack(self) -> list[str]:
        return self.stack


class Supervisor:
    """A supervisor of such workers."""

    def __init__(self, *workers: Worker) -> None:
        self.workers = list(workers)
        self.names = ["here"]
        self.target, self.state = len(workers), "ready"
        self.restart_ended: asyncio.Future[str | None] | None = None
        self.levels: list[str] = []
        self.replaced: list[int | None] = []
        self.fixed_by: str | None = None
        self.pause = 0.0

    def load_of(self, worker: Worker) -> tuple[int, float]:
        return worker.row, 0.5

    def broker_away_since(self, worker: Worker) -> float | None:
        return None if worker.row else asyncio.get_running_loop().time() - 5.0

    def hang_up(self) -> None:
        self.restart_ended = asyncio.get_running_loop().create_future()

    def scale(self, target: int) -> None:
        self.target = target

    def replace(self, worker: Worker) -> None:
        self.replaced.append(worker.pid)

    def set_log_level(self, level: str) -> None:
        self.levels.append(level)


async def parts(supervisor: Supervisor, command: str, **arguments: Any) -> list[Part]:
    control = SupervisorControl(cast("Any", supervisor))
    return [part async for part in control.run(command, arguments)]


async def refusal(supervisor: Supervisor, command: str, **arguments: Any) -> str:
    with pytest.raises(CommandRefused) as raised:
        await parts(supervisor, command, **arguments)
    return str(raised.value)


def page(*names: str) -> Part:
    return {"connections": [{"id": name} for name in names]}


def listing(pid: int, row: int, *names: str, total: int) -> Worker:
    return Worker(pid, row, [page(*names), {"total": total, "listed": len(names)}])


async def test_the_states_of_workers() -> None:
    states = [State.STARTING, State.READY, State.READY, State.STOPPING]
    workers = [Worker(100 + row, row) for row in range(4)]
    for worker, state in zip(workers, states, strict=True):
        worker.state = state
    workers[2].is_outdated = workers[3].is_outdated = True
    (status,) = await parts(Supervisor(*workers), "status")
    shown = [one["state"] for one in status["workers"]]
    assert shown == ["starting", "ready", "outdated", "stopping"]
    assert [one["number"] for one in status["workers"]] == [1, 2, 3, 4]
    assert [one["connections"] for one in status["workers"]] == [0, 1, 2, 3]
    away, *others = [one["broker_away"] for one in status["workers"]]
    assert away >= 5.0
    assert others == [None, None, None]


async def test_a_worker_whose_process_is_not_known_yet() -> None:
    starting, ending = Worker(None, 0), Worker(None, 1)
    starting.state, ending.state = State.STARTING, State.STOPPING
    supervisor = Supervisor(starting, ending)
    (status,) = await parts(supervisor, "status")
    assert [one["pid"] for one in status["workers"]] == [None, None]
    nothing = [{"total": 0, "listed": 0, "unanswered": []}]
    assert await parts(supervisor, "connections") == nothing
    assert await parts(supervisor, "connections", worker=1) == nothing
    assert await refusal(supervisor, "drain", worker=1) == "worker 1 is starting"


async def test_a_number_of_workers_that_is_fixed() -> None:
    supervisor = Supervisor(Worker(100, 0))
    supervisor.fixed_by = "--reload"
    refused = "the number of workers is fixed: --reload has one"
    assert await refusal(supervisor, "scale", target=2) == refused
    assert supervisor.target == 1


async def test_the_limit_holds_over_all_workers() -> None:
    workers = [listing(100 + n, n, f"{n}a", f"{n}b", total=7) for n in range(3)]
    *pages, summary = await parts(Supervisor(*workers), "connections", limit=3)
    assert [one["id"] for part in pages for one in part["connections"]] == ["0a", "0b", "1a"]
    assert summary == {"total": 21, "listed": 3, "unanswered": []}


async def test_a_worker_that_ends_has_no_connections_any_more() -> None:
    workers = [Worker(100, 0), listing(101, 1, "a", total=1)]
    workers[0].asker.close()
    supervisor = Supervisor(*workers)
    summary = {"total": 1, "listed": 1, "unanswered": []}
    assert await parts(supervisor, "connections") == [page("a"), summary]
    assert (
        await refusal(supervisor, "close", id="100-abcd-1") == "there is no connection '100-abcd-1'"
    )


async def test_a_worker_that_is_killed_because_it_was_blocked_has_not_answered() -> None:
    workers = [Worker(100, 0), listing(101, 1, "a", total=1)]
    workers[0].asker.close()
    workers[0].was_killed = True
    summary = {"total": 1, "listed": 1, "unanswered": [100]}
    assert await parts(Supervisor(*workers), "connections") == [page("a"), summary]


async def test_a_pause_after_failures_is_in_the_status() -> None:
    supervisor = Supervisor()
    (part,) = await parts(supervisor, "status")
    assert part["server"]["next_start"] is None
    supervisor.pause = 8.0
    (part,) = await parts(supervisor, "status")
    assert part["server"]["next_start"] == 8.0


async def test_workers_that_do_not_answer_are_named() -> None:
    workers = [Worker(100, 0), listing(101, 1, "a", total=1), Worker(102, 2)]
    supervisor = Supervisor(*workers)
    assert await parts(supervisor, "connections") == [
        page("a"),
        {"total": 1, "listed": 1, "unanswered": [100, 102]},
    ]
    assert await refusal(supervisor, "close", id="100-abcd-1") == "worker 100 does not answer"


async def test_an_answer_that_nobody_reads_to_its_end_leaves_no_question() -> None:
    workers = [listing(100 + n, n, "a", total=1) for n in range(2)]
    control = SupervisorControl(cast("Any", Supervisor(*workers)))
    answer = control.run("connections", {})
    await anext(answer)
    await answer.aclose()
    assert not any(worker.asker._questions for worker in workers)


def topics_of(pid: int, row: int, **subscribers: int) -> Worker:
    rates = {"publishes_rate": None, "deliveries_rate": None}
    items = [{"topic": one, "subscribers": number, **rates} for one, number in subscribers.items()]
    count = len(items)
    end = {"total": count, "listed": count, "subscriptions": sum(subscribers.values())}
    return Worker(pid, row, [{"worker": pid, "topics": items}, {"worker": pid, **end}])


async def test_topics_are_added_up_over_the_workers() -> None:
    workers = [topics_of(100, 0, a=3, b=2), topics_of(101, 1, b=2), Worker(102, 2)]
    page, totals = await parts(Supervisor(*workers), "topics", limit=1, topic="*")
    assert [(one["topic"], one["subscribers"]) for one in page["topics"]] == [("b", 4)]
    assert totals == {"total": 2, "listed": 1, "subscriptions": 7, "unanswered": [102]}
    assert workers[0].arguments == {"topic": "*", "limit": 51}
    await parts(Supervisor(*workers), "topics", limit=1000)
    assert workers[0].arguments == {"topic": None, "limit": 1000}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"limit": 0}, "limit must be a number from 1 to 1000"),
        ({"limit": 1001}, "limit must be a number from 1 to 1000"),
        ({"topic": 1}, "topic must be a string of at most 1000 characters"),
    ],
)
async def test_topics_are_chosen_by_a_pattern_and_a_limit(
    arguments: dict[str, Any], text: str
) -> None:
    worker = topics_of(100, 0, a=3)
    assert await refusal(Supervisor(worker), "topics", **arguments) == text
    assert worker.asked == []


async def test_a_worker_is_found_by_its_pid_or_number() -> None:
    supervisor = Supervisor(listing(7, 0, "a", total=1), listing(1, 1, "b", total=1), Worker(9, 2))
    assert (await parts(supervisor, "connections", worker=7))[0] == page("a")
    assert (await parts(supervisor, "connections", worker=2))[0] == page("b")
    ambiguous = "1 is the number of one worker and the pid of another"
    assert await refusal(supervisor, "drain", worker=1) == ambiguous
    assert await refusal(supervisor, "drain", worker=8) == "there is no worker 8"
    await parts(supervisor, "drain", worker=7)
    assert supervisor.replaced == [7]


async def test_only_the_worker_that_the_id_names_closes() -> None:
    workers = [Worker(100 + n, n, [{"closed": "x", "code": 1012}]) for n in range(2)]
    assert await parts(Supervisor(*workers), "close", id="101-abcd-5") == [
        {"closed": "x", "code": 1012}
    ]
    assert [worker.asked for worker in workers] == [[], ["close"]]


async def test_the_level_reaches_workers_that_cannot_answer_yet() -> None:
    gone, starting, ready = Worker(100, 0), Worker(101, 1), Worker(102, 2, [{}])
    starting.state = State.STARTING
    supervisor = Supervisor(gone, starting, ready)
    (answer,) = await parts(supervisor, "log-level", level="error")
    assert answer == {"log_level": "error", "unanswered": [100]}
    assert [worker.told for worker in (gone, starting, ready)] == [["log-level"]] * 2 + [[]]
    assert supervisor.levels == ["error"]


async def test_a_restart_is_waited_for() -> None:
    supervisor = Supervisor(Worker(100, 0))
    for failure in (None, "no app"):
        waiting = start_task(parts(supervisor, "restart", wait=True))
        await turns()
        assert not waiting.done()
        assert supervisor.restart_ended is not None
        supervisor.restart_ended.set_result(failure)
        if failure is None:
            assert (await waiting)[-1] == {"restarted": 1}
        else:
            with pytest.raises(CommandRefused, match="the restart has failed: no app"):
                await waiting


async def test_the_seconds_of_a_wait_are_checked_before_the_restart() -> None:
    supervisor = Supervisor(Worker(100, 0))
    error = await refusal(supervisor, "restart", timeout=0)
    assert error == "timeout must be a number from 1 to 86400"
    assert supervisor.restart_ended is None


async def test_a_worker_that_does_not_answer_writes_its_stack() -> None:
    answered = {"worker": 101, "blocked": False, "stack": ["idle"], "tasks": None}
    workers = [Worker(100, 0), Worker(101, 1, [answered]), Worker(102, 2), Worker(None, 3)]
    workers[0].stack, workers[0].state = ["blocked"], State.STARTING
    found = await parts(Supervisor(*workers), "stack")
    blocked = {"worker": 100, "blocked": True, "stack": ["blocked"], "tasks": None}
    assert found == [answered, blocked, {"unanswered": [102]}]
    assert await parts(Supervisor(*workers), "stack", worker=2) == [answered, {"unanswered": []}]
    assert await refusal(Supervisor(*workers), "stack", worker=9) == "there is no worker 9"
