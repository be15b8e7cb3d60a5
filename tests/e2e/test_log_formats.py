"""The log as JSON and logfmt, in real processes, and through structlog and loguru."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from tests.harness.processes import ROOT, ServerProcess, program, running

APP = """
async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["path"] == "/fail":
        raise ValueError("first line\\nsecond line")
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body"})
"""
PAGE = ROOT / "docs" / "logging.md"
TRACE = "0af7651916cd43dd8448eb211c80319c"
FAILURES = 5

Fields = dict[str, Any]


def parse_logfmt(line: str) -> Fields:
    """Parse a line with the rules of a shell; the values of these tests have no others."""
    return dict(word.split("=", 1) for word in shlex.split(line))


async def use(server: ServerProcess) -> None:
    """Send requests, some of which fail, and open a WebSocket."""
    trace = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    async with httpx.AsyncClient(base_url=server.url, headers=trace) as client:
        assert (await client.get("/a?b=1")).status_code == 200
    for _ in range(FAILURES):
        async with httpx.AsyncClient(base_url=server.url) as client:
            assert (await client.get("/fail")).status_code == 500
    async with websockets.connect(f"{server.ws_url}/ws") as websocket:
        await websocket.send("hello")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("name", "parse"), [("json", json.loads), ("logfmt", parse_logfmt)])
async def test_each_line_of_a_server_is_an_event(
    name: str, parse: Callable[[str], Fields], workers: int, tmp_path: Path
) -> None:
    (tmp_path / "formatted.py").write_text(APP)
    options = ("--app-dir", str(tmp_path), "--log-format", name, "--workers", str(workers))
    async with running("formatted:app", *options) as server:
        await use(server)
        await server.logged("websocket_close")
        server.signal()
        assert await server.ended() == 0
        lines = [parse(line) for line in server.log]
    by_event: dict[str, list[Fields]] = {}
    for fields in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields["time"])
        assert int(fields["worker"]) > 0
        by_event.setdefault(fields["event"], []).append(fields)
    assert {name: len(found) for name, found in by_event.items() if name != "log"} == {
        "server_started": 1,
        "request": 1 + FAILURES,
        "websocket_open": 1,
        "websocket_close": 1,
        "server_stopping": 1,
        "server_stopped": 1,
    }
    (request,) = (one for one in by_event["request"] if one["path"] == "/a")
    assert (request["query"], request["trace_id"]) == ("b=1", TRACE)
    opened, closed = by_event["websocket_open"][0], by_event["websocket_close"][0]
    assert opened["connection"] == closed["connection"]
    assert (str(closed["code"]), closed["cause"]) == ("1000", "client_closed")
    errors = [one for one in lines if one["level"] == "error"]
    assert sum(int(one.get("repeated", 1)) for one in errors) == FAILURES
    assert 1 <= sum("exception" in one for one in errors) <= workers


@pytest.mark.parametrize("library", ["structlog", "loguru"])
async def test_a_library_gets_the_lines_as_the_page_says(library: str, tmp_path: Path) -> None:
    pytest.importorskip(library)
    section = PAGE.read_text().partition(f"### {library}\n")[2]
    example = re.findall(r"(?s)```python\n(.*?)```", section)[0]
    (tmp_path / "main.py").write_text(example.replace("port=8000", "port=0"))
    async with program("main.py", cwd=tmp_path, variables={"PYTHONPATH": str(ROOT)}) as server:
        await server.serves()
        async with httpx.AsyncClient() as client:
            assert (await client.get(server.url + "/a?b=1")).status_code == 204
        with pytest.raises(websockets.InvalidStatus):
            await websockets.connect(server.ws_url)
        server.signal()
        await server.ended()
        lines = [json.loads(line) for line in server.log]
    if library == "loguru":
        lines = [{"event": line["record"]["message"], **line["record"]["extra"]} for line in lines]
    events = [line["event"] for line in lines]
    assert events == [
        *("server_started", "called", "request", "log", "handshake_refused"),
        *("server_stopping", "server_stopped"),
    ]
    assert lines[3]["exception"].startswith("Traceback (most recent call last):\n")
    request = lines[events.index("request")]
    assert (request["path"], request["query"], request["status"]) == ("/a", "b=1", 204)


async def test_a_client_that_connects_again_as_the_page_says(tmp_path: Path) -> None:
    section = PAGE.read_text().partition("### Tell reconnects from first connections\n")[2]
    app, client = re.findall(r"(?s)```python\n(.*?)```", section)[:2]
    words = shlex.split(re.findall(r"(?s)```sh\n(.*?)```", section)[0])
    (tmp_path / "reconnects.py").write_text(app)
    options = ("--app-dir", str(tmp_path), "--port", "0", "--log-format", "json")
    async with program("-m", *words, *options) as server:
        await server.serves()
        url = server.ws_url.removeprefix("ws://")
        async with program("-c", client.replace("127.0.0.1:8000", url)) as process:
            assert await process.ended() == 0, process.text
        server.signal()
        assert await server.ended() == 0
        lines = [json.loads(line) for line in server.log]
    first, second = [one for one in lines if one["event"] == "websocket_open"]
    assert "reconnect" not in first
    assert second["reconnect"] == first["connection"]
