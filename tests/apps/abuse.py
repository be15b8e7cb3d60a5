"""The app of the abuse suite: echoes, counts, and reports the state of its process.

WebSockets: `/` echoes; `/count` answers each message with its length; `/quiet` only receives;
`/hold` accepts after `POST /release`, then echoes.
HTTP: `GET /stats` responds with JSON (the fields are those of `Stats` in the harness); `POST
/release` resumes all calls of `/hold`; `POST /pulse` starts to count the loop's iterations, `DELETE
/pulse` stops and responds with JSON; any other path responds with the length of the request's body.
"""

import asyncio
import json
import time
from typing import Any


class Pulse:
    """Counts the iterations of the loop in a task, and measures them.

    turns: number of iterations. gap: the longest, in seconds. busy: the longest, in seconds of CPU
    time, which does not depend on the load of the machine. long: how many took more than LONG
    seconds of CPU time.
    """

    LONG = 0.005

    def __init__(self) -> None:
        self.turns = self.long = 0
        self.gap = self.busy = 0.0
        self._task = asyncio.ensure_future(self._beat())

    async def _beat(self) -> None:
        last, last_busy = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(0)
            now, now_busy = time.perf_counter(), time.thread_time()
            self.gap = max(self.gap, now - last)
            self.busy = max(self.busy, now_busy - last_busy)
            self.long += now_busy - last_busy > self.LONG
            self.turns += 1
            last, last_busy = now, now_busy

    async def stop(self) -> None:
        """End the task."""
        self._task.cancel()
        await asyncio.wait([self._task])


class Site:
    """The app of one process, with its counts.

    websockets: running calls. messages: received on all WebSockets. size: of these in bytes or
    characters.
    """

    def __init__(self) -> None:
        self.websockets = self.messages = self.size = 0
        self._release = asyncio.Event()
        self._pulse: Pulse | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            self.websockets += 1
            try:
                await self._websocket(scope["path"], receive, send)
            finally:
                self.websockets -= 1
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            raise NotImplementedError(scope["type"])

    async def _websocket(self, path: str, receive: Any, send: Any) -> None:
        await receive()
        if path == "/hold":
            await self._release.wait()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            payload = message.get("text")
            payload = message["bytes"] if payload is None else payload
            self.messages += 1
            self.size += len(payload)
            if path == "/count":
                await send({"type": "websocket.send", "text": str(len(payload))})
            elif path != "/quiet":
                await send({**message, "type": "websocket.send"})

    async def _http(self, scope: Any, receive: Any, send: Any) -> None:
        size = 0
        while (message := await receive())["type"] == "http.request":
            size += len(message.get("body", b""))
            if not message.get("more_body", False):
                break
        answer = await self._answer(scope["method"], scope["path"])
        body = json.dumps(size if answer is None else answer).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, method: str, path: str) -> dict[str, float] | None:
        match method, path:
            case "GET", "/stats":
                return {
                    "tasks": len(asyncio.all_tasks()),
                    "websockets": self.websockets,
                    "messages": self.messages,
                    "size": self.size,
                }
            case "POST", "/release":
                self._release.set()
                self._release = asyncio.Event()
                return {}
            case "POST", "/pulse":
                self._pulse = Pulse()
                return {}
            case "DELETE", "/pulse":
                assert self._pulse is not None
                await self._pulse.stop()
                pulse = self._pulse
                return {
                    "turns": pulse.turns,
                    "long": pulse.long,
                    "gap": pulse.gap,
                    "busy": pulse.busy,
                }
        return None


app = Site()
