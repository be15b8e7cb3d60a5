"""Topics of several workers, as real processes, with the hub between them."""

import asyncio
import contextlib
import json
import os
import signal
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.harness.processes import program, started
from tests.harness.topic_clients import APP, Client, Gone, TopicsServer, hubs_of, topics_server
from tests.harness.waiting import pause
from tests.harness.workers import PATIENCE, gone, is_running
from wsgate.brokers.local.frame_connection import FrameConnection
from wsgate.topics.messages import VERSION, Hello, Message, Mode, Placed, Publish

LARGE = "x" * 500_000
PATIENT = ("--timeout-worker-healthcheck", "600")  # a worker that is stopped is not replaced


# -- publications ----------------------------------------------------------------------------------


async def test_every_worker_has_what_one_publishes() -> None:
    async with topics_server(2) as server:
        first, second = await server.pair()
        for topic in ("plain", "room"):
            for client in (first, second):
                await client.subscribe(topic)
            for client in (first, second):
                await client.publish([topic, client is first], topic)
        for client in (first, second):
            assert len(await client.received(4)) == 4
        assert await first.received(4) == [
            *(["plain", True], ["plain", False], ["room", True], ["room", False])
        ]
        assert server.log[1:] == []


@pytest.mark.parametrize("count", [2, 4])
async def test_two_thousand_subscribers_have_every_message_in_one_order(count: int) -> None:
    async with topics_server(count) as server:
        publishers = list((await server.clients(await server.process_ids(count))).values())
        clients = [*publishers]
        while len(clients) < 2000:
            clients += await asyncio.gather(*[server.client() for _ in range(50)])
        await asyncio.gather(*[client.subscribe() for client in clients])
        assert await publishers[0].ask("count") == len(clients)

        async def publish(client: Client, own: int) -> None:
            for number in range(5):
                assert await client.publish([own, number])

        await asyncio.gather(*[publish(one, own) for own, one in enumerate(publishers)])
        total = 5 * count
        order = await publishers[0].received(total)
        for own in range(count):
            assert [one for one in order if one[0] == own] == [[own, n] for n in range(5)]
        for client in clients:
            assert await client.received(total) == order
        assert {client.pid for client in clients} == {client.pid for client in publishers}


async def test_a_publish_returns_when_it_was_delivered_here() -> None:
    async with topics_server(2) as server:
        first, second = await server.pair()
        await first.subscribe()
        for number in range(20):
            await second.publish(["other", number])
            await first.publish(["own", number])
            assert first.messages[-1] == ["own", number]


async def test_the_excluded_socket_gets_nothing() -> None:
    async with topics_server(2) as server:
        first, second = await server.pair()
        for topic in ("plain", "room"):
            await first.subscribe(topic)
            await second.subscribe(topic)
            await first.publish(1, topic, exclude=True)
            await first.publish(2, topic)
        assert await first.received(2) == [2, 2]
        assert await second.received(4) == [1, 2, 1, 2]


async def test_what_history_holds_is_published_once() -> None:
    async with topics_server(2) as server:
        first, second = await server.pair()
        await first.subscribe()
        for client in (first, second, first):
            assert await client.publish("x", id="the id") == "the id"
        await second.publish("end")
        assert await first.received(2) == ["x", "end"]


async def test_who_comes_back_to_another_worker_has_missed_nothing() -> None:
    async with topics_server(2) as server:
        first, second = await server.pair()
        ids = [await first.publish(number) for number in range(10)]
        assert await second.subscribe(after=ids[3]) == {"complete": True, "count": 6}
        await first.publish("live")
        assert await second.received(7) == [4, 5, 6, 7, 8, 9, "live"]
        assert await first.subscribe(after="unknown", last=2) == {"complete": False, "count": 2}


async def test_a_recovery_in_many_parts_has_all_in_order() -> None:
    async with topics_server(2) as server:
        first, second = await server.pair()
        ids = [await first.publish([number, LARGE]) for number in range(8)]
        assert await second.subscribe(after=ids[0]) == {"complete": True, "count": 7}
        assert [number for number, _ in await second.received(7)] == [1, 2, 3, 4, 5, 6, 7]


# -- who is there ----------------------------------------------------------------------------------


async def test_subscribers_and_members_are_counted_over_all_workers() -> None:
    async with topics_server(2) as server:
        first, second = await server.pair()
        assert await first.ask("count", "present") == 0
        await first.subscribe("present", member="ada")
        await second.subscribe("present", member="ada")
        third = await server.client()
        await third.subscribe("present", member="bob")
        for client in (first, second):
            assert await client.ask("count", "present") == 3
            assert await client.ask("members", "present") == {"ada": 2, "bob": 1}
        await third.close()
        async with asyncio.timeout(PATIENCE):
            while await first.ask("members", "present") != {"ada": 2}:
                await pause(0.02)
        assert await first.ask("count", "present") == 2


async def test_the_members_of_a_worker_that_was_killed_are_announced_by_another() -> None:
    async with topics_server(2) as server:
        first, second = await server.pair()
        await first.subscribe("present 1")  # attached, so that it sees what is announced
        await second.subscribe("present 1", member="ada")
        await first.subscribe("present 1", member="bob")
        joined = await first.received(2)
        assert sorted((one["member"], one["joined"]) for one in joined) == [
            *(("ada", True), ("bob", True))
        ]
        os.kill(second.pid, signal.SIGKILL)
        (left,) = (await first.received(3))[2:]
        assert (left["member"], left["joined"]) == ("ada", False)
        assert left["by"] != second.pid
        assert await first.ask("members", "present 1") == {"bob": 1}


# -- failures under load ---------------------------------------------------------------------------


class Load:
    """Publishes from some clients, one message after the other, until it is stopped.

    published: what was accepted, with history what was placed. failed: what has raised Unavailable.
    """

    def __init__(self, *clients: Client, topic: str = "room") -> None:
        self.topic = topic
        self.published: list[Any] = []
        self.failed: list[Any] = []
        self._is_stopped = False
        self._grown = asyncio.Condition()
        self._tasks = [asyncio.create_task(self._run(n, one)) for n, one in enumerate(clients)]

    async def _run(self, own: int, client: Client) -> None:
        number = 0
        while not self._is_stopped:
            data = [own, number]
            try:
                answer = await client.publish(data, self.topic)
            except Gone:  # its worker was killed
                return
            async with self._grown:
                (self.failed if isinstance(answer, dict) else self.published).append(data)
                self._grown.notify_all()
            number += 1

    async def more(self, count: int = 200) -> None:
        """Wait for so many further messages."""
        wanted = len(self.published) + count
        async with asyncio.timeout(PATIENCE), self._grown:
            await self._grown.wait_for(lambda: len(self.published) >= wanted)

    async def stop(self) -> list[Any]:
        """Publish no more; return what was accepted."""
        self._is_stopped = True
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._tasks)
        return self.published


def check_order(messages: Iterable[list[Any]]) -> None:
    """Check that no message came twice, and that each publisher's are in order."""
    for own in messages:
        seen: dict[int, int] = {}
        for publisher, number in own:
            assert number > seen.get(publisher, -1)
            seen[publisher] = number


async def test_a_worker_killed_under_load_takes_nothing_from_the_others() -> None:
    async with topics_server(3) as server:
        pids = await server.process_ids(3)
        first, second, third = (await server.clients(pids)).values()
        for client in (first, second, third):
            await client.subscribe()
        load = Load(first, second, third)
        await load.more()
        os.kill(third.pid, signal.SIGKILL)
        await third.closed()
        await load.more()
        published = await load.stop()
        last = await first.publish("end")
        for client in (first, second):
            await _ended(client)
        assert first.messages == second.messages
        messages = first.messages[:-1]
        check_order([messages])
        assert {tuple(one) for one in published} <= {tuple(one) for one in messages}
        # Its clients come back to any worker, and have missed nothing.
        returned = await server.client()
        ids_of_all = await returned.subscribe(after=last)
        assert ids_of_all == {"complete": True, "count": 0}
        assert third.messages == messages[: len(third.messages)]


async def test_a_hub_killed_under_load_loses_nothing_unnoticed() -> None:
    async with topics_server(2) as server:
        first, second = await server.pair()
        readers = [client for _ in range(5) for client in await server.pair()]
        for client in readers:
            await client.subscribe()
        load = Load(first, second)
        for _ in range(3):
            await load.more()
            hub = server.hub()
            os.kill(hub, signal.SIGKILL)
            assert await server.other_hub(hub)
        await load.more()
        published = await load.stop()
        await first.publish("end")
        for client in readers:
            await _ended(client)
        lists = [[one for one in client.messages if one != "end"] for client in readers]
        check_order(lists)
        complete = [
            own for client, own in zip(readers, lists, strict=True) if client.close_code is None
        ]
        for own in complete:
            assert {tuple(one) for one in published} <= {tuple(one) for one in own}
            assert own == complete[0]
        for client in readers:
            assert client.close_code in (None, 1012)
        await server.logged("The topics hub was ended by SIGKILL: another one is started", times=3)


async def test_a_hub_killed_under_load_loses_no_plain_message() -> None:
    async with topics_server(2) as server:
        first, second = await server.pair()
        for client in (first, second):
            await client.subscribe("plain")
        load = Load(first, second, topic="plain")
        for _ in range(2):
            await load.more()
            hub = server.hub()
            os.kill(hub, signal.SIGKILL)
            assert await server.other_hub(hub)
        await load.more()
        await check_plain(await load.stop(), first, second)


async def test_a_worker_killed_under_load_takes_no_plain_message_of_the_others(
    tmp_path: Path,
) -> None:
    path = tmp_path / "hub.sock"
    async with topics_server(3, "--topics", f"local:{path}") as server:
        first, second, third = (await server.clients(await server.process_ids(3))).values()
        for client in (first, second, third):
            await client.subscribe("plain")
        load = Load(first, second, third, topic="plain")
        await load.more()
        os.kill(third.pid, signal.SIGKILL)
        await third.closed()
        await load.more()
        published = [one for one in await load.stop() if one[0] != 2]
        await check_plain(published, first, second)
        fourth = await server.client_of_other_worker(first, second, third)
        await fourth.subscribe("plain")
        await first.publish("to the new worker", "plain")
        await fourth.received(1)
        running = {first.pid, second.pid, fourth.pid}
        assert owners_of_files_beside(path) == running  # the one that was killed has left none


def owners_of_files_beside(hub: Path) -> set[int]:
    """Return the processes whose sockets have a file beside the hub's."""
    names = [path.name for path in hub.parent.iterdir() if path != hub]
    return {int(name.removeprefix(f"{hub.name}.").partition("-")[0], 16) for name in names}


async def check_plain(published: list[Any], *clients: Client) -> None:
    """Check that each client has all that was published, in the order of each publisher."""
    for client in clients:
        await client.publish("end", "plain")
    for client in clients:
        await client.until(lambda client=client: client.messages.count("end") == len(clients))
        messages = [one for one in client.messages if one != "end"]
        check_order([messages])
        assert {tuple(one) for one in published} <= {tuple(one) for one in messages}


async def test_a_worker_that_is_stopped_holds_up_no_plain_topic() -> None:
    async with topics_server(3, *PATIENT) as server:
        first, second, third = (await server.clients(await server.process_ids(3))).values()
        for client in (first, second, third):
            await client.subscribe("plain")
        os.kill(third.pid, signal.SIGSTOP)
        began = asyncio.get_running_loop().time()
        await first.subscribe("new")  # it waits a moment for the worker that does not answer
        await first.publish("short", "plain")
        assert await second.received(1) == ["short"]
        assert asyncio.get_running_loop().time() - began < PATIENCE / 2
        for number in range(45):
            await first.publish([number, LARGE], "plain")
        assert [one[0] for one in (await second.received(46))[1:]] == list(range(45))
        dropped = (await first.ask("stats"))["dropped"]["worker"]
        assert dropped > 0
        os.kill(third.pid, signal.SIGCONT)
        messages = await third.received(46 - dropped)
        await first.publish("end", "plain")
        await third.until(lambda: third.messages[-1] == "end")
        assert messages[0] == "short"
        assert [one[0] for one in messages[1:-1]] == list(range(45 - dropped))
        assert third.close_code is None


async def test_a_new_hub_knows_who_is_there() -> None:
    async with topics_server(2) as server:
        first, second = await server.pair()
        for topic in ("plain", "room"):
            await first.subscribe(topic)
        await second.subscribe("present", member="ada")
        await second.received(1)
        hub = server.hub()
        os.kill(hub, signal.SIGKILL)
        await server.other_hub(hub)
        for topic in ("room", "plain"):
            await _wait_for_count(second, 1, topic)
            await second.publish(topic, topic)
        assert await first.received(2) == ["room", "plain"]
        assert await first.ask("members", "present") == {"ada": 1}
        assert await first.ask("count", "plain") == 1
        await second.publish("end", "present")
        assert (await second.received(2))[1:] == ["end"]  # nobody has joined again


async def test_a_hub_that_does_not_run_makes_history_unavailable() -> None:
    async with topics_server(2, "--topics-publish-timeout", "1") as server:
        first, second = await server.pair()
        for topic in ("plain", "room"):
            await first.subscribe(topic)
        hub = server.hub()
        os.kill(hub, signal.SIGSTOP)
        assert await first.publish(1) == {"error": "Unavailable"}
        await first.publish("here", "plain")
        assert await first.received(1) == ["here"]
        assert await first.ask("count") == {"error": "Unavailable"}
        os.kill(hub, signal.SIGCONT)
        await second.publish(2)
        assert 2 in await first.received(3)


async def test_a_worker_that_does_not_read_holds_up_nobody_and_recovers() -> None:
    async with topics_server(2, *PATIENT) as server:
        first, second = await server.pair()
        for client in (first, second):
            await client.subscribe()
        await first.publish("first")
        await second.received(1)
        os.kill(second.pid, signal.SIGSTOP)
        for number in range(50):
            await first.publish([number, LARGE])
        await server.logged("A worker does not read its topics")
        assert await first.ask("count") == 1
        os.kill(second.pid, signal.SIGCONT)
        await first.publish("last")
        messages = await second.received(52)
        assert [one[0] for one in messages[1:-1]] == list(range(50))
        assert (messages[0], messages[-1]) == ("first", "last")
        assert second.close_code is None


async def test_a_gap_that_cannot_be_closed_closes_exactly_those_who_have_it() -> None:
    async with topics_server(2, *PATIENT) as server:
        first, second = await server.pair()
        third = next(iter((await server.clients({second.pid})).values()))
        await second.subscribe("short")
        await third.subscribe("room")
        id_ = await first.publish("before", "short")
        await second.received(1)
        os.kill(second.pid, signal.SIGSTOP)
        for number in range(50):
            await first.publish([number, LARGE], "short")
        await server.logged("A worker does not read its topics")
        os.kill(second.pid, signal.SIGCONT)
        assert await second.closed() == 1012
        numbers = [one[0] for one in second.messages[1:]]
        assert numbers == list(range(len(numbers)))  # what came before the gap, and nothing after
        await server.logged("Messages of topics were lost: closing 1 WebSocket with 1012")
        await first.publish("on", "room")
        assert await third.received(1) == ["on"]
        back = await server.client()
        assert await back.subscribe("short", after=id_, last=9) == {"complete": False, "count": 3}


async def test_a_rolling_restart_loses_nothing() -> None:
    async with topics_server(2, "--drain-seconds", "0.5") as server:
        readers = [asyncio.create_task(_read_through_restarts(server)) for _ in range(20)]
        publisher = await server.client()
        hub = server.hub()
        await _wait_for_count(publisher, len(readers))
        number, published = 0, []
        restarted = asyncio.create_task(server.logged("Restarted 2 workers"))
        server.signal(signal.SIGHUP)
        while not restarted.done():
            with contextlib.suppress(Gone):
                if isinstance(await publisher.publish(number, id=f"id {number}"), str):
                    published.append(number)
                    number += 1
                    continue
            publisher = await server.client()  # its worker was replaced; the id makes it one
        await restarted
        await publisher.publish("end", id="id end")
        for reader in readers:
            assert await reader == [*published, "end"]
        assert server.hub() == hub


async def _read_through_restarts(server: TopicsServer) -> list[Any]:
    """Read until "end", and come back after each end with what was read last."""
    messages: list[Any] = []
    after = "id begin"
    while messages[-1:] != ["end"]:
        client = await server.client()
        with contextlib.suppress(Gone):  # it was closed before
            back = await client.subscribe(after=after if messages else None)
            assert back["complete"]
        await client.until(
            lambda client=client: client.close_code or client.messages[-1:] == ["end"]
        )
        messages += client.messages
        after = f"id {messages[-1]}" if messages else after
    return messages


async def _ended(client: Client) -> None:
    """Wait until a client has read "end", or was closed."""
    await client.until(lambda: client.close_code or client.messages[-1:] == ["end"])


async def _wait_for_count(client: Client, count: int, topic: str = "room") -> None:
    async with asyncio.timeout(PATIENCE):
        while await client.ask("count", topic) != count:
            await pause(0.02)


# -- the process of the hub ------------------------------------------------------------------------


async def test_the_hub_ends_with_its_supervisor() -> None:
    async with topics_server(2) as server:
        hub = server.hub()
        assert is_running(hub)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(hub, number)
        first, second = await server.pair()
        await first.subscribe()
        await second.publish("on")
        assert await first.received(1) == ["on"]
        server.signal()
        assert await server.ended() == 0
        assert not is_running(hub)
        assert server.log[-1].endswith("Stopped")


async def test_the_hub_ends_with_a_supervisor_that_was_killed() -> None:
    async with topics_server(2) as server:
        hub = server.hub()
        folder = _folder_of(hub)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "topics.sock").stat().st_mode) == 0o600
        server.process.kill()
        await gone({hub})
        assert not folder.exists()


def _folder_of(hub: int) -> Path:
    """Return the folder of the socket on which a hub listens."""
    names = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    paths = {line[6]: Path(line[7]) for line in names[1:] if len(line) == 8}
    for descriptor in Path(f"/proc/{hub}/fd").iterdir():
        with contextlib.suppress(OSError):
            inode = str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]")
            if inode in paths and paths[inode].name == "topics.sock":
                return paths[inode].parent
    raise AssertionError("the hub has no socket")


async def test_preloaded_workers_have_a_hub_that_is_restarted() -> None:
    async with topics_server(2, "--preload") as server:
        first, second = await server.pair()
        await first.subscribe()
        hub = server.hub()
        os.kill(hub, signal.SIGKILL)
        await server.logged("The topics hub was ended by SIGKILL")
        assert await server.other_hub(hub)
        await second.publish("on")
        assert await first.received(1) == ["on"]


async def test_one_worker_may_have_a_hub() -> None:
    async with topics_server(1, "--topics", "local:") as server:
        client = await server.client()
        await client.subscribe()
        (hub,) = hubs_of(server.pid)
        id_ = await client.publish("before")
        os.kill(hub, signal.SIGKILL)
        other = await server.other_hub(hub)
        await client.publish("after")
        assert await client.received(2) == ["before", "after"]
        back = await server.client()
        assert await back.subscribe(after=id_) == {"complete": False, "count": 0}
        server.signal()
        assert await server.ended() == 0
        await gone({other})


async def test_one_worker_has_no_hub_by_default() -> None:
    async with topics_server(1) as server:
        assert not hubs_of(server.pid)


async def test_workers_with_memory_have_topics_of_their_own() -> None:
    async with topics_server(2, "--topics", "memory:") as server:
        assert not hubs_of(server.pid)
        first, second = await server.pair()
        for client in (first, second):
            await client.subscribe()
            await client.publish(client.pid)
            assert await client.received(1) == [client.pid]
            assert await client.ask("count") == 1
        (warning,) = [line for line in server.log if "WARNING" in line]
        assert warning == (
            "WARNING:  --topics memory: with 2 workers: each has topics of its own, so what one "
            "publishes does not reach the subscribers of the others (--topics local: joins them)"
        )


async def test_a_single_worker_with_memory_is_no_warning() -> None:
    async with topics_server(1, "--topics", "memory:", "--preload") as server:
        assert not [line for line in server.log if "WARNING" in line]


async def test_publishers_outside_find_a_socket_at_a_path(tmp_path: Path) -> None:
    path = tmp_path / "hub.sock"
    async with topics_server(2, "--topics", f"local:{path}") as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        first, second = await server.pair()
        for topic in ("plain", "room"):
            await first.subscribe(topic)
        for topic in ("plain", "room"):
            text = json.dumps({"data": topic})
            (placed,) = await _say(path, Publish(1, topic, Mode.KEPT, "an id", text))
            assert isinstance(placed, Placed)
        assert await first.received(2) == ["plain", "room"]
        assert await second.subscribe(last=9) == {"complete": True, "count": 1}
        server.signal()
        assert await server.ended() == 0
        assert not path.exists()


async def test_a_shell_publishes_through_a_socket_at_a_path(tmp_path: Path) -> None:
    url = f"local:{tmp_path / 'hub.sock'}"
    async with topics_server(2, "--topics", url) as server:
        clients = await server.pair()
        for client in clients:
            await client.subscribe()
        text = json.dumps({"data": "from a shell"})
        arguments = ("publish", url, "room", text, "--id", "an id")
        async with program("-m", "wsgate", *arguments) as shell:
            assert (await shell.ended(), shell.log) == (0, ["an id"])
        for client in clients:
            assert await client.received(1) == ["from a shell"]


# -- wsgate ctl topics -----------------------------------------------------------------------------


async def list_topics(path: Path, *arguments: str) -> list[Any]:
    """Run the command; return its lines of JSON."""
    words = ("-m", "wsgate", "ctl", "--socket", str(path), "topics", *arguments)
    async with program(*words) as shell:
        assert await shell.ended() == 0, shell.text
        return [json.loads(line) for line in shell.log]


@pytest.mark.parametrize("count", [1, 2])
async def test_the_topics_of_all_workers_are_listed(count: int, tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    async with topics_server(count, "--control-socket", str(path)) as server:
        assert await list_topics(path) == [
            {"total": 0, "listed": 0, "subscriptions": 0, "unanswered": []}
        ]
        clients = (await server.pair()) if count > 1 else [await server.client() for _ in range(2)]
        for client in clients:
            await client.subscribe("room:1")
        await clients[0].subscribe("room:2")
        await clients[1].subscribe("other")
        no_rates = {"publishes_rate": None, "deliveries_rate": None}
        first = {"topic": "room:1", "subscribers": 2, "at_most": 2, **no_rates}
        second = {"topic": "room:2", "subscribers": 1, "at_most": 1, **no_rates}
        *topics, totals = await list_topics(path, "--topic", "room:*")
        assert topics == [first, second]
        assert totals == {"total": 2, "listed": 2, "subscriptions": 3, "unanswered": []}
        topic, totals = await list_topics(path, "--limit", "1")
        assert (topic["topic"], totals["listed"], totals["subscriptions"]) == ("room:1", 1, 4)


async def _say(path: Path, message: Message) -> list[Message]:
    """Connect to a hub, send a message, and return what it answers."""
    answers: asyncio.Queue[Message] = asyncio.Queue()

    def connection() -> FrameConnection:
        return FrameConnection(lambda _: None, lambda _, one: answers.put_nowait(one), lambda _: 0)

    loop = asyncio.get_running_loop()
    _, own = await loop.create_unix_connection(connection, str(path))
    own.send(Hello(VERSION, worker=None, rules_version=0, rules=[]))
    own.send(message)
    async with asyncio.timeout(PATIENCE):
        await answers.get()
        answer = await answers.get()
    own.close()
    return [answer]


async def test_a_path_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "hub.sock"
    arguments = (APP, "--port", "0", "--workers", "2", "--topics", f"local:{path}")
    async with started(*arguments, kind=TopicsServer) as server:
        assert await server.ended() == 1
        assert server.text.endswith(f"--topics local:{path}: No such file or directory")


async def test_a_path_in_use_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hub.sock"
    async with topics_server(2, "--topics", f"local:{path}") as server:
        arguments = (APP, "--port", "0", "--topics", f"local:{path}")
        async with started(*arguments, kind=TopicsServer) as other:
            assert await other.ended() == 1
            assert "is in use by another server" in other.text
        first, second = await server.pair()
        await first.subscribe()
        await second.publish("on")
        assert await first.received(1) == ["on"]
