"""A source that answers what the test has set, and the app over it in memory."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest

from wsgate.metrics.samples import Samples, json_parts
from wsgate.status.app import StatusApp
from wsgate.status.source import Part, Refused

TOKEN = "a token of the tests"


class FakeSource:
    """Answers with parts; records what was asked.

    Attributes:
        answers: The parts of each command. Without any it is refused.
        asked: The commands, with their arguments.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[Part]] = {
            "status": [
                {
                    "server": {"state": "ready", "uptime": 5.0, "target": 1},
                    "workers": [self.worker(number=1, pid=7)],
                }
            ],
            "live": [{"worker": 7, "number": 0, "closes": [], "topics": [], "slow": []}],
        }
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.set_metrics([Samples("x", "counter", "X.", "", [("x_total", {}, 5.0)])])

    @staticmethod
    def worker(number: int, pid: int) -> Part:
        return {"state": "ready", "broker_away": None, "number": number, "pid": pid}

    def set_metrics(self, families: list[Samples]) -> None:
        self.answers["metrics"] = [{"samples": part} for part in json_parts(families)]

    def last(self, command: str) -> dict[str, Any]:
        """Return the latest arguments of a command; the page asks for others meanwhile."""
        return [arguments for name, arguments in self.asked if name == command][-1]

    async def ask(self, command: str, arguments: Mapping[str, Any]) -> AsyncGenerator[Part]:
        self.asked.append((command, dict(arguments)))
        if command not in self.answers:
            raise Refused(f"{command} is refused")
        for part in self.answers[command]:
            yield dict(part)


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
def app(source: FakeSource) -> StatusApp:
    return StatusApp(source, TOKEN, 30.0)
