"""An app that forks: the child exits when its call returns to the server, and serves no one."""

import httpx
import pytest

from tests.harness.processes import running

STATUSES = {"/exit": "3", "/message": "1", "/raise": "1", "/return": "0"}


@pytest.mark.parametrize("path", STATUSES)
async def test_a_child_exits_at_the_end_of_its_call(loop_name: str, path: str) -> None:
    async with running("tests.apps.forking:app", "--loop", loop_name) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            for _ in range(2):
                answer = await client.get(path)
                assert (answer.status_code, answer.text) == (200, STATUSES[path])
        server.signal()
        assert await server.ended() == 0
    assert not [line for line in server.log if line.startswith(("ERROR", "WARNING"))]
    assert len([line for line in server.log if "200 OK" in line]) == 2
    assert any("no more work" in line for line in server.log) is (path == "/message")
    assert any("ValueError: of the child" in line for line in server.log) is (path == "/raise")
