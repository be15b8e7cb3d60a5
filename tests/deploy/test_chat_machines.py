"""The chat on two machines: the files of examples/chat, with HAProxy and Redis.

Docker runs nowhere in these tests. They check what the files say, and start the same commands as
processes: only ports, the address of Redis and the seconds of a drain are replaced.
"""

import asyncio
import contextlib
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.command_lines import of_image
from tests.deploy.stack import Certificates, Stack, proxied, running_at
from tests.deploy.test_supervisors import longest_stop
from tests.examples.chat_visitor import Visitor
from tests.harness.processes import ServerProcess
from tests.harness.proxies import CHAT, haproxy_of_chat
from tests.harness.redis import RedisServer, redis_server
from tests.harness.waiting import pause
from wsgate.config import SETTINGS, Config

PATIENCE = 60.0
PEOPLE = 8
COMPOSE: dict[str, Any] = yaml.safe_load((CHAT / "compose.yaml").read_text())
MACHINES = ("chat1", "chat2")
ENVIRONMENT: dict[str, str] = COMPOSE["services"]["chat1"]["environment"]
REDIS = "redis://redis:6379"  # the service


def default_of(value: str) -> str:
    """Return a value of Compose in which no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


# -- what the files say ----------------------------------------------------------------------------


def test_compose_accepts_the_file() -> None:
    # Where there is no Compose the tests below check what matters, and start the commands.
    compose = [shutil.which("docker") or "", "compose"]
    if not compose[0] or subprocess.call([*compose, "version"], stderr=subprocess.DEVNULL):
        pytest.skip("needs Docker Compose")
    command = [*compose, "--file", str(CHAT / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_machines_differ_only_in_their_names() -> None:
    first, second = (COMPOSE["services"][name] for name in MACHINES)
    assert first == second | {"hostname": "chat1"}
    assert second["hostname"] == "chat2"


def test_docker_waits_until_a_machine_has_stopped() -> None:
    seconds = float(COMPOSE["services"]["chat1"]["stop_grace_period"].removesuffix("s"))
    assert seconds >= longest_stop(of_image(CHAT))


def test_only_haproxy_can_be_reached() -> None:
    published = {name for name, service in COMPOSE["services"].items() if "ports" in service}
    assert published == {"haproxy"}
    assert ENVIRONMENT["WSGATE_FORWARDED_ALLOW_IPS"] == "*"
    source, target, mode = COMPOSE["services"]["haproxy"]["volumes"][0].split(":")
    folder = "/usr/local/etc/haproxy"  # where the image reads haproxy.cfg
    assert ((CHAT / source / "haproxy.cfg").exists(), target, mode) == (True, folder, "ro")
    assert default_of(COMPOSE["services"]["haproxy"]["ports"][0]) == "8000:8000"


def test_haproxy_knows_each_machine_where_it_listens() -> None:
    text = (CHAT / "haproxy" / "haproxy.cfg").read_text()
    servers = re.findall(r"(?m)^    server (\w+) (\S+)$", text)
    assert servers == [(name, f"{name}:8000") for name in MACHINES]
    assert "--port" not in of_image(CHAT)
    assert "\nEXPOSE 8000\n" in (CHAT / "Dockerfile").read_text()
    (idle,) = re.findall(r"timeout tunnel (\d+)s", text)
    assert 2 * Config().ws_ping_interval < float(idle)


def test_the_variables_of_the_machines_are_those_of_wsgate() -> None:
    known = {variable for setting in SETTINGS for variable in setting.variables}
    assert set(ENVIRONMENT) <= known | {"WEB_CONCURRENCY"}
    assert ENVIRONMENT["WSGATE_TOPICS"] == REDIS
    assert int(default_of(ENVIRONMENT["WEB_CONCURRENCY"])) == 2


def test_redis_keeps_all_that_it_has_answered() -> None:
    redis = COMPOSE["services"]["redis"]
    options = dict(zip(redis["command"][1::2], redis["command"][2::2], strict=True))
    assert (options["--appendonly"], options["--appendfsync"]) == ("yes", "always")
    assert redis["volumes"] == ["redis:/data"]
    assert "redis" in COMPOSE["volumes"]


def test_the_image_has_the_chat_and_its_requirements() -> None:
    lines = re.sub(r"\\\n\s*", "", (CHAT / "Dockerfile").read_text()).splitlines()
    assert "COPY examples/chat examples/chat" in lines
    assert any(line.startswith("RUN pip wheel") and '"/src[redis]"' in line for line in lines)
    sent = (CHAT / "Dockerfile.dockerignore").read_text().split()
    assert {"!pyproject.toml", "!setup.py", "!wsgate", "!examples/chat"} <= set(sent)
    for entry in (line[1:] for line in sent if line.startswith("!")):
        assert (CHAT.parents[1] / entry).exists(), entry


# -- the same commands, as processes ---------------------------------------------------------------


def machine_options() -> tuple[str, list[str]]:
    """Return the app and the options of the image, for a machine that stops quickly."""
    words = of_image(CHAT)
    words[words.index("0.0.0.0")] = "127.0.0.1"
    words[words.index("--drain-seconds") + 1] = "0.5"
    return words[0], words[1:]


class TwoMachines:
    """The chat behind HAProxy.

    servers: of both machines, then of those that were started again. redis: which both use.
    """

    def __init__(self, stack: Stack, redis: RedisServer) -> None:
        self.stack = stack
        self.servers = list(stack.servers)
        self.redis = redis
        self.url = f"ws://127.0.0.1:{stack.entrance.port('ws')}"

    def number_of(self, visitor: Visitor) -> int:
        """Return which of `servers` serves somebody."""
        parent = parent_of(visitor.workers[-1])
        return [server.pid for server in self.servers].index(parent)

    @contextlib.asynccontextmanager
    async def people(self, count: int, kind: str = "Person") -> AsyncIterator[list[Visitor]]:
        """Have people in a room."""
        people = [Visitor(self.url, f"{kind} {number}", "Lobby") for number in range(count)]
        try:
            for person in people:
                await person.joined()
            yield people
        finally:
            await asyncio.gather(*(person.leave() for person in people))

    @contextlib.asynccontextmanager
    async def started_again(self, number: int) -> AsyncIterator[ServerProcess]:
        """Start a machine that has stopped."""
        app, options = machine_options()
        async with running_at(self.stack.addresses[number], *options, app=app) as server:
            self.servers.append(server)
            yield server


def parent_of(pid: int) -> int:
    """Return the parent of a process; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return 0


@pytest.fixture
async def machines(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TwoMachines]:
    command = COMPOSE["services"]["redis"]["command"]
    assert command[0] == "redis-server"
    async with redis_server(tmp_path, *command[1:]) as redis:
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, default_of(value).replace(REDIS, redis.url))
        app, options = machine_options()
        start = proxied(
            haproxy_of_chat, certificates, *options, servers=2, app=app, passthrough=True
        )
        async with start as stack:
            yield TwoMachines(stack, redis)


async def say_and_read(people: list[Visitor], text: str) -> None:
    """Have each person say something, and everybody read all of it once, in one order."""
    expected = len(people[0].log) + len(people)
    await asyncio.gather(*(person.say(f"{text}, {person.name}") for person in people))
    for person in people:
        await person.until(expected)
    assert all(person.log == people[0].log for person in people)
    texts = [message["text"] for message in people[0].log]
    assert len(set(texts)) == len(texts) == expected
    assert all(person.is_complete for person in people)


async def test_people_on_both_machines_read_each_other_and_miss_nothing(
    machines: TwoMachines,
) -> None:
    async with machines.stack.entrance.client("http") as client:
        assert "<title>" in (await client.get("/")).text
    async with machines.people(PEOPLE) as people:
        assert {machines.number_of(person) for person in people} == {0, 1}
        await say_and_read(people, "good morning")

        stopping = asyncio.create_task(machines.stack.stop(0))
        await say_and_read(people, "while one machine stops")
        await stopping
        await say_and_read(people, "on the other one")
        assert {machines.number_of(person) for person in people} == {1}

        await machines.redis.kill()
        talking = asyncio.create_task(say_and_read(people, "while Redis restarts"))
        await machines.redis.start()
        await talking

        async with machines.started_again(0), asyncio.timeout(PATIENCE):
            while not await comes_to(machines, 2):
                await pause(0.1)
            await say_and_read(people, "and back")


async def comes_to(machines: TwoMachines, number: int) -> bool:
    """Return whether somebody who comes now is served by a machine."""
    async with machines.people(1, "Guest") as (guest,):
        return machines.number_of(guest) == number
