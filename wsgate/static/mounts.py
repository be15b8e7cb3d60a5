"""Static folders in front of an app: the option --static."""

import os
from collections.abc import Sequence

from wsgate.errors import ConfigError
from wsgate.static.files import METHODS, StaticFiles, path_below_root
from wsgate.types import App, Receive, Scope, Send


class StaticMounts:
    """Serves files below some prefixes; what is not found there, and all else, goes to the app.

    Args:
        app: The app.
        mounts: Pairs of a prefix and its files. The longest prefix that fits goes first. A prefix
            has no slash at its end.
    """

    def __init__(self, app: App, mounts: Sequence[tuple[str, StaticFiles]]) -> None:
        self._app = app
        self._mounts = sorted(mounts, key=lambda mount: -len(mount[0]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, WebSocket or lifespan."""
        if scope["type"] == "http" and scope["method"] in METHODS:
            path = path_below_root(scope)
            for prefix, files in self._mounts:
                below = path.removeprefix(prefix)
                is_below = path.startswith(prefix) and (not below or below[0] == "/")
                if is_below and await files.serve(scope, below, send):
                    return
        await self._app(scope, receive, send)


def with_static_files(app: App, mounts: Sequence[str], cache_control: str) -> App:
    """Return an app with static folders in front of it, or the app itself without any.

    Args:
        app: The app.
        mounts: "PREFIX=FOLDER" each; a prefix starts with a slash.
        cache_control: The value of Cache-Control for the files.

    Raises:
        ConfigError: A folder cannot be read.
    """
    if not mounts:
        return app
    pairs = [mount.partition("=")[::2] for mount in mounts]
    for _, folder in pairs:
        _check_folder(folder)
    return StaticMounts(
        app,
        [
            (prefix.rstrip("/"), StaticFiles(folder, cache_control=cache_control))
            for prefix, folder in pairs
        ],
    )


def _check_folder(folder: str) -> None:
    try:
        os.close(os.open(os.path.join(folder, ""), os.O_RDONLY | os.O_DIRECTORY))  # noqa: PTH118  # to open it
        os.stat(os.path.join(folder, "."))  # noqa: PTH116, PTH118  # which needs the right to pass
    except OSError as error:
        raise ConfigError(f"--static: {folder}: {error.strerror}", setting="static") from None
