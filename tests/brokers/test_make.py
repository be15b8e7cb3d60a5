"""Which broker a URL names."""

import pytest

from wsgate.brokers.local.broker import LocalBroker
from wsgate.brokers.make import make_broker
from wsgate.brokers.memory import MemoryBroker
from wsgate.config import Config
from wsgate.server.deadlines import Deadlines


@pytest.mark.parametrize(
    ("url", "kind"),
    [("memory:", MemoryBroker), ("local:", LocalBroker), ("local:/x", LocalBroker)],
)
def test_the_url_names_the_broker(url: str, kind: type[object]) -> None:
    broker = make_broker(url, Config(), lambda: 0.0, Deadlines(), lambda: None)
    assert type(broker) is kind
