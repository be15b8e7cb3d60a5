import asyncio
import logging
from typing import Any

import pytest
import starlette.requests
import starlette.websockets

from wsgate.config import Config
from wsgate.errors import ClientDisconnected
from wsgate.observe.throttled_log import throttled
from wsgate.server import app_call
from wsgate.server.worker import Worker
from wsgate.types import App, Message, Receive, Scope, Send


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the records come to caplog, whatever the log was set up for."""
    monkeypatch.setattr(logging.getLogger("wsgate"), "propagate", True)
    caplog.set_level(logging.DEBUG, "wsgate")


class Call:
    """A call of an app, and what was reported about its end."""

    def __init__(self, app: App) -> None:
        self.worker = Worker(app, Config())
        self.registry: dict[asyncio.Task[None], Any] = self.worker.exchanges
        self.ends: list[BaseException | None] = []

    def start(self) -> asyncio.Task[None]:
        app_call.start(self.worker, {"type": "http"}, self, self.registry)
        return next(iter(self.registry), None) or asyncio.create_task(_over())

    async def receive(self) -> Message:
        return {"type": "http.request"}

    async def send(self, message: Message) -> None:
        """Take it."""

    def done(self, error: BaseException | None) -> None:
        self.ends.append(error)


async def _over() -> None:
    """Stand in for the task of a call that an eager task has ended already."""


async def ended(task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(10):
        await task


# -- start -----------------------------------------------------------------------------------------


async def test_an_app_is_called_in_a_task_that_the_worker_keeps() -> None:
    given: list[Any] = []
    may_end = asyncio.Event()

    async def app(*args: Any) -> None:
        given.extend(args)
        await may_end.wait()

    call = Call(app)
    task = call.start()
    assert call.worker.tasks == {task}
    ending = asyncio.create_task(call.worker.ended.wait())
    await asyncio.sleep(0)
    may_end.set()
    async with asyncio.timeout(10):
        await ending
    assert given == [{"type": "http"}, call.receive, call.send]
    assert call.ends == [None]
    assert call.worker.tasks == set()


async def test_a_call_that_ends_at_once_is_not_kept() -> None:
    async def app(*_: Any) -> None:
        """Return at once, which with eager tasks is before `start` does."""

    call = Call(app)
    await ended(call.start())
    await asyncio.sleep(0)  # the task's own callback
    assert call.ends == [None]
    assert call.worker.tasks == set()


async def test_a_task_factory_without_a_context_argument() -> None:
    async def app(*_: Any) -> None:
        """Return at once."""

    def factory(loop: asyncio.AbstractEventLoop, work: Any) -> asyncio.Task[Any]:
        return asyncio.Task(work, loop=loop)

    asyncio.get_running_loop().set_task_factory(factory)
    call = Call(app)
    await ended(call.start())
    assert call.ends == [None]


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]
)
async def test_whatever_an_app_raises_ends_its_call_alone(error: BaseException) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    call = Call(app)
    await ended(call.start())
    assert call.ends == [error]


async def test_a_cancelled_call_reports_its_cancellation() -> None:
    called = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        called.set()
        await asyncio.Event().wait()

    call = Call(app)
    task = call.start()
    async with asyncio.timeout(10):
        await called.wait()
    task.cancel("the server stops")
    await ended(task)
    (error,) = call.ends
    assert isinstance(error, asyncio.CancelledError)


async def test_a_call_whose_loop_is_closed_is_not_reported() -> None:
    class Forever:
        def __await__(self) -> Any:
            yield

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Forever()

    call = Call(app)
    run = app_call._run(call.worker, {}, call)
    run.send(None)
    run.close()
    assert call.ends == []


# -- report ----------------------------------------------------------------------------------------


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


@pytest.mark.parametrize("client_left", [True, False])
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), OSError("not the client's")])
def test_an_error_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture, error: BaseException, client_left: bool
) -> None:
    app_call.report(error, client_left=client_left)
    assert lines(caplog) == ["ERROR Exception in ASGI application"]
    (record,) = caplog.records
    assert record.name == "wsgate.error"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


LEFT = ClientDisconnected("the client has left")
GROUP = BaseExceptionGroup("", [LEFT, BaseExceptionGroup("", [LEFT])])


def chained(*links: tuple[str, BaseException]) -> BaseException:
    """Return an exception with a chain: each link's name is `cause` or `context`."""
    error: BaseException = RuntimeError("no response returned")
    first = error
    for name, link in links:
        setattr(error, f"__{name}__", link)
        error = link
    return first


def ring() -> BaseException:
    first, second = ValueError("first"), ValueError("second")
    first.__context__, second.__context__ = second, first
    return first


@pytest.mark.parametrize(
    "error",
    [
        LEFT,
        GROUP,
        BaseExceptionGroup("", [ValueError("of another task"), LEFT]),
        chained(("cause", LEFT)),
        chained(("context", OSError("the framework's")), ("context", LEFT)),
        chained(("context", KeyError("a")), ("cause", GROUP)),
        starlette.requests.ClientDisconnect(),
        chained(("context", starlette.websockets.WebSocketDisconnect(1001))),
    ],
)
def test_a_disconnected_client_is_logged_at_debug_level(
    caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    app_call.report(error, client_left=True)
    assert lines(caplog) == ["DEBUG The client left during the app's call"]


@pytest.mark.parametrize(
    ("error", "client_left"),
    [
        (LEFT, False),  # the app has made it up
        (chained(("cause", LEFT)), False),  # it talks to another client, which has left
        (starlette.websockets.WebSocketDisconnect(1001), False),
        (BaseExceptionGroup("", [ValueError("no")]), True),
        (chained(("cause", ValueError("no")), ("context", KeyError("a"))), True),
        (ring(), True),
    ],
)
def test_errors_that_only_resemble_a_disconnect_are_logged(
    caplog: pytest.LogCaptureFixture, error: BaseException, client_left: bool
) -> None:
    app_call.report(error, client_left=client_left)
    assert lines(caplog) == ["ERROR Exception in ASGI application"]


@pytest.mark.parametrize("client_left", [True, False])
def test_a_cancelled_call_is_a_warning(caplog: pytest.LogCaptureFixture, client_left: bool) -> None:
    app_call.report(asyncio.CancelledError(), client_left=client_left)
    assert lines(caplog) == ["WARNING An app's call was cancelled before it ended"]
    assert caplog.records[0].exc_info is None


def test_the_same_error_again_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        app_call.report(ValueError("no"), client_left=False)
    throttled.report_all()
    assert lines(caplog) == [
        "ERROR Exception in ASGI application",
        "ERROR Exception in ASGI application: ValueError: no (repeated 2 times in 0.1 s)",
    ]
