"""Keeps the certificates of a worker current: read at the start, on SIGHUP, when files change."""

import datetime as dt
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from wsgate import loggers
from wsgate.errors import ConfigError
from wsgate.observe.log_format import escape
from wsgate.tls import certificates
from wsgate.tls.certificates import Certificates

if TYPE_CHECKING:
    from wsgate.config import Config

INTERVAL = 5.0  # seconds between looks at the files
GRACE = 30.0  # seconds that files which changed may be unusable before it is logged

Stamp = tuple[int, int, int] | None  # device, inode, time of the last change; None: no file


class CertificateWatch:
    """Reads the certificates of the settings, and reads them again. It is a `Checked`.

    Sessions keep what they started with: no connection notices.

    Args:
        config: The settings, with TLS.
        utc_now: Returns the time.

    Attributes:
        current: The certificates for new sessions, once `load` has returned.
        bucket: Number of its time bucket in `Deadlines`.
    """

    current: Certificates

    def __init__(
        self,
        config: "Config",
        utc_now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self.bucket: int | None = None
        self._config = config
        self._utc_now = utc_now
        self._files = certificates.files_of(config)
        self._stamps: list[Stamp] = []  # of the files that were read last
        self._failing_since: float | None = None  # on the worker's clock
        self._has_logged = False

    def load(self) -> None:
        """Read the certificates.

        Raises:
            ConfigError: A file cannot be used; `current` stays.
        """
        # Before the files are read: a change meanwhile must be noticed by the next look.
        self._stamps = [_stamp(file) for file in self._files]
        self.current = certificates.load(self._config, self._utc_now())

    def reload(self) -> None:
        """Read the certificates anew; if that fails, keep those in use and log why.

        `check` then tries again, without logging the failure once more.
        """
        try:
            self.load()
        except ConfigError as error:
            loggers.error.error("%s; the certificates in use stay", escape(str(error)))
            self._failing_since, self._has_logged = -math.inf, True
        else:
            self._end_failure()

    def check(self, now: float) -> float:
        """Read files that have changed, and return when to look again.

        The files of one renewal change one after the other. So what cannot be used is tried again,
        and only logged after `GRACE` seconds.

        Args:
            now: Time of the worker's clock in seconds.
        """
        has_changed = [_stamp(file) for file in self._files] != self._stamps
        if has_changed or self._failing_since is not None:
            self._try_again(now)
        return now + INTERVAL

    def _try_again(self, now: float) -> None:
        try:
            self.load()
        except ConfigError as error:
            if self._failing_since is None:
                self._failing_since = now
            if now - self._failing_since >= GRACE and not self._has_logged:
                self._has_logged = True
                text = "%s; the certificates in use stay, and the files are tried again"
                loggers.error.error(text, escape(str(error)))
        else:
            self._end_failure()

    def _end_failure(self) -> None:
        """Log that the certificates were read; the next failure is logged again."""
        self._failing_since = None
        self._has_logged = False
        ends = [one.facts.not_after for one in self.current.all if one.facts]
        until = f"; valid until {min(ends):%Y-%m-%d %H:%M} UTC" if ends else ""
        loggers.error.info("Certificates read anew%s", until)


def _stamp(file: str) -> Stamp:
    """Return what changes with a file, also if only a symlink on its path does."""
    try:
        found = Path(file).stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns
