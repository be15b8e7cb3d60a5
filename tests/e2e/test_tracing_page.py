"""The programs of docs/tracing.md do what the page says."""

import importlib.metadata
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.harness.processes import ROOT, ServerProcess, program
from tests.harness.waiting import soon

PAGE = (ROOT / "docs" / "tracing.md").read_text()
PROGRAMS = dict(re.findall(r"```python\n# (\w+\.py).*?\n(.*?)```", PAGE, re.DOTALL))
PATIENCE = 60.0
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip a test without some packages."""
    installed = {one.metadata["Name"].lower() for one in importlib.metadata.distributions()}
    missing = sorted({*names} - installed)
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@asynccontextmanager
async def running(folder: Path, name: str, *options: str) -> AsyncIterator[ServerProcess]:
    """Run a program of the page as the page says, on a free port."""
    (folder / f"{name}.py").write_text(PROGRAMS[f"{name}.py"])
    command = ("-m", "wsgate", f"{name}:app", *options, "--port", "0")
    async with program(*command, cwd=folder, variables={"PYTHONPATH": str(ROOT)}) as process:
        yield process


def spans_of(lines: list[str]) -> list[Any]:
    """Return the spans that were printed: each is an object of JSON over some lines."""
    found = re.findall(r"^\{$.*?^\}$", "\n".join(lines), re.DOTALL | re.MULTILINE)
    return [json.loads(text) for text in found]


@needs("opentelemetry-sdk", "opentelemetry-instrumentation-asgi", "starlette")
async def test_a_span_for_the_connection_and_one_for_each_message(tmp_path: Path) -> None:
    async with running(tmp_path, "traced", "--log-format", "logfmt") as server:
        started = await server.logged(r"event=server_started .*addresses=http(\S+)", PATIENCE)
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
        address = f"ws{started[1]}/chat"
        async with connect(address, additional_headers=headers, proxy=None) as socket:
            for text in ("a", "b"):
                await socket.send(text)
                assert await soon(socket.recv(), PATIENCE) == text
        closed = await server.logged(r"event=websocket_close .*connection=(\S+)", PATIENCE)
        assert f"trace_id={TRACE} span_id={SPAN}" in closed.string
        server.signal()
        assert await server.ended() == 0
    *messages, connection = spans_of(server.log)
    assert [one["name"] for one in messages] == ["message", "message"]
    assert connection["context"]["trace_id"] == f"0x{TRACE}"
    assert connection["parent_id"] == f"0x{SPAN}"
    assert connection["attributes"]["wsgate.connection_id"] == closed[1]
    for one in messages:
        assert one["parent_id"] is None
        assert one["links"][0]["context"]["span_id"] == connection["context"]["span_id"]


@needs("sentry-sdk", "starlette")
async def test_an_error_with_the_id_of_its_connection(tmp_path: Path) -> None:
    async with running(tmp_path, "reported") as server:
        await server.serves()
        async with connect(f"{server.ws_url}/chat", proxy=None) as socket:
            await socket.send("5")
            assert await soon(socket.recv(), PATIENCE) == "2.0"
            await socket.send("0")
            with pytest.raises(ConnectionClosed):
                await soon(socket.recv(), PATIENCE)
            assert socket.close_code == 1011
        await server.logged("ZeroDivisionError: division by zero")
        await server.logged(r"\[closed\] 1011 ")
        server.signal()
        assert await server.ended() == 0
    (line,) = [line for line in server.log if line.startswith("SENTRY")]
    tag = rf"\{{'connection_id': '{server.pid}-\w{{4}}-1'\}}"
    assert re.fullmatch(rf"SENTRY ZeroDivisionError division by zero {tag}", line)
