"""One measurement: start a server on one processor, load it from another, say what was seen."""

import contextlib
import http.client
import json
import os
import re
import resource
import shlex
import signal
import socket
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.loads import Deflate, Figure, Load
from benchmarks.servers import Server

HERE = Path(__file__).parent
ROOT = HERE.parent
READY_SECONDS = 20.0
SETTLE_SECONDS = 0.3  # between a server's first answer and the load
REST_SECONDS = 1.0  # between the last handshake and a look at the memory
WARM_UP = 6  # times shorter than a run
SPARE_SECONDS = 120.0  # that the load generator may take beside the run: to open, and to give up
SHARE = 7 / 8  # of the open files that one server process may use for connections
LISTENING = "0A"  # a state in /proc/net/tcp

Entry = dict[str, Any]


class Failed(Exception):
    """The server could not do the load; says why, in a line."""


@dataclass(frozen=True)
class Bench:
    """What all measurements share: where programs lie, the generator, and how long to run."""

    programs: Path
    generator: Path
    seconds: float

    def command(self, template: str, **values: int) -> list[str]:
        """Return a server's command with its program's path and its values."""
        program, *arguments = shlex.split(template.format(**values))
        return [str(self.programs / program), *arguments]


def compiled(folder: Path) -> Path:
    """Compile the load generator into a folder; return its path."""
    program = folder / "load"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    subprocess.run([*compiler, "-O2", "-o", program, HERE / "load.c"], check=True)
    return program


def raise_limits() -> int:
    """Let servers open as many files as the system allows; return how many that are."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def once(bench: Bench, server: Server, load: Load) -> Entry:
    """Measure a load on a server that is started for it. Raises Failed."""
    with serving(bench, server, load) as (port, pids):
        before = memory(pids)
        with generating(bench, load, port) as client:
            assert client.stdout
            grown = None
            if load.mode in ("idle", "hold"):
                if client.stdout.readline().strip() != "open":
                    raise Failed(_reason(client))
                time.sleep(REST_SECONDS)
                grown = round((memory(pids) - before) / load.connections)
            limit = SPARE_SECONDS + (load.seconds or bench.seconds)
            try:
                out, err = client.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                raise Failed(f"not through after {limit:.0f} s") from None
        if client.returncode:
            raise Failed(err.strip().partition("\n")[0] or "the load generator failed")
    return _kept(load, json.loads(out), grown, len(pids))


def _reason(client: subprocess.Popen[str]) -> str:
    _, err = client.communicate()
    return err.strip().partition("\n")[0]


def _kept(load: Load, seen: Entry, grown: int | None, processes: int) -> Entry:
    """Return what is worth keeping of what the load generator saw."""
    entry: Entry = {}
    if load.figure is not Figure.MEMORY:
        entry |= {name: seen[name] for name in ("rate", "generator_busy")}
    if load.mode in ("echo", "http", "hold"):
        entry |= {name: seen[name] for name in ("p50_ms", "p99_ms", "max_ms")}
    if load.mode == "hold":
        entry |= {"kept_back": seen["kept_back"], "server_processes": processes}
    if grown is not None:
        entry["bytes"] = grown
    if load.deflate is not Deflate.NONE:
        entry["deflate"] = seen["deflate"]
    if seen["refused"]:
        entry["refused"] = seen["refused"]
    return entry


@contextlib.contextmanager
def generating(bench: Bench, load: Load, port: int) -> Iterator[subprocess.Popen[str]]:
    """Run the load generator; it is gone behind the block."""
    with tempfile.NamedTemporaryFile() as payload:
        command = [bench.generator, load.mode, "--port", port, "--connections", load.connections]
        seconds = load.seconds or bench.seconds
        command += ["--size", load.size, "--seconds", seconds, "--warm-up", seconds / WARM_UP]
        if load.active:
            command += ["--active", load.active, "--rate", load.rate]
        if load.deflate is Deflate.OFFERED:
            command += ["--offer-deflate"]
        if load.deflate is Deflate.COMPRESSED:
            payload.write(compressed(load.size))
            payload.flush()
            command += ["--compressed", "--payload", payload.name]
        pipe = subprocess.PIPE
        with pinned(1):
            client = subprocess.Popen(
                [*map(str, command)], stdin=pipe, stdout=pipe, stderr=pipe, text=True
            )
        try:
            yield client
        finally:
            client.kill()
            client.communicate()


def compressed(size: int) -> bytes:
    """Return a message of so many bytes as a browser sends it (RFC 7692 section 7.2.1)."""
    line = '{"type":"message","room":"lobby","id":%d,"text":"good morning, number %d"}\n'
    text = "".join(line % (48213 + n, n * 7919 % 1000) for n in range(size // 60 + 1))
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(text[:size].encode()) + packer.flush(zlib.Z_SYNC_FLUSH)
    return packed.removesuffix(b"\x00\x00\xff\xff")


@contextlib.contextmanager
def serving(bench: Bench, server: Server, load: Load) -> Iterator[tuple[int, list[int]]]:
    """Start a server, in as many processes as the load's connections need; yield port and pids."""
    processes = -(-load.connections // int(raise_limits() * SHARE))
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        if processes == 1:
            port = _free_port()
            commands = [bench.command(server.command, port=port)]
            fds: list[int] = []
        else:
            if server.by_fd is None:
                raise Failed("one process may not open so many files, and it takes no socket")
            listeners = [stack.enter_context(sock) for sock in _shared(processes)]
            port = listeners[0].getsockname()[1]
            fds = [listener.fileno() for listener in listeners]
            commands = [bench.command(server.by_fd, fd=fd) for fd in fds]
        started = []
        for command in commands:
            process = _started(command, log, fds)
            stack.callback(_end, process)
            started.append(process)
        try:
            _wait_until_ready(started, port)
            yield port, [process.pid for process in started]
        except Failed as failure:
            for process in started:
                if (status := process.poll()) is not None:
                    why = f"{failure}; the server ended with {status}: {_last_line(log)}"
                    raise Failed(why) from None
            raise


def _started(command: list[str], log: IO[bytes], fds: list[int]) -> subprocess.Popen[bytes]:
    try:
        with pinned(0):
            return subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                pass_fds=fds,
                start_new_session=True,
            )
    except FileNotFoundError:
        raise Failed("is not installed") from None


def _last_line(log: IO[bytes]) -> str:
    """Return the last line of a server's log, without this machine's paths."""
    log.seek(0)
    lines = log.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "no word")
    return re.sub(r"(/[\w.-]+)+/", "", last)[:160]


def _wait_until_ready(started: list[subprocess.Popen[bytes]], port: int) -> None:
    """Wait until every process listens, and one has answered a request."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        for process in started:
            if process.poll() is not None:
                raise Failed("does not start")
        if listening(port) >= len(started) and _answers(port):
            break
        if time.monotonic() > deadline:
            raise Failed(f"does not answer within {READY_SECONDS:.0f} s")
        time.sleep(0.05)
    time.sleep(SETTLE_SECONDS)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def listening(port: int) -> int:
    """Return how many sockets listen on a port."""
    count = 0
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                count += fields[1].endswith(f":{port:04X}") and fields[3] == LISTENING
    return count


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server and whatever it has started: nobody waits for what it would still do."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def pinned(which: int) -> Iterator[None]:
    """Make what is started within the block run on one processor, where there are two."""
    allowed = os.sched_getaffinity(0)
    if len(allowed) > 1:
        os.sched_setaffinity(0, {sorted(allowed)[which]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _shared(count: int) -> Iterator[socket.socket]:
    """Yield so many sockets on one port: the kernel spreads the connections over them."""
    port = 0
    for _ in range(count):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", port))
        port = sock.getsockname()[1]
        yield sock


def memory(pids: list[int]) -> int:
    """Return the resident bytes of processes and of all that they have started."""
    total, todo = 0, list(pids)
    while todo:
        folder = Path("/proc", str(todo.pop()))
        with contextlib.suppress(OSError):
            if found := re.search(r"VmRSS:\s+(\d+)", (folder / "status").read_text()):
                total += int(found[1]) * 1024
            for task in (folder / "task").iterdir():
                todo += map(int, (task / "children").read_text().split())
    return total
