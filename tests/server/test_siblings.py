"""A worker without others: all that it asks is 0, and what it reports goes nowhere."""

from wsgate.config import Config
from wsgate.server.siblings import NoSiblings, Siblings
from wsgate.server.worker import Worker


async def app(*_: object) -> None:
    """Do nothing."""


def test_without_other_workers_there_is_nothing_to_know() -> None:
    siblings: Siblings = NoSiblings()
    siblings.report_connections(1, 2)
    siblings.report_calls(3)
    siblings.report_address("192.0.2.1", 4)
    siblings.report_accepting(accepting=True)
    assert siblings.count == 1
    assert siblings.connections() == siblings.accepted() == siblings.calls() == 0
    assert siblings.count_of_address("192.0.2.1") == 0
    assert siblings.fewest_connections() is None


def test_a_worker_has_none_by_default() -> None:
    assert isinstance(Worker(app, Config()).siblings, NoSiblings)
