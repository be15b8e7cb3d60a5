"""The tests' own option --fast-path: it reaches the servers of this process and its children."""

import os

import wsgate.testing
from tests.apps.echo import app
from wsgate.config import Config
from wsgate.ws.frames.fast_codec import FastCodec


async def test_servers_have_the_codec_that_was_asked_for(fast_path: bool) -> None:
    async with wsgate.testing.connect(app) as client:
        codec = client.worker.make_codec(None)
    assert isinstance(codec, FastCodec) is fast_path
    assert os.environ.get("WSGATE_WS_FAST_PATH", "true") == str(fast_path).lower()


def test_a_setting_has_its_default_all_the_same() -> None:
    assert Config().ws_fast_path
