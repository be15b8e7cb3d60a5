"""nginx, HAProxy and Caddy with the configurations of docs/deploy/examples.

They run with exactly these files, but for the substitutions that are listed here and in the tests:
ports, paths, users, limits of a plain user, and what a test varies. A string that is replaced must
occur once in its file.
"""

import asyncio
import contextlib
import getpass
import grp
import os
import re
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from tests.harness import programs
from tests.harness.processes import ROOT, START, STOP
from tests.harness.programs import find_program
from tests.harness.waiting import pause

EXAMPLES = ROOT / "docs" / "deploy" / "examples"
CHAT = ROOT / "examples" / "chat"
HOST = "app.example.com"  # in all examples
NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

Changes = Mapping[str, str]


def program(name: str) -> str:
    """Return the path of a program; skip the test if it is not installed."""
    return find_program("proxies", name)


def give_up(reason: str) -> NoReturn:
    """Skip the test; fail it where all proxies are required."""
    programs.give_up("proxies", reason)


def substitute(path: Path, changes: Changes) -> str:
    """Return the text of a file in which each key of `changes` is replaced by its value."""
    text = path.read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {path}"
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def reserved_ports(count: int) -> Iterator[list[int]]:
    """Reserve free ports of 127.0.0.1 until the end of the block.

    The sockets are bound and do not listen. With SO_REUSEADDR another socket can listen on the
    port, as often as it likes, while the kernel gives it to nobody who asks for any port.
    """
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", 0))
        yield [sock.getsockname()[1] for sock in sockets]


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """Return a folder whose path is short enough for a Unix socket; delete it at the end."""
    with tempfile.TemporaryDirectory(prefix="wsgate-") as path:
        yield Path(path)


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a configuration is filled in with.

    http, https: ports of 127.0.0.1. backends: one or two, as "127.0.0.1:8000" or the path of a Unix
    socket. certificate, key: files in PEM. changes: substitutions of the test.
    """

    folder: Path
    http: int
    https: int
    backends: Sequence[str]
    certificate: Path
    key: Path
    changes: Changes = field(default_factory=dict)

    def write(self, example: str, changes: Changes, end: str = "") -> Path:
        """Write an example with substitutions, and with those of the test that it has.

        Args:
            example: Its path below EXAMPLES, or an absolute one.
            end: Text to append.
        """
        source = EXAMPLES / example
        own = {old: new for old, new in self.changes.items() if old in source.read_text()}
        path = self.folder / source.name
        path.write_text(substitute(source, {**own, **changes}) + end)
        return path

    def servers(self, unix: str, line: Callable[[int, str], str]) -> tuple[str, str]:
        """Return a line of configuration for each backend; the second is empty if there is one.

        Args:
            unix: What the proxy writes before the path of a Unix socket.
            line: Makes a line of a number, from 1, and an address.
        """
        addresses = (f"{unix}{at}" if at.startswith("/") else at for at in self.backends)
        first, *rest = (line(*numbered) for numbered in enumerate(addresses, start=1))
        return first, "".join(rest)


# -- nginx -----------------------------------------------------------------------------------------


def nginx(site: Site) -> list[str]:
    """Return the command of nginx with nginx.conf and app.conf."""
    first, second = site.servers("unix:", lambda _, at: f"    server {at} max_fails=0;\n")
    app = site.write(
        "nginx/app.conf",
        {
            "    server 127.0.0.1:8000 max_fails=0;\n": first,
            "    server 127.0.0.1:8001 max_fails=0;\n": second,
            "listen 80;": f"listen 127.0.0.1:{site.http};",
            "listen 443 ssl": f"listen 127.0.0.1:{site.https} ssl",
            "/etc/ssl/app/fullchain.pem": str(site.certificate),
            "/etc/ssl/app/privkey.pem": str(site.key),
        },
    )
    changes = {
        **_nginx_main(site),
        "access_log /var/log/nginx/access.log;": _nginx_files(site),
        "/etc/nginx/conf.d/*.conf": str(app),
    }
    return _nginx_command(site.write("nginx/nginx.conf", changes))


def nginx_of_compose(site: Site) -> list[str]:
    """Return the command of nginx with the configuration for Docker, on one port without TLS."""
    (backend,) = site.backends
    main = _nginx_main(site, user="nginx", error_log="/dev/stderr")
    changes = {
        **main,
        "access_log /dev/stdout;": _nginx_files(site),
        "listen 80;": f"listen 127.0.0.1:{site.https};",
        "set $app app:8000;": f"set $app {backend};",
    }
    return _nginx_command(site.write("docker/nginx.conf", changes))


def nginx_passthrough(site: Site) -> list[str]:
    """Return the command of nginx that passes TLS through."""
    if not NGINX_STREAM.exists():
        give_up("needs libnginx-mod-stream: run .ci/install-proxies")
    first, second = site.servers("unix:", lambda _, at: f"        server {at} max_fails=0;\n")
    changes = {
        **_nginx_main(site),
        "        server 127.0.0.1:8443 max_fails=0;\n": first,
        "        server 127.0.0.1:8444 max_fails=0;\n": second,
        "listen 443;": f"listen 127.0.0.1:{site.https};",
    }
    return _nginx_command(site.write("nginx/tls-passthrough.conf", changes))


def _nginx_main(
    site: Site, user: str = "www-data", error_log: str = "/var/log/nginx/error.log"
) -> Changes:
    group = grp.getgrgid(os.getgid()).gr_name
    return {
        f"user {user};": f"user {getpass.getuser()} {group};",
        "pid /run/nginx.pid;": f"pid {site.folder}/nginx.pid;",
        f"error_log {error_log};": "error_log stderr;",
        "worker_processes auto;": "worker_processes 2;",
        "worker_rlimit_nofile 65536;": "",
        "worker_connections 30000;": "worker_connections 400;",
    }


def _nginx_files(site: Site) -> str:
    folders = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f" {name}_temp_path {site.folder}/{name};" for name in folders)
    return f"access_log /dev/stdout;{temporary}"


def _nginx_command(main: Path) -> list[str]:
    return [program("nginx"), "-e", "stderr", "-c", str(main), "-g", "daemon off;"]


# -- HAProxy ---------------------------------------------------------------------------------------


def haproxy(site: Site) -> list[str]:
    """Return the command of HAProxy with haproxy.cfg."""
    first, second = site.servers("unix@", lambda number, at: f"    server app{number} {at}\n")
    changes = {
        **_HAPROXY_GLOBAL,
        "    server app1 127.0.0.1:8000\n": first,
        "    server app2 127.0.0.1:8001\n": second,
        "bind :80\n": f"bind 127.0.0.1:{site.http}\n",
        "bind :443 ssl": f"bind 127.0.0.1:{site.https} ssl",
        "/etc/haproxy/certs/app.pem": str(_certificate_with_key(site)),
    }
    return _haproxy_command(site.write("haproxy/haproxy.cfg", changes))


def haproxy_of_chat(site: Site) -> list[str]:
    """Return the command of HAProxy with the configuration of the chat, on one port without TLS."""
    first, second = site.servers("unix@", lambda number, at: f"    server chat{number} {at}\n")
    changes = {
        "maxconn 20000": "maxconn 400",
        "option dontlognull\n": "option dontlognull\n    option log-health-checks\n",
        "    server chat1 chat1:8000\n": first,
        "    server chat2 chat2:8000\n": second,
        "bind :8000\n": f"bind 127.0.0.1:{site.https}\n",
    }
    return _haproxy_command(site.write(str(CHAT / "haproxy" / "haproxy.cfg"), changes))


def haproxy_passthrough(site: Site) -> list[str]:
    """Return the command of HAProxy that passes TLS through."""
    first, second = site.servers("unix@", lambda number, at: f"    server app{number} {at}\n")
    changes = {
        **_HAPROXY_GLOBAL,
        "    server app1 127.0.0.1:8443\n": first,
        "    server app2 127.0.0.1:8444\n": second,
        "bind :443\n": f"bind 127.0.0.1:{site.https}\n",
    }
    return _haproxy_command(site.write("haproxy/tls-passthrough.cfg", changes))


_HAPROXY_GLOBAL = {
    "log /dev/log local0": "log stdout format raw local0",
    "    user haproxy\n": "",
    "    group haproxy\n": "",
    "maxconn 20000": "maxconn 400",
    "option dontlognull\n": "option dontlognull\n    option log-health-checks\n",
}


def _certificate_with_key(site: Site) -> Path:
    path = site.folder / "app.pem"
    path.write_text(site.certificate.read_text() + site.key.read_text())
    return path


def _haproxy_command(main: Path) -> list[str]:
    return [program("haproxy"), "-Ws", "-f", str(main)]  # as the Debian service does


# -- Caddy -----------------------------------------------------------------------------------------


def caddy_redirecting(site: Site) -> list[str]:
    """Return the command of Caddy with Caddyfile."""
    changes = {"app.example.com {\n": f"app.example.com {{\n{_caddy_tls(site)}"}
    return _caddy_command(site, changes)


def caddy(site: Site) -> list[str]:
    """Return the command of Caddy with Caddyfile, whose site is served without TLS as well."""
    sites = (
        f"https://{HOST} {{\n{_caddy_tls(site)}\timport app\n}}\n"
        f"http://{HOST} {{\n\tbind 127.0.0.1\n\timport app\n}}\n"
    )
    return _caddy_command(site, {"app.example.com {\n": "(app) {\n"}, sites)


def _caddy_tls(site: Site) -> str:
    return f"\tbind 127.0.0.1\n\ttls {site.certificate} {site.key}\n"


def _caddy_command(site: Site, changes: Changes, end: str = "") -> list[str]:
    first, second = site.servers("unix/", lambda _, at: f" {at}")
    common = {
        "\tgrace_period 10s\n": f"\tgrace_period 10s\n\tadmin unix/{site.folder}/admin.sock\n"
        f"\thttp_port {site.http}\n\thttps_port {site.https}\n",
        " 127.0.0.1:8000 127.0.0.1:8001": first + second,
    }
    path = site.write("caddy/Caddyfile", {**common, **changes}, end)
    return [program("caddy"), "run", "--adapter", "caddyfile", "--config", str(path)]


# -- running ---------------------------------------------------------------------------------------


class Proxy:
    """A running proxy. Its log is printed at the end, for tests that fail."""

    def __init__(self, process: asyncio.subprocess.Process, site: Site, log: Path) -> None:
        self.process = process
        self.site = site
        self._log = log

    @property
    def log(self) -> str:
        """All that the proxy has written."""
        return self._log.read_text()

    async def logged(self, pattern: str) -> None:
        """Wait until the log matches a regular expression.

        Raises:
            TimeoutError: after START seconds.
        """
        async with asyncio.timeout(START):
            while not re.search(pattern, self.log):
                await pause(0.05)

    async def listens(self, port: int) -> None:
        """Wait until the proxy accepts connections at a port.

        Raises:
            AssertionError: The proxy has ended.
            TimeoutError: after START seconds.
        """
        async with asyncio.timeout(START):
            while not await _accepts(port):
                assert self.process.returncode is None, self.log
                await pause(0.05)

    async def has_checked_servers(self) -> None:
        """Wait until HAProxy has checked each server once.

        A server that fails the first check is out of service until the next one; later it takes
        three failed checks.

        Raises:
            TimeoutError: after START seconds.
        """
        for number in range(1, len(self.site.backends) + 1):
            await self.logged(rf"Health check for server \w+/\w+{number} succeeded")

    async def kill(self) -> None:
        """End the proxy and its children at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        async with asyncio.timeout(STOP):
            await self.process.wait()


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.transport.abort()
    return True


@contextlib.asynccontextmanager
async def started_proxy(command: Sequence[str], site: Site) -> AsyncIterator[Proxy]:
    """Start a proxy, wait until it accepts TLS connections, and kill it at the end."""
    log = site.folder / "proxy.log"
    home = {name: str(site.folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=site.folder,
            env={**os.environ, **home},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    proxy = Proxy(process, site, log)
    try:
        await proxy.listens(site.https)
        if any("default-server check" in path.read_text() for path in site.folder.glob("*.cfg")):
            await proxy.has_checked_servers()
        yield proxy
    finally:
        await proxy.kill()
        print(proxy.log)  # noqa: T201  # pytest shows it if the test fails
