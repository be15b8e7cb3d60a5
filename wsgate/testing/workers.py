"""A live server with several workers, on a free loopback port, in processes of its own."""

import asyncio
import atexit
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from typing import Any

from wsgate.config import PROGRAM_SETTINGS, SETTINGS, Config, Program
from wsgate.errors import ConfigError, StartupFailed
from wsgate.process.server import longest_stop
from wsgate.settings import Kind, Setting, names_of
from wsgate.supervision import SUPERVISION_SETTINGS, Supervision
from wsgate.testing.process import START, ServerProcess

_NOT_PASSED_ON = {"WSGATE_CONTROL_SOCKET", "WSGATE_CTL_SOCKET"}
_MARGIN = 10.0  # seconds that a loaded machine may take beyond the timeouts of a stop


class WorkersServer(ServerProcess):
    """A running server with workers.

    Attributes:
        host, port: The address it listens on.
        url, ws_url: The same as the start of an http or ws URL, without a path.
        pid: The process id of the supervisor.
        log: What the server and the app have written, line by line.
    """

    longest_stop = START

    async def restart(self) -> None:
        """Replace all workers, as on SIGHUP, and wait until the new ones serve.

        Raises:
            StartupFailed: The new workers could not start; the old ones go on. It has the log.
        """
        start = len(self.log)
        self.signal(signal.SIGHUP)
        pattern = "^INFO: +Restarted|^ERROR: +The restart has failed"
        ended = await self.logged(pattern, START + self.longest_stop, start=start)
        if "failed" in ended.string:
            raise StartupFailed("\n".join(["the restart has failed:", *self.log[start:]]))

    async def stop(self) -> int:
        """Stop gracefully, as on SIGTERM, and return the exit status: 0 unless something failed.

        Leaving the context of `workers` does the same.

        Raises:
            TimeoutError: The server takes longer than its own timeouts allow.
        """
        if self.process.returncode is None:
            self.signal(signal.SIGTERM)
        return await self.ended(self.longest_stop)


@contextlib.asynccontextmanager
async def workers(app: str, count: int = 2, **options: Any) -> AsyncIterator[WorkersServer]:
    """Serve an app with workers while the context lasts: `python -m wsgate APP --workers COUNT`.

    Args:
        app: "module:attribute" of the app. The current folder is searched first, or `app_dir`.
        count: How many workers, at least 2.
        options: The settings of the command, by their names in Python. The default of `host` is
            127.0.0.1 and that of `port` is 0, which takes a free port.

    Yields:
        The server; all its workers serve.

    Raises:
        ConfigError: A setting cannot be used, or `app` is not a string.
        StartupFailed: The server could not start; the text has its log.
    """
    if not isinstance(app, str):
        raise ConfigError('workers() needs the app as "module:attribute": each worker imports it')
    if count < 2:  # noqa: PLR2004  # one worker needs no supervisor
        raise ConfigError("workers() runs two workers or more: for one there is serve()")
    options = {"host": "127.0.0.1", "port": 0, "workers": count, **options}
    config = _checked(options)
    async with _process([app, *arguments_of(options)]) as server:
        server.longest_stop = longest_stop(config) + _MARGIN
        try:
            await server.serves()
        except AssertionError:
            raise StartupFailed(f"the server did not start:\n{server.text}") from None
        try:
            yield server
        finally:
            await server.stop()


def _checked(options: dict[str, Any]) -> Config:
    """Return the settings of the server. Raises ConfigError for any that cannot be used."""
    kinds: dict[type[Any], dict[str, Any]] = {Config: {}, Supervision: {}, Program: {}}
    for name, value in options.items():
        in_class = [kind for kind, names in _NAMES.items() if name in names]
        kinds[in_class[0] if in_class else Config][name] = value
    Supervision(**kinds[Supervision])
    return Config(**kinds[Config])


def _environment() -> dict[str, str]:
    """Return the variables of the server: the test's, but for what another server may use."""
    mine = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    return {**mine, "PYTHONUNBUFFERED": "1"}


@contextlib.asynccontextmanager
async def _process(arguments: Iterable[str]) -> AsyncIterator[WorkersServer]:
    """Run the command; kill all its processes that are left at the end, or with this one."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wsgate", *arguments),
        env=_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # a Ctrl+C in the terminal stops the test, which stops the server
    )

    def kill() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    server = WorkersServer(process)
    atexit.register(kill)
    try:
        yield server
    finally:
        atexit.unregister(kill)
        kill()
        await server.ended()


# -- options of the command ------------------------------------------------------------------------

_DECLARED = {one.name: one for one in (*SETTINGS, *SUPERVISION_SETTINGS, *PROGRAM_SETTINGS)}
_NAMES: dict[type[Any], dict[str, str]] = {
    Config: names_of(SETTINGS),
    Supervision: names_of(SUPERVISION_SETTINGS),
    Program: names_of(PROGRAM_SETTINGS),
}


def arguments_of(options: dict[str, Any]) -> list[str]:
    """Return settings as arguments of the command line; those that are None are left out."""
    names = {alias: name for known in _NAMES.values() for alias, name in known.items()}
    given = ((_DECLARED[names[name]], value) for name, value in options.items())
    return [text for one, value in given if value is not None for text in _texts(one, value)]


def _texts(setting: Setting, value: Any) -> Iterable[str]:
    option, value = setting.option, setting.convert(value)
    if setting.is_switch:
        return [option if value else f"--no-{option[2:]}"]
    if setting.kind is Kind.PERMISSIONS:
        return [f"{option}={value:o}"]
    if setting.kind is Kind.PAIRS:
        return [f"{option}={name}:{content}" for name, content in value]
    if setting.kind is Kind.TEXTS:
        return [f"{option}={one}" for one in (value if setting.repeated else [",".join(value)])]
    return [f"{option}={str(value).lower() if setting.kind is Kind.SWITCH else value}"]
