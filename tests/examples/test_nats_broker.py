"""The example of a broker, over a real NATS: what docs/topics-broker.md says of it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from nats.aio.client import Client
from websockets.asyncio.client import connect

from examples.nats_broker import workers as nats_workers
from examples.nats_broker.broker import NatsBroker, subject_of
from tests.harness.log import LogCapture, capture_log
from tests.harness.nats import NatsServer, nats_server
from tests.harness.processes import running
from tests.harness.waiting import pause
from wsgate import ConfigError
from wsgate.testing.brokers import KEPT, PATIENCE, Check, Recorder, Worker, checks, until, workers
from wsgate.topics import LimitReached, TopicsError, Unavailable
from wsgate.topics.presence import Change
from wsgate.topics.publication import Publication

TIMEOUT = 10.0
GRACE = 0.2


@pytest_asyncio.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NatsServer]:
    monkeypatch.setattr(nats_workers, "GRACE", GRACE)
    monkeypatch.setattr(nats_workers, "INTERVAL", 0.2)
    async with nats_server(tmp_path) as one:
        yield one


@pytest.mark.parametrize("check", checks(history=False), ids=lambda check: check.__name__)
async def test_it_keeps_the_promises(server: NatsServer, check: Check) -> None:
    await check(lambda: NatsBroker(server.url, TIMEOUT))


def client_of(worker: Worker) -> Client:
    assert isinstance(worker.broker, NatsBroker)
    return worker.broker._client


async def test_two_servers_share_their_topics(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_URL", server.url)
    app, name = "tests.apps.topic_client:app", "examples.nats_broker.broker:make"
    async with (
        asyncio.timeout(PATIENCE),
        running(app, "--topics", name) as one,
        running(app, "--topics", name) as other,
        connect(one.ws_url, proxy=None) as here,
        connect(other.ws_url, proxy=None) as there,
    ):
        await there.send('{"do": "subscribe", "topic": "room", "member": "ada"}')
        assert json.loads(await there.recv()) == {"re": [True, 0]}
        texts: list[str | bytes] = []
        while "hello" not in texts:  # both are connected to NATS
            await here.send('{"do": "publish", "topic": "room", "data": "hello"}')
            await here.recv()
            with contextlib.suppress(TimeoutError):
                texts.append(await asyncio.wait_for(there.recv(), 0.1))
        answer = None
        while answer != {"re": {"ada": 1}}:
            await here.send('{"do": "members", "topic": "room"}')
            answer = json.loads(await here.recv())


async def test_nats_is_started_again(server: NatsServer) -> None:
    async with workers(lambda: NatsBroker(server.url, TIMEOUT), 2) as (one, other):
        await other.broker.attach("room")
        one.broker.join("room", "ada")
        one.set_count("room", 1)
        await until(lambda: one.recorder.changes or other.recorder.changes)
        await server.kill()
        await until(lambda: not client_of(one).is_connected)
        with pytest.raises(Unavailable):
            await one.broker.count("room")
        await one.broker.attach("late")
        await one.publish("late", "here")
        assert one.recorder.data("late") == ["here"]
        await server.start()
        async with asyncio.timeout(PATIENCE):
            while "back" not in other.recorder.data("room") or len(one.recorder.data("late")) < 2:
                await one.publish("room", "back")
                await other.publish("late", "back")
                await pause(0.05)
        await pause(2 * GRACE)
        assert one.recorder.changes + other.recorder.changes == [
            Change("room", "ada", has_joined=True)
        ]


async def test_nats_is_away_until_it_is_back(server: NatsServer) -> None:
    time = asyncio.get_running_loop().time
    with capture_log() as log:
        async with workers(lambda: NatsBroker(server.url, TIMEOUT), 1) as (worker,):
            state = worker.broker.state
            await until(lambda: state().away_since is None)
            await worker.broker.attach("room")
            lag = state().lag
            assert lag is not None
            assert 0 < lag < TIMEOUT
            killed_at = time()
            await server.kill()
            await until(lambda: state().away_since is not None)
            assert killed_at <= (state().away_since or 0.0) <= time()
            await server.start()
            await until(lambda: state().away_since is None)
            assert state().reconnects == 1
    assert nats_lines(log) == ["NATS is away: the connection has ended", "NATS is back"]


async def test_a_nats_that_comes_later_is_away_since_the_start(server: NatsServer) -> None:
    time = asyncio.get_running_loop().time
    await server.kill()
    broker = NatsBroker(server.url, TIMEOUT)
    started_at = time()
    with capture_log() as log:
        await broker.start(Recorder())
        await until(lambda: log.warnings)
        assert started_at <= (broker.state().away_since or 0.0) <= time()
        await server.start()
        await until(lambda: broker.state().away_since is None)
        assert broker.state().reconnects == 0
        await broker.stop()
    away, back = nats_lines(log)
    assert away.startswith("NATS is away: ")
    assert "Connect call failed" in away
    assert back == "NATS is back"


def nats_lines(log: LogCapture) -> list[str]:
    """Return what the log says of NATS."""
    lines = [record.getMessage() for record in log.records]
    return [line for line in lines if line.startswith("NATS ")]


class RecordingServer:
    """Speaks as much of the NATS protocol as a client needs, and records its commands.

    Attributes:
        commands: The first two words of each.
        answers: Whether it answers Pings.
    """

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.answers = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        writer.write(b'INFO {"server_id": "x", "version": "2.9", "max_payload": 1048576}\r\n')
        async for line in reader:
            command = line.decode().split()
            self.commands.append(" ".join(command[:2]))
            if command[0] == "PUB":
                await reader.readline()
            elif command == ["PING"] and self.answers:
                writer.write(b"PONG\r\n")
        writer.close()


@pytest_asyncio.fixture
async def recording() -> AsyncIterator[tuple[RecordingServer, NatsBroker]]:
    """Return a server that records, and a broker that is connected to it."""
    server = RecordingServer()
    async with await asyncio.start_server(server.serve, "127.0.0.1") as listening:
        port = listening.sockets[0].getsockname()[1]
        broker = NatsBroker(f"nats://127.0.0.1:{port}", GRACE)
        await broker.start(Recorder())
        await until(lambda: "PUB wsgate.workers" in server.commands)
        yield server, broker
        await broker.stop()


async def test_nats_has_a_subscription_when_attach_returns(
    recording: tuple[RecordingServer, NatsBroker],
) -> None:
    server, broker = recording
    await broker.attach("room")
    await until(lambda: f"SUB {subject_of('room')}" in server.commands)
    place = server.commands.index(f"SUB {subject_of('room')}")
    assert "PING" in server.commands[place:]


async def test_a_nats_that_does_not_answer_is_unavailable(
    recording: tuple[RecordingServer, NatsBroker],
) -> None:
    server, broker = recording
    server.answers = False
    with pytest.raises(Unavailable, match="no answer from NATS for 'room'"):
        await broker.attach("room")


async def test_a_history_is_refused(server: NatsServer) -> None:
    broker = NatsBroker(server.url, TIMEOUT)
    with pytest.raises(ConfigError, match=r"have no history, but 'h-\*' has"):
        await broker.start(Recorder([("h-*", KEPT)]))
    await broker.stop()
    async with workers(lambda: broker, 1) as (worker,):
        worker.recorder.entries = [("h-*", KEPT)]  # the app has configured it later
        for use in (worker.broker.attach("h-1"), worker.publish("h-1", "x")):
            with pytest.raises(TopicsError, match="no history, but 'h-1' has"):
                await use


async def test_what_nats_does_not_carry_is_refused(server: NatsServer) -> None:
    async with workers(lambda: NatsBroker(server.url, TIMEOUT), 1) as (worker,):
        with pytest.raises(LimitReached, match=r"1,048,577 bytes is above what NATS carries"):
            await worker.publish("room", bytes(2**20))
        assert not worker.recorder.data("room")


async def test_without_nats_a_worker_goes_on_alone(tmp_path: Path) -> None:
    broker, recorder = NatsBroker("nats://127.0.0.1:1", TIMEOUT), Recorder()
    await broker.start(recorder)
    await broker.attach("room")
    await broker.publish(Publication("room", "x"), recorder.rules_of("room"), None, is_kept=True)
    assert recorder.data("room") == ["x"]
    assert recorder.dropped == {"broker away": 1}
    broker.detach("room")
    await broker.stop()
