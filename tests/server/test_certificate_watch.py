"""Certificates are read anew: when asked, and when their files change; the old ones stay if not."""

import datetime as dt
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.log import LogCapture, capture_log
from tests.harness.tls import Files, now
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.server.certificate_watch import GRACE, INTERVAL, CertificateWatch
from wsgate.server.lifecycle import Lifecycle
from wsgate.server.worker import Worker
from wsgate.types import Receive, Scope, Send


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def log() -> Iterator[LogCapture]:
    with capture_log() as captured:
        yield captured


class Clock:
    """Calls `check` as the deadlines do."""

    def __init__(self, watch: CertificateWatch) -> None:
        self.watch = watch
        self.now = 0.0

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = self.watch.check(self.now)


def started(files: Files, **issued: dt.datetime) -> tuple[CertificateWatch, Clock]:
    watch = CertificateWatch(Config(**files.issue("server", **issued)))
    watch.load()
    return watch, Clock(watch)


def put(files: Files, name: str, target: str) -> None:
    """Replace a file by another, as certbot does."""
    (files.folder / name).replace(files.folder / target)


def test_nothing_is_read_while_nothing_changes(files: Files, log: LogCapture) -> None:
    watch, clock = started(files)
    before = watch.current
    clock.advance(60)
    assert watch.current is before
    assert not log.records
    assert watch.check(100.0) == 100.0 + INTERVAL


def test_a_new_certificate_is_read(files: Files, log: LogCapture) -> None:
    watch, clock = started(files)
    before = watch.current.default.pem
    files.issue("server", not_after=dt.datetime(2999, 1, 2, 3, 4, tzinfo=dt.UTC))
    clock.advance(INTERVAL)
    assert watch.current.default.pem != before
    assert [r.getMessage() for r in log.records] == [
        "Certificates read anew; valid until 2999-01-02 03:04 UTC"
    ]
    clock.advance(60)
    assert len(log.records) == 1


def test_a_pair_that_changes_one_file_after_the_other(files: Files, log: LogCapture) -> None:
    watch, clock = started(files)
    before = watch.current
    files.issue("new")
    put(files, "new.pem", "server.pem")
    clock.advance(GRACE - INTERVAL)
    assert watch.current is before
    assert not log.records
    put(files, "new.key", "server.key")
    clock.advance(INTERVAL)
    assert watch.current is not before
    assert not log.problems


def test_files_that_stay_unusable_are_logged_once(files: Files, log: LogCapture) -> None:
    watch, clock = started(files)
    before = watch.current
    (files.folder / "server.key").unlink()
    clock.advance(10 * GRACE)
    (line,) = log.errors
    assert line.startswith("--ssl-keyfile ")
    assert line.endswith("; the certificates in use stay, and the files are tried again")
    assert watch.current is before
    files.issue("server")
    clock.advance(INTERVAL)
    assert watch.current is not before
    (files.folder / "server.key").unlink()  # the next failure has a grace of its own
    clock.advance(GRACE - INTERVAL)
    assert len(log.errors) == 1
    clock.advance(2 * INTERVAL)
    assert len(log.errors) == 2


def test_a_certificate_that_becomes_valid_is_used_then(files: Files, log: LogCapture) -> None:
    times = [now()]
    watch = CertificateWatch(Config(**files.issue("server")), lambda: times[0])
    watch.load()
    before, clock = watch.current, Clock(watch)
    files.issue("server", not_before=now() + dt.timedelta(days=1))
    clock.advance(INTERVAL)
    assert watch.current is before
    times[0] += dt.timedelta(days=2)
    clock.advance(INTERVAL)
    assert watch.current is not before
    assert not log.problems


def test_a_symlink_of_a_folder_is_switched(files: Files, tmp_path: Path) -> None:
    """As Kubernetes updates a secret: ..data points to a new folder, with both files."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Files.issue(files, "server")
        for suffix in ("pem", "key"):
            put(files, f"server.{suffix}", f"{name}/server.{suffix}")
    data = tmp_path / "..data"
    data.symlink_to("one")
    config = Config(
        ssl_certfile=str(data / "server.pem"),
        ssl_keyfile=str(data / "server.key"),
    )
    watch = CertificateWatch(config)
    watch.load()
    before, clock = watch.current, Clock(watch)
    new = tmp_path / "..data_tmp"
    new.symlink_to("two")
    new.replace(data)
    clock.advance(INTERVAL)
    assert watch.current is not before


def test_reload_reads_files_that_have_not_changed(files: Files, log: LogCapture) -> None:
    watch, _ = started(files)
    before = watch.current
    watch.reload()
    assert watch.current is not before
    assert len(log.records) == 1


def test_reload_logs_an_error_at_once_and_keeps_the_old(files: Files, log: LogCapture) -> None:
    watch, clock = started(files)
    before = watch.current
    path = files.folder / "server.pem"
    path.write_text("\x1b[31mjunk\n")
    watch.reload()
    assert log.errors == [
        f"--ssl-certfile {path}: it has no certificate in PEM; the certificates in use stay"
    ]
    assert watch.current is before
    files.issue("server")
    clock.advance(INTERVAL)
    assert watch.current is not before


def test_the_factory_of_a_program_is_called_again(files: Files, log: LogCapture) -> None:
    calls: list[ssl.SSLContext] = []

    def factory(config: Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        if len(calls) == 3:
            raise ValueError("no more")
        calls.append(default())
        return calls[-1]

    watch = CertificateWatch(Config(ssl_context_factory=factory, **files.issue("server")))
    watch.load()
    clock = Clock(watch)
    clock.advance(60)
    assert len(calls) == 1
    files.issue("server")
    clock.advance(INTERVAL)
    assert len(calls) == 2, "a file has changed"
    watch.reload()
    assert watch.current.default.context is calls[2]
    assert not log.problems
    watch.reload()
    assert log.errors == [
        "ssl_context_factory failed: ValueError('no more'); the certificates in use stay"
    ]
    assert watch.current.default.context is calls[2]


def test_a_context_without_files_is_made_anew_on_request_only(log: LogCapture) -> None:
    calls: list[ssl.SSLContext] = []

    def factory(*_: object) -> ssl.SSLContext:
        calls.append(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        return calls[-1]

    watch = CertificateWatch(Config(ssl_context_factory=factory))
    watch.load()
    Clock(watch).advance(60)
    assert len(calls) == 1
    watch.reload()
    assert watch.current.default.context is calls[1]
    assert [r.getMessage() for r in log.records] == ["Certificates read anew"]


def test_what_reload_could_not_use_is_tried_again(files: Files, log: LogCapture) -> None:
    times = [now()]
    watch = CertificateWatch(Config(**files.issue("server")), lambda: times[0])
    watch.load()
    before, clock = watch.current, Clock(watch)
    files.issue("server", not_before=now() + dt.timedelta(minutes=1))
    watch.reload()
    clock.advance(2 * GRACE)
    assert watch.current is before
    times[0] += dt.timedelta(minutes=2)
    clock.advance(INTERVAL)
    assert watch.current is not before
    assert len(log.problems) == 1


def test_a_reload_ends_a_failure(files: Files, log: LogCapture) -> None:
    watch, clock = started(files)
    (files.folder / "server.key").unlink()
    clock.advance(INTERVAL)
    files.issue("server")
    watch.reload()
    assert len(log.records) == 1
    clock.advance(INTERVAL)
    assert len(log.records) == 1


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("it must not be called")


async def test_a_worker_does_not_start_with_a_bad_certificate(files: Files) -> None:
    settings = files.issue("server")
    (files.folder / "server.key").write_text("junk")
    life = Lifecycle(Worker(_app, Config(**settings)))
    with pytest.raises(ConfigError, match="--ssl-keyfile"):
        await life.start([])


async def test_a_worker_looks_at_the_files_by_its_deadlines(files: Files) -> None:
    settings = files.issue("server")
    times = [1_000.0]
    worker = Worker(_app, Config(**settings, lifespan="off"), lambda: times[0])
    life = Lifecycle(worker)
    await life.start([])
    assert life._timer is not None
    life._timer.cancel()
    life._watchdog.stop()
    assert worker.certificates is not None
    before = worker.certificates.current
    files.issue("server")
    for _ in range(int(2 * INTERVAL / 0.25)):
        times[0] += 0.25
        worker.tick()
    assert worker.certificates.current is not before
