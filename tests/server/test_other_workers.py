"""A worker without others: all that it asks is 0, and what it reports goes nowhere."""

from wsgate.config import Config
from wsgate.server.other_workers import NoOtherWorkers, OtherWorkers
from wsgate.server.worker import Worker


async def app(*_: object) -> None:
    """Do nothing."""


def test_without_other_workers_there_is_nothing_to_know() -> None:
    others: OtherWorkers = NoOtherWorkers()
    others.report_connections(1, 2)
    others.report_calls(3)
    others.report_address("192.0.2.1", 4)
    others.report_accepting(accepting=True)
    assert others.count == 1
    assert others.connections() == others.accepted() == others.calls() == 0
    assert others.count_of_address("192.0.2.1") == 0
    assert others.fewest_connections() is None


def test_a_worker_has_none_by_default() -> None:
    assert isinstance(Worker(app, Config()).other_workers, NoOtherWorkers)
