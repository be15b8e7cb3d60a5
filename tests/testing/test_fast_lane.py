"""The option --fast-lane of the test suite: it reaches the servers of all processes."""

import os

import wsgate.testing
from tests.apps.echo import app
from wsgate.config import Config
from wsgate.ws.frames.fast_codec import FastCodec


async def test_servers_use_the_selected_codec(fast_lane: bool) -> None:
    async with wsgate.testing.connect(app) as client:
        codec = client.context.codec(None)
    assert isinstance(codec, FastCodec) is fast_lane
    assert os.environ.get("WSGATE_WS_FAST_LANE", "true") == str(fast_lane).lower()


def test_default_of_the_setting_is_unchanged() -> None:
    assert Config().ws_fast_lane
