"""Apps that misbehave; all other paths are those of tests/apps/abuse.py.

WebSockets: `/raise/STAGE` and `/return/STAGE` end their call at a stage; `/early` sends before its
accept and `/twice` accepts twice, and both send the error to the client; `/late` sends after its
close, and `GET /errors` returns the errors; `/deaf` receives nothing until `POST /hear`; `/block`
blocks the loop for the number of seconds in a message; `/stubborn` ignores its cancellation;
`/slow` never accepts; `/burst` answers a message with five of 1,000 bytes; `/push` sends forever;
`/header/HEX` puts the value into a header of its accept.
HTTP: `/echo` streams the request's body back; `/endless` streams forever; `/header/HEX` as above;
`GET /bursts` returns how many bursts were sent.
"""

import asyncio
import contextlib
import json
import time
from typing import Any

from tests.apps.abuse import app as plain

ACCEPT = {"type": "websocket.accept"}
BURST = [f"{number:02}" + "x" * 998 for number in range(5)]
_errors: list[str] = []
_bursts: list[int] = []
_may_hear = asyncio.Event()


def text(payload: str) -> dict[str, str]:
    """Return the message that sends a text."""
    return {"type": "websocket.send", "text": payload}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Run the app that the path names."""
    _, name, *more = scope.get("path", "/").split("/")
    actors = _WEBSOCKETS if scope["type"] == "websocket" else _HTTP
    if name in actors:
        await actors[name](*more, receive, send)
    else:
        await plain(scope, receive, send)


class Tired(Exception):
    """What these apps raise."""


# A type for each stage: the log only counts an error of the same type and place.
TIRED = {
    stage: type("Tired", (Tired,), {})
    for stage in ("called", "connected", "accepted", "received", "sent", "closed")
}


# -- an end at each stage --------------------------------------------------------------------------


async def _raise(stage: str, receive: Any, send: Any) -> None:
    await _reach(stage, receive, send)
    raise TIRED[stage](stage)


async def _return(stage: str, receive: Any, send: Any) -> None:
    await _reach(stage, receive, send)


async def _reach(stage: str, receive: Any, send: Any) -> None:
    steps = {
        "connected": receive,
        "accepted": lambda: send(ACCEPT),
        "received": receive,
        "sent": lambda: send(text("last words")),
        "closed": lambda: send({"type": "websocket.close", "code": 4000}),
    }
    if stage == "called":
        return
    for name, step in steps.items():
        await step()
        if name == stage:
            return


# -- messages out of order -------------------------------------------------------------------------


async def _early(receive: Any, send: Any) -> None:
    await receive()
    result = await _attempt(send, text("too early"))
    await send(ACCEPT)
    await send(text(result))


async def _twice(receive: Any, send: Any) -> None:
    await receive()
    await send(ACCEPT)
    await send(text(await _attempt(send, ACCEPT)))


async def _late(receive: Any, send: Any) -> None:
    await receive()
    await send(ACCEPT)
    await send({"type": "websocket.close", "code": 4000})
    _errors.append(await _attempt(send, text("too late")))
    _errors.append(await _attempt(send, {"type": "websocket.close"}))


async def _attempt(send: Any, message: Any) -> str:
    try:
        await send(message)
    except (RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "fine"


async def _send_errors(_: Any, send: Any) -> None:
    await _json(send, _errors)


async def _json(send: Any, what: object) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": json.dumps(what).encode()})


# -- headers ---------------------------------------------------------------------------------------


async def _header(value: str, receive: Any, send: Any) -> None:
    await receive()
    headers = [(b"x-of-the-app", bytes.fromhex(value))]
    result = await _attempt(send, {**ACCEPT, "headers": headers})
    if result == "fine":
        return
    await send(ACCEPT)
    await send(text(result))


async def _http_header(value: str, receive: Any, send: Any) -> None:
    await receive()
    headers = [(b"x-of-the-app", bytes.fromhex(value))]
    start = {"type": "http.response.start", "status": 200}
    result = await _attempt(send, {**start, "headers": headers})
    if result == "fine":
        return
    await _json(send, result)


# -- apps that do not receive, block, or ignore cancellation ---------------------------------------


async def _deaf(receive: Any, send: Any) -> None:
    await receive()
    await send(ACCEPT)
    await _may_hear.wait()


async def _hear(_: Any, send: Any) -> None:
    _may_hear.set()
    await _json(send, {})


async def _slow(receive: Any, _: Any) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def _stubborn(receive: Any, send: Any) -> None:
    await receive()
    await send(ACCEPT)
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def _block(receive: Any, send: Any) -> None:
    await receive()
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        time.sleep(float(message["text"]))  # noqa: ASYNC251  # on purpose
        await send(text("awake"))


# -- apps that send --------------------------------------------------------------------------------


async def _burst(receive: Any, send: Any) -> None:
    await receive()
    await send(ACCEPT)
    while (await receive())["type"] == "websocket.receive":
        for payload in BURST:
            await send(text(payload))
        _bursts.append(1)


async def _count_bursts(_: Any, send: Any) -> None:
    await _json(send, {"bursts": len(_bursts)})


async def _push(receive: Any, send: Any) -> None:
    await receive()
    await send(ACCEPT)
    with contextlib.suppress(OSError):
        while True:
            await send(text("x" * 10_000))


async def _echo(receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        body = message.get("body", b"")
        await send({"type": "http.response.body", "body": body, "more_body": more})


async def _endless(_: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    with contextlib.suppress(OSError):
        while True:
            await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
            await asyncio.sleep(0.05)


_WEBSOCKETS: dict[str, Any] = {
    "raise": _raise,
    "return": _return,
    "early": _early,
    "twice": _twice,
    "late": _late,
    "header": _header,
    "deaf": _deaf,
    "slow": _slow,
    "stubborn": _stubborn,
    "block": _block,
    "burst": _burst,
    "push": _push,
}
_HTTP: dict[str, Any] = {
    "errors": _send_errors,
    "header": _http_header,
    "hear": _hear,
    "bursts": _count_bursts,
    "echo": _echo,
    "endless": _endless,
}
