"""A broker of the user's own: each fault is one line."""

from pathlib import Path

import pytest

from wsgate.brokers.make import make_broker
from wsgate.brokers.memory import MemoryBroker
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.server.deadlines import Deadlines
from wsgate.topics import Publisher, TopicsError

MODULE = """
from wsgate.brokers.memory import MemoryBroker

number = 1

def make(settings):
    return MemoryBroker(None, None, settings.topics_history_max_bytes)

def fail(settings):
    raise KeyError("NATS_URL")

def other(settings):
    return number

class Half:
    def __init__(self, settings):
        pass

    for name in ("start", "stop", "attach", "detach", "publish", "missed", "count", "members"):
        locals()[name] = print
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_broker.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_broker"


def make(name: str) -> object:
    config = Config(topics=name, topics_history_max_bytes=5)
    return make_broker(name, config, lambda: 0.0, Deadlines(), lambda: None)


def test_a_function_makes_the_broker(module: str) -> None:
    broker = make(f"{module}:make")
    assert isinstance(broker, MemoryBroker)
    assert broker._histories.max_bytes == 5


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no_module:make", 'could not import module "no_module": no such module'),
        ("own_broker:missing", 'attribute "missing" not found in "own_broker" (.*own_broker.py)'),
        ("own_broker:number", '"own_broker:number" is 1, not a function that makes a broker'),
        ("own_broker:fail", "\"own_broker:fail\" failed: KeyError: 'NATS_URL' (.*, line 10)"),
        (
            "own_broker:other",
            '"own_broker:other" has returned 1, not a broker: it has no start, .+',
        ),
        ("own_broker:Half", ".*not a broker: it has no state, no changed, no join, no leave"),
    ],
)
def test_a_fault_is_one_line(module: str, name: str, text: str) -> None:
    del module
    pattern = text.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ConfigError, match=f"^--topics: {pattern}$") as raised:
        make(name)
    assert raised.value.setting == "topics"


def test_a_publisher_needs_the_carrier_itself() -> None:
    with pytest.raises(TopicsError, match="own:make cannot be published to from other programs"):
        Publisher("own:make")
