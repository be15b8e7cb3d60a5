"""The page's WebSocket: what it shows each second, and what it may ask for.

All messages are objects of JSON. The server sends `hello` first, then a `sample` each second. The
page sends requests, with a number as `ask`: `connections`, and with the token `close` and `drain`.
The answer has the same number, and `error` if it was refused.
"""

import asyncio
import contextlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from wsgate._version import __version__
from wsgate.status.sampler import Sampler
from wsgate.status.source import Part, Refused, Source
from wsgate.types import Receive, Send

INTERVAL = 1.0  # seconds between two samples
MOST_ROWS = 1000  # connections in one answer
WRONG_TOKEN_PAUSE = 1.0  # seconds until the next request after a wrong token
_ACTIONS = {"close", "drain"}
# The arguments of each request, which are those of the command.
_ARGUMENTS = {
    "connections": ("path", "address", "worker", "limit"),
    "close": ("id", "code", "reason"),
    "drain": ("worker",),
}


class Viewer:
    """One open page.

    Args:
        sampler: Takes what it shows.
        source: The server, for its requests.
        token: With which it may act; None if it may not.
    """

    def __init__(self, sampler: Sampler, source: Source, token: str | None) -> None:
        self._sampler = sampler
        self._source = source
        self._token = token

    async def serve(self, receive: Receive, send: Send) -> None:
        """Send samples and answer requests until the page is closed."""
        await _send(send, {"type": "hello", "version": __version__, "can_act": bool(self._token)})
        sending = asyncio.create_task(self._send_samples(send))
        try:
            while (message := await receive())["type"] == "websocket.receive":
                await self._answer(message.get("text") or "", send)
        finally:
            sending.cancel()
            await asyncio.wait([sending])

    async def _send_samples(self, send: Send) -> None:
        since = 0
        with contextlib.suppress(OSError):  # the page was closed
            while True:
                sample, since = await self._sampler.sample(since)
                await _send(send, sample)
                await asyncio.sleep(INTERVAL)

    async def _answer(self, text: str, send: Send) -> None:
        try:
            request = json.loads(text)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            return  # our page sends objects only
        answer: Part = {"type": "answer", "ask": request.get("ask")}
        try:
            answer |= await self._execute(request)
        except Refused as refused:
            answer["error"] = str(refused)
        await _send(send, answer)

    async def _execute(self, request: Mapping[str, Any]) -> Part:
        command = request.get("do")
        if not isinstance(command, str) or command not in _ARGUMENTS:
            raise Refused("there is no such request")
        if command in _ACTIONS:
            await self._check_token(request.get("token"))
        arguments = {
            name: value for name in _ARGUMENTS[command] if (value := request.get(name)) is not None
        }
        if command == "connections":
            return await self._list(arguments)
        result: Part = {}
        async for part in self._source.ask(command, arguments):
            result |= part
        return result

    async def _check_token(self, token: object) -> None:
        if self._token is None:
            raise Refused("the page is read only: start the server with --status-token")
        given = token.encode(errors="surrogatepass") if isinstance(token, str) else b""
        if not hmac.compare_digest(given, self._token.encode()):
            await asyncio.sleep(WRONG_TOKEN_PAUSE)  # nobody can try many
            raise Refused("the token is wrong")

    async def _list(self, arguments: dict[str, Any]) -> Part:
        limit = arguments.get("limit")
        is_limit = isinstance(limit, int) and not isinstance(limit, bool)
        arguments["limit"] = min(limit, MOST_ROWS) if is_limit and limit else MOST_ROWS
        found: Part = {"connections": []}
        async for part in self._source.ask("connections", arguments):
            found["connections"] += part.pop("connections", [])
            found |= part
        return found


async def _send(send: Send, message: Part) -> None:
    with contextlib.suppress(OSError):  # the page was closed
        await send({"type": "websocket.send", "text": json.dumps(message)})
