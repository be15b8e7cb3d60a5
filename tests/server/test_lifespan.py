import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Literal

import pytest

from wsgate.errors import IllegalMessage, StartupFailed
from wsgate.server.lifespan import Lifespan
from wsgate.types import App, Receive, Scope, Send

COMPLETE = {"type": "lifespan.startup.complete"}
GONE = {"type": "lifespan.shutdown.complete"}


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the records come to caplog, whatever the log was set up for."""
    monkeypatch.setattr(logging.getLogger("wsgate"), "propagate", True)
    caplog.set_level(logging.DEBUG, "wsgate")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


EXTENSIONS: dict[str, dict[Any, Any]] = {"an extension": {"with": "a value"}}


def lifespan(
    app: App, mode: Literal["auto", "on", "off"] = "auto", state: dict[str, Any] | None = None
) -> Lifespan:
    return Lifespan(app, mode, {} if state is None else state, EXTENSIONS)


async def within_reason(work: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(10):
        await work


class WholeApp:
    """An app with a lifespan that keeps the events it received."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = answers
        self.scope: Scope = {}
        self.received: list[str] = []
        self.ended = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        try:
            for answer in self.answers:
                self.received.append((await receive())["type"])
                await send(answer)
            await receive()
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise


async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    """Know no lifespan."""
    raise KeyError(scope["type"])


async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    """Know no lifespan, politely."""


# -- a whole life ----------------------------------------------------------------------------------


async def test_startup_and_shutdown(caplog: pytest.LogCaptureFixture) -> None:
    app, state = WholeApp(COMPLETE, GONE), dict[str, Any]()
    life = lifespan(app, "on", state)
    await within_reason(life.start())
    assert app.received == ["lifespan.startup"]
    assert app.scope == {
        "type": "lifespan",
        "asgi": {"version": "3.0", "spec_version": "2.0"},
        "state": state,
        "extensions": EXTENSIONS,
    }
    assert app.scope["state"] is state
    await within_reason(life.stop(5.0))
    assert app.received == ["lifespan.startup", "lifespan.shutdown"]
    assert app.ended == "cancelled"  # it waited for more than there is
    assert lines(caplog) == []


async def test_an_app_may_take_its_time_to_start() -> None:
    may_go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await may_go_on.wait()
        await send(COMPLETE)
        await receive()
        await send(GONE)

    life = lifespan(app)
    starting = asyncio.create_task(life.start())
    await asyncio.sleep(0)
    assert not starting.done()
    may_go_on.set()
    async with asyncio.timeout(10):
        await starting
    await within_reason(life.stop(5.0))
    assert life._task is not None
    assert life._task.done()


async def test_off_does_not_call_the_app() -> None:
    life = lifespan(fails, "off")
    await within_reason(life.start())
    await within_reason(life.stop(5.0))
    await within_reason(life.abandon())
    assert life._task is None


# -- an app without lifespan -----------------------------------------------------------------------


async def test_auto_serves_an_app_without_lifespan(caplog: pytest.LogCaptureFixture) -> None:
    life = lifespan(fails)
    await within_reason(life.start())
    assert lines(caplog) == ["INFO ASGI 'lifespan' protocol appears unsupported."]
    await within_reason(life.stop(5.0))


async def test_auto_serves_an_app_that_cancels_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    life = lifespan(app)
    await within_reason(life.start())
    assert lines(caplog) == ["INFO ASGI 'lifespan' protocol appears unsupported."]
    await within_reason(life.stop(5.0))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (asyncio.CancelledError(), "asyncio.exceptions.CancelledError"),
        (ValueError("no\ndatabase"), "ValueError: no database"),
    ],
)
async def test_auto_logs_a_lifespan_that_failed_during_startup(
    caplog: pytest.LogCaptureFixture, error: BaseException, reason: str
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise error

    life = lifespan(app)
    await within_reason(life.start())
    assert lines(caplog) == [
        f"WARNING The application's lifespan ended during startup ({reason}); serving without it",
        "DEBUG Exception in 'lifespan' protocol",
    ]
    await within_reason(life.stop(5.0))


async def test_a_startup_cancelled_by_the_server_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await asyncio.Event().wait()

    life = lifespan(app)
    starting = asyncio.create_task(life.start())
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting], timeout=10)
    assert starting.cancelled()
    assert lines(caplog) == []


async def test_auto_serves_an_app_whose_lifespan_returns(caplog: pytest.LogCaptureFixture) -> None:
    life = lifespan(returns)
    await within_reason(life.start())
    await within_reason(life.stop(5.0))
    assert lines(caplog) == []


async def test_on_requires_a_lifespan(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StartupFailed) as raised:
        await within_reason(lifespan(fails, "on").start())
    assert str(raised.value) == "the application has no lifespan, which --lifespan on asks for"
    assert lines(caplog) == ["ERROR Exception in 'lifespan' protocol"]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)


async def test_on_distinguishes_a_failed_startup_from_no_lifespan() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise RuntimeError("no database")

    with pytest.raises(StartupFailed) as raised:
        await within_reason(lifespan(app, "on").start())
    assert str(raised.value) == "the application's startup failed: RuntimeError: no database"


async def test_on_refuses_an_app_whose_lifespan_returns(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StartupFailed, match="no lifespan"):
        await within_reason(lifespan(returns, "on").start())
    assert lines(caplog) == []


# -- failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"message": "no database"}, "no database"),
        ({}, "the application's startup failed"),
    ],
)
async def test_a_startup_that_fails(
    mode: Literal["auto", "on"], message: dict[str, Any], reason: str
) -> None:
    app = WholeApp({"type": "lifespan.startup.failed", **message})
    life = lifespan(app, mode)
    with pytest.raises(StartupFailed) as raised:
        await within_reason(life.start())
    assert str(raised.value) == reason
    assert app.ended == "cancelled"  # nothing of it is left
    assert life._task is not None
    assert life._task.done()


async def test_a_startup_that_fails_and_raises(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise ConnectionError("refused")

    with pytest.raises(StartupFailed, match=r"^no database$"):
        await within_reason(lifespan(app).start())
    assert lines(caplog) == ["ERROR Exception in 'lifespan' protocol"]


async def test_a_shutdown_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    failed = {"type": "lifespan.shutdown.failed", "message": "a lock is held"}
    life = lifespan(WholeApp(COMPLETE, failed))
    await within_reason(life.start())
    await within_reason(life.stop(5.0))
    assert lines(caplog) == ["ERROR Application shutdown failed. a lock is held"]


async def test_an_app_that_raises_at_its_shutdown(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        raise OSError("disk full")

    life = lifespan(app)
    await within_reason(life.start())
    await within_reason(life.stop(5.0))
    assert lines(caplog) == ["ERROR Exception in 'lifespan' protocol"]


async def test_an_app_that_hangs_at_its_shutdown_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(COMPLETE)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    life = lifespan(app)
    await within_reason(life.start())
    await within_reason(life.stop(0.01))
    assert ended.is_set()
    assert lines(caplog) == ["ERROR Application shutdown did not end within 0.0 s"]


async def test_an_app_that_has_ended_is_not_shut_down(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(COMPLETE)

    life = lifespan(app)
    await within_reason(life.start())
    assert life._task is not None
    async with asyncio.timeout(10):
        await life._task
    await within_reason(life.stop(5.0))
    assert lines(caplog) == []


async def test_a_message_in_the_wrong_state_raises(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(COMPLETE)
        with pytest.raises(IllegalMessage, match=r"in the state running$"):
            await send(COMPLETE)
        await receive()
        await receive()
        await send(GONE)

    life = lifespan(app)
    await within_reason(life.start())
    await within_reason(life.stop(5.0))
    assert lines(caplog) == []


async def test_a_cancelled_start_leaves_no_task(caplog: pytest.LogCaptureFixture) -> None:
    called, cancelled = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        called.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    life = lifespan(app)
    starting = asyncio.create_task(life.start())
    async with asyncio.timeout(10):
        await called.wait()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    assert cancelled.is_set()
    assert lines(caplog) == []
