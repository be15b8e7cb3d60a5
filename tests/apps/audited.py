"""An app that logs what its process imports and opens after the startup.

Each such event is a line `AUDIT event argument` on stderr, until the process ends. Files that
Python opens to show the source lines of a traceback are not logged: they are optional.
HTTP: `/raise/NAME` raises the error NAME, `/half` raises during its response, `/nothing` returns
without one, `/import` imports a module for the first time. WebSocket: `/deny` sends a denial
response. All other paths are those of tests/apps/abuse_app.py.
"""

import atexit
import os
import sys
from typing import Any

from tests.apps.abuse_app import app as plain

_EVENTS = {"import", "open", "os.listdir", "os.scandir"}
_is_over: list[bool] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Run the app that the path names."""
    _, name, *more = scope.get("path", "/").split("/")
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif name in _ACTORS:
        await _ACTORS[name](*more, receive, send)
    else:
        await plain(scope, receive, send)


async def _lifespan(receive: Any, send: Any) -> None:
    await receive()
    # Python itself imports and opens files when the interpreter exits.
    atexit.register(lambda: _is_over.append(True))
    sys.addaudithook(_note)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _EVENTS or _is_over:
        return
    if event == "open" and _is_within("linecache", "traceback"):
        return
    os.write(2, f"AUDIT {event} {arguments[0]!r}\n".encode())


def _is_within(*modules: str) -> bool:
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_globals.get("__name__") in modules:
            return True
    return False


# -- apps ------------------------------------------------------------------------------------------


async def _raise(name: str, receive: Any, send: Any) -> None:
    _ERRORS[name]()


def _misspelt_name() -> None:
    print(recieve)  # type: ignore[name-defined]  # noqa: F821, T201


def _misspelt_attribute() -> None:
    sys.stdot  # type: ignore[attr-defined]  # noqa: B018


def _misspelt_import() -> None:
    from sys import stdot  # type: ignore[attr-defined]  # noqa: F401, PLC0415


def _wide_letters() -> None:
    int("日本") + len("日本" + str(1 / 0) + "é")


def _syntax() -> None:
    raise SyntaxError("invalid syntax", ("wrong.py", 1, 5, "x = = 1\n"))


def _group() -> None:
    try:
        _wide_letters()
    except ValueError as error:
        errors = [error, KeyError("\x1b[31m\n日本"), ExceptionGroup("inner", [OSError(2, "no")])]
        raise BaseExceptionGroup("of \ud800 all", errors) from None


def _caused() -> None:
    try:
        _misspelt_name()
    except NameError as error:
        raise ValueError("while \x00 handling") from error


def _note_added() -> None:
    error = RuntimeError("noted")
    error.add_note("a note\r\nof two lines")
    raise error


def _recursion() -> None:
    _recursion()


def _operator() -> None:
    {"a": [1]}["a"][0] + "b"  # type: ignore[operator]


_ERRORS = {
    "name": _misspelt_name,
    "attribute": _misspelt_attribute,
    "import": _misspelt_import,
    "wide": _wide_letters,
    "syntax": _syntax,
    "group": _group,
    "cause": _caused,
    "note": _note_added,
    "recursion": _recursion,
    "operator": _operator,
}


async def _half(receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    _misspelt_name()


async def _nothing(receive: Any, send: Any) -> None:
    """Return without a response."""


async def _import(receive: Any, send: Any) -> None:
    import this  # noqa: F401, PLC0415  # not imported elsewhere

    await _answer(send)


async def _deny(receive: Any, send: Any) -> None:
    await receive()
    start = {"type": "websocket.http.response.start", "status": 451, "headers": []}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"here"})


async def _wrong(receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": "200"})


async def _answer(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b""})


_ACTORS: dict[str, Any] = {
    "raise": _raise,
    "half": _half,
    "nothing": _nothing,
    "import": _import,
    "deny": _deny,
    "wrong": _wrong,
}
ERRORS = tuple(_ERRORS)
