"""One measurement: start a server, load it, return the figures.

The server runs on one processor and the load generator on another, unless the load is spread.
"""

import contextlib
import http.client
import json
import os
import re
import resource
import shlex
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks import jitter, restarts, topic_latency
from benchmarks.loads import Deflate, Figure, Load
from benchmarks.readiness import serving_pids
from benchmarks.redis_server import NoRedis, run_redis
from benchmarks.servers import Server

HERE = Path(__file__).parent
ROOT = HERE.parent
READY_SECONDS = 20.0
SETTLE_SECONDS = 0.3  # from the server's first answer to the start of the load
REST_SECONDS = 1.0  # from the last handshake to the measurement of memory
PING_SECONDS = 20.0  # between the Pings of all servers, by default
WARM_UP_SHARE = 1 / 6  # of the length of a run
SPARE_SECONDS = 180.0  # for the load generator to open connections and to give up, beside the run
FILES_SHARE = 0.96  # of a server process's open files that may be connections
WITH_TLS = ("-DWITH_TLS", "-lssl", "-lcrypto")
LISTENING = "0A"  # the state TCP_LISTEN in /proc/net/tcp

Entry = dict[str, Any]


class Failed(Exception):
    """The server could not serve the load; the message is one line that says why."""


@dataclass(frozen=True)
class Bench:
    """What all measurements share.

    Attributes:
        programs: The folder of the servers' programs.
        generator: The compiled load generator.
        certificate: A file with a certificate and its key.
        seconds: The default length of a run.
    """

    programs: Path
    generator: Path
    certificate: Path
    seconds: float

    def command(self, template: str, **values: int) -> list[str]:
        """Return a server's command with the program's path and the placeholders filled in."""
        filled = template.format(certificate=shlex.quote(str(self.certificate)), **values)
        program, *arguments = shlex.split(filled)
        return [str(self.programs / program), *arguments]


def compile_generator(folder: Path) -> Path:
    """Compile the load generator into a folder and return its path.

    Without OpenSSL it is compiled without TLS, and only the loads with TLS fail.
    """
    program = folder / "load"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    command = [*compiler, "-O2", "-o", str(program), str(HERE / "load.c")]
    if subprocess.run([*command, *WITH_TLS], check=False, capture_output=True).returncode:
        subprocess.run(command, check=True)
    return program


def make_certificate(folder: Path) -> Path:
    """Write a certificate with its key (ECDSA on P-256) into a folder and return its path."""
    import trustme  # noqa: PLC0415  # tests that measure nothing do without it

    path = folder / "server.pem"
    issued = trustme.CA().issue_cert("127.0.0.1", "localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(path)
    return path


def raise_limits() -> int:
    """Raise the soft limit of open files to the hard limit and return it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def measure(bench: Bench, server: Server, load: Load) -> Entry:
    """Start a server, run a load on it, and return the figures.

    Raises:
        Failed: The server did not start or did not serve the load.
    """
    if load.mode == "jitter":
        return _jitter(bench, server, load)
    if load.mode == "program":
        return _run_program(bench, server, load)
    with run_server(bench, server, load) as (port, pids):
        if load.mode == "restart":
            return _restart(port, pids[0], server, load)
        if load.mode == "topics":
            return _topic_latency(port)
        before = resident_bytes(pids)
        with run_generator(bench, load, port, round(server.frozen * load.connections)) as client:
            watched = _watch(bench, client, load, pids, before)
            limit = SPARE_SECONDS + (load.seconds or bench.seconds)
            try:
                out, err = client.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                raise Failed(f"did not finish within {limit:.0f} s") from None
        if client.returncode:
            raise Failed(err.strip().partition("\n")[0] or "the load generator failed")
    if load.mode == "balance":
        return balance(json.loads(out)["workers"], server.workers)
    entry = _entry(load, json.loads(out), len(pids)) | watched
    if load.figure is Figure.PER_CPU:
        entry["per_cpu"] = round(entry["rate"] / entry["processors"])
    return entry


def _watch(
    bench: Bench, client: subprocess.Popen[str], load: Load, pids: list[int], before: int
) -> Entry:
    """Return the figures of the server while its connections are open.

    before: its bytes without any.
    """
    entry: Entry = {}
    is_held = load.mode in ("idle", "hold")
    assert client.stdout
    if (is_held or load.greeted) and client.stdout.readline().strip() != "open":
        raise Failed(_failure_reason(client))
    if is_held:
        time.sleep(REST_SECONDS)
        entry["bytes"] = round((resident_bytes(pids) - before) / load.connections)
    if load.figure is Figure.CPU:
        entry |= _cpu_entry(pids, load)
    if load.figure is Figure.PER_CPU:
        entry["processors"] = _processors(pids, load.seconds or bench.seconds)
    return entry


def _processors(pids: list[int], seconds: float) -> float:
    """Return how many processors a server uses, on average over most of a run."""
    time.sleep(seconds * (WARM_UP_SHARE + 0.05))
    began, (before, *_) = time.monotonic(), processor_time(pids)
    time.sleep(seconds * 0.9)
    return round((processor_time(pids)[0] - before) / 1e9 / (time.monotonic() - began), 3)


def _run_program(bench: Bench, server: Server, load: Load) -> Entry:
    """Run a program that measures itself, and return the figures that it prints."""
    seconds = load.seconds or bench.seconds
    command = bench.command(server.command.replace("{seconds}", f"{seconds:g}"))
    with on_processor(None if load.is_spread else 0):
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
                timeout=SPARE_SECONDS + seconds,
            )
        except subprocess.TimeoutExpired:
            raise Failed("did not finish in time") from None
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or ["the program failed"])[-1])
    found: Entry = json.loads(done.stdout)
    return found


def _cpu_entry(pids: list[int], load: Load) -> Entry:
    """Return the processor time of a server for its open connections.

    It is taken over whole intervals of the Pings, from the second one on: the first Ping may have
    another time, and takes more, because what it needs is created.
    """
    assert load.seconds is not None
    time.sleep(PING_SECONDS)
    began, before = time.monotonic(), processor_time(pids)
    time.sleep(load.seconds)
    seconds = time.monotonic() - began
    total, user, system = (b - a for a, b in zip(before, processor_time(pids), strict=True))
    each = total / seconds / load.connections / 1e3
    share = system / ((user + system) or 1)
    return {"cpu_us": round(each, 2), "kernel_share": round(share, 2)}


def _restart(port: int, pid: int, server: Server, load: Load) -> Entry:
    try:
        return restarts.measure(port, pid, server.workers, load.restarts)
    except (restarts.NotRestarted, OSError) as failure:
        raise Failed(str(failure)) from None


def _topic_latency(port: int) -> Entry:
    try:
        return topic_latency.measure(port)
    except topic_latency.Failed as failure:
        raise Failed(str(failure)) from None


def _jitter(bench: Bench, server: Server, load: Load) -> Entry:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        redis = None
        try:
            if server.has_redis:
                redis = stack.enter_context(run_redis(_free_port(), Path(folder)))
            values = {"redis": redis.port} if redis else {}
            running = [
                stack.enter_context(run_server(bench, server, load, **values))
                for _ in range(server.machines)
            ]
            machines = [jitter.Machine(port, pids[0], server.workers) for port, pids in running]
            plan = jitter.Plan(load.connections, load.messages)
            return jitter.measure(plan, machines, redis)
        except (NoRedis, restarts.NotRestarted, TimeoutError) as failure:
            raise Failed(str(failure) or "the clients cannot all join") from None


def balance(connections: list[int], workers: int) -> Entry:
    """Return how connections are spread. A worker without any counts as one that has one."""
    least = min(connections) if len(connections) >= workers else 0
    fullest = max(connections)
    return {"least": least, "fullest": fullest, "ratio": round(fullest / max(least, 1), 3)}


def _failure_reason(client: subprocess.Popen[str]) -> str:
    _, err = client.communicate()
    return err.strip().partition("\n")[0]


def _entry(load: Load, output: Entry, processes: int) -> Entry:
    """Return the figures to store, from the output of the load generator."""
    entry: Entry = {}
    if load.mode != "idle":
        entry |= {name: output[name] for name in ("rate", "generator_busy")}
    if load.mode in ("echo", "http", "hold", "fanout", "paced"):
        entry |= {name: output[name] for name in ("p50_ms", "p99_ms", "max_ms")}
    if load.mode == "hold":
        entry |= {"kept_back": output["kept_back"], "server_processes": processes}
    if load.deflate is not Deflate.NONE:
        entry["deflate"] = output["deflate"]
    if output["refused"]:
        entry["refused"] = output["refused"]
    return entry


@contextlib.contextmanager
def run_generator(
    bench: Bench, load: Load, port: int, frozen: int = 0
) -> Iterator[subprocess.Popen[str]]:
    """Run the load generator, on the second processor; kill it at the end of the block.

    frozen: connections that do not read.
    """
    with tempfile.NamedTemporaryFile() as payload:
        command = [bench.generator, load.mode, "--port", port, "--connections", load.connections]
        seconds = load.seconds or bench.seconds
        command += ["--size", load.size, "--seconds", seconds, "--warm-up"]
        warm_up = seconds * WARM_UP_SHARE if load.warm_up is None else load.warm_up
        command += [warm_up, "--path", load.path, "--apart", load.apart]
        if load.tls:
            command += ["--tls"]
        if load.proxied:
            command += ["--proxied"]
        if load.burst != 1:
            command += ["--burst", load.burst]
        if load.rate:
            command += ["--active", load.active, "--rate", load.rate]
        if load.greeted:
            command += ["--greeted", "--frozen", frozen]
        if load.deflate is Deflate.OFFERED:
            command += ["--offer-deflate"]
        if load.deflate is Deflate.COMPRESSED:
            payload.write(compressed_message(load.size))
            payload.flush()
            command += ["--compressed", "--payload", payload.name]
        pipe = subprocess.PIPE
        with on_processor(None if load.is_spread else 1):
            client = subprocess.Popen(
                [*map(str, command)], stdin=pipe, stdout=pipe, stderr=pipe, text=True
            )
        try:
            yield client
        finally:
            client.kill()
            client.communicate()


def compressed_message(size: int) -> bytes:
    """Return the compressed payload of a message of `size` bytes (RFC 7692 section 7.2.1)."""
    line = '{"type":"message","room":"lobby","id":%d,"text":"good morning, number %d"}\n'
    text = "".join(line % (48213 + n, n * 7919 % 1000) for n in range(size // 60 + 1))
    compressor = zlib.compressobj(wbits=-15)
    data = compressor.compress(text[:size].encode()) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return data.removesuffix(b"\x00\x00\xff\xff")


@contextlib.contextmanager
def run_server(
    bench: Bench, server: Server, load: Load, **values: int
) -> Iterator[tuple[int, list[int]]]:
    """Run a server, on the first processor; yield its port and its process ids.

    It is started as often as the connections of the load need, given the limit of open files.
    values: more placeholders of its command.
    """
    processes = -(-load.connections // int(raise_limits() * FILES_SHARE * server.workers))
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        if processes == 1:
            port = _free_port()
            commands = [bench.command(server.command, port=port, **values)]
            fds: list[int] = []
        else:
            if server.by_fd is None:
                raise Failed("needs more open files than one process may have, and takes no socket")
            listeners = [stack.enter_context(sock) for sock in _sockets_on_one_port(processes)]
            port = listeners[0].getsockname()[1]
            fds = [listener.fileno() for listener in listeners]
            commands = [bench.command(server.by_fd, fd=fd) for fd in fds]
        started = []
        for command in commands:
            process = _start(command, log, fds, processor=None if load.is_spread else 0)
            stack.callback(_kill, process)
            started.append(process)
        try:
            _wait_until_ready(started, port, server)
            yield port, [process.pid for process in started]
        except Failed as failure:
            for process in started:
                if (status := process.poll()) is not None:
                    why = f"{failure}; its exit status is {status}: {_last_line(log)}"
                    raise Failed(why) from None
            raise


def _start(
    command: list[str], log: IO[bytes], fds: list[int], processor: int | None
) -> subprocess.Popen[bytes]:
    try:
        with on_processor(processor):
            return subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                pass_fds=fds,
                # Not a session of its own: the kernel may share the processors evenly among
                # sessions (sched_autogroup), and not among processes.
                process_group=0,
            )
    except FileNotFoundError:
        raise Failed("is not installed") from None


def _last_line(log: IO[bytes]) -> str:
    """Return the last line of a server's log without file paths, which differ by machine."""
    log.seek(0)
    lines = log.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it logged nothing")
    return re.sub(r"(/[\w.-]+)+/", "", last)[:160]


def _wait_until_ready(started: list[subprocess.Popen[bytes]], port: int, server: Server) -> None:
    """Wait until every process listens, and one of them or all workers have answered requests."""
    deadline = time.monotonic() + READY_SECONDS
    pids: set[int] = set()
    while True:
        for process in started:
            if process.poll() is not None:
                raise Failed("does not start")
        if listening_sockets(port) >= len(started) and _answers(port, tls=server.tls):
            if server.workers == 1:
                break
            pids |= serving_pids(port)
            if len(pids) >= server.workers:
                break
        if time.monotonic() > deadline:
            raise Failed(_unready(server, pids))
        time.sleep(0.05)
    time.sleep(SETTLE_SECONDS)


def _unready(server: Server, pids: set[int]) -> str:
    """Return why a server is not ready. pids: the workers that have answered."""
    if not pids:
        return f"does not answer within {READY_SECONDS:.0f} s"
    return f"{len(pids)} of {server.workers} workers answer within {READY_SECONDS:.0f} s"


def _answers(port: int, *, tls: bool) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    if tls:
        unchecked = ssl._create_unverified_context()  # noqa: SLF001  # of a server on this machine
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=2, context=unchecked)
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def listening_sockets(port: int) -> int:
    """Return the number of sockets that listen on a port."""
    count = 0
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                count += fields[1].endswith(f":{port:04X}") and fields[3] == LISTENING
    return count


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a server and all processes that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def on_processor(index: int | None) -> Iterator[None]:
    """Start processes within the block on one processor, if the machine has several.

    index: the processor; None for all of them.
    """
    allowed = os.sched_getaffinity(0)
    if index is not None and len(allowed) > 1:
        os.sched_setaffinity(0, {sorted(allowed)[index]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _sockets_on_one_port(count: int) -> Iterator[socket.socket]:
    """Yield sockets bound to one port; the kernel distributes connections among them."""
    port = 0
    for _ in range(count):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", port))
        port = sock.getsockname()[1]
        yield sock


def resident_bytes(pids: list[int]) -> int:
    """Return the resident memory of processes and of their descendants, in bytes."""
    total = 0
    for folder in _process_folders(pids):
        with contextlib.suppress(OSError):
            if found := re.search(r"VmRSS:\s+(\d+)", (folder / "status").read_text()):
                total += int(found[1]) * 1024
    return total


def processor_time(pids: list[int]) -> tuple[int, int, int]:
    """Return how long processes and their descendants ran.

    Returns:
        Nanoseconds in total; and in the kernel's ticks, which are sampled: outside of the kernel
        and in it.
    """
    total = user = system = 0
    for folder in _process_folders(pids):
        with contextlib.suppress(OSError):
            for task in (folder / "task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
            # The name of the program is in brackets, and may have spaces.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            user, system = user + int(fields[11]), system + int(fields[12])
    return total, user, system


def _process_folders(pids: list[int]) -> Iterator[Path]:
    """Yield the folders in /proc of processes and of their descendants."""
    todo = list(pids)
    while todo:
        folder = Path("/proc", str(todo.pop()))
        yield folder
        with contextlib.suppress(OSError):
            for task in (folder / "task").iterdir():
                todo += map(int, (task / "children").read_text().split())
