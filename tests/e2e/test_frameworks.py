"""A Starlette and a FastAPI app in a server process, used by third-party clients."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from tests.harness.processes import ServerProcess, running

MIB = 1024 * 1024


@pytest.fixture(params=["starlette_app", "fastapi_app"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[ServerProcess]:
    async with running(f"tests.apps.frameworks:{request.param}", "--lifespan", "on") as process:
        yield process
        process.signal()
        assert await process.ended() == 0
        assert not [line for line in process.log if "Traceback" in line or "ERROR" in line]


async def test_a_framework_s_site(server: ServerProcess) -> None:
    async with httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.get("/state")).json() == {"greeting": "hello from the lifespan"}

        streamed = await client.get("/stream")
        assert streamed.headers["transfer-encoding"] == "chunked"
        assert streamed.text.splitlines() == [str(number) for number in range(1_000)]

        async def body() -> AsyncIterator[bytes]:
            for _ in range(32):
                yield bytes(MIB // 16)

        assert (await client.post("/upload", content=body())).json() == {"size": 2 * MIB}
        assert (await client.post("/upload", content=bytes(MIB))).json() == {"size": MIB}
        assert (await client.get("/nowhere")).status_code == 404

    offered = [Subprotocol("chat.v1"), Subprotocol("chat.v2")]
    async with connect(f"{server.ws_url}/talk", subprotocols=offered) as websocket:
        assert websocket.subprotocol == "chat.v2"
        assert websocket.response is not None
        assert websocket.response.headers["x-app"] == "framework"
        assert await websocket.recv() == "hello from the lifespan"
        await websocket.send(json.dumps({"text": "żółw 🐢"}))
        assert json.loads(await websocket.recv()) == {"got": {"text": "żółw 🐢"}}

    with pytest.raises(InvalidStatus) as refused:
        await connect(f"{server.ws_url}/refuse")
    assert refused.value.response.status_code == 403

    with pytest.raises(InvalidStatus) as denied:
        await connect(f"{server.ws_url}/deny")
    assert denied.value.response.status_code == 401
    assert json.loads(denied.value.response.body or b"") == {"why": "no ticket"}
