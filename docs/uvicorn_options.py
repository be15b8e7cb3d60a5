"""The options of uvicorn 0.54, in the order of its help, and how those of wsgate differ.

A text that is empty says that the option means the same. Options that wsgate only answers are in
wsgate/answers.py.
"""

VERSION = "0.54"

DIFFERENCES: dict[str, str] = {
    "--host": "it may be [repeated](sockets.md); `host=None` is the default, not all addresses, "
    "which are `host=''`",
    "--port": "",
    "--uds": "it may be [repeated](sockets.md), and `--host` beside it is served as well",
    "--fd": "",
    "--reload": "it needs `pip install 'wsgate[reload]'`; there is no fallback that polls; with "
    "`--workers` it is refused",
    "--reload-dir": "a folder that does not exist ends the start, in Python, too",
    "--reload-include": "a folder is watched besides the others, not instead of the current one; "
    "a pattern is for files only",
    "--reload-exclude": "it goes before `--reload-include`; a pattern without a slash is for "
    "folders, too",
    "--reload-delay": "the seconds within which further changes belong to the same restart",
    "--workers": "`auto` is the number of processors; [more about workers](deploy/workers.md)",
    "--loop": "there are no `zuvloop` and no factories of your own; in your own event loop, "
    "`await wsgate.serve(...)`",
    "--http": "`httptools` is the built-in parser `fast`, which is the default; there is no `zttp`",
    "--http2": "",
    "--ws": "`none` is the same; all other values mean the one implementation that there is",
    "--ws-max-size": "",
    "--ws-max-queue": "the default is 16 messages instead of 32, and at most 1 MiB "
    "(`--ws-max-queue-size`)",
    "--ws-ping-interval": "",
    "--ws-ping-timeout": "",
    "--ws-per-message-deflate": "",
    "--lifespan": "`on` also refuses an app whose lifespan returns without a message",
    "--interface": "`auto` takes a function for ASGI 2 only if its one argument is called "
    "`scope`; `wsgi` needs `pip install 'wsgate[wsgi]'`",
    "--env-file": "the file can also set `WSGATE_*`, and so the options; a malformed line ends the "
    "start, and in Python a file that does not exist, too",
    "--log-config": "the loggers are `wsgate.error` and `wsgate.access`; those of uvicorn are "
    "[taken for them](logging.md#a-configuration-for-uvicorn)",
    "--log-level": "`trace` logs the app's messages to `wsgate.error`, and nothing of connections",
    "--access-log": "",
    "--use-colors": "only the level of a line has a colour",
    "--proxy-headers": "RFC 7239 `Forwarded` is read as well, and `--forwarded-values` adds host, "
    "port and prefix",
    "--server-header": "an app's own header replaces it",
    "--date-header": "an app's own header replaces it",
    "--forwarded-allow-ips": "paths of Unix sockets count; `unix:` is every Unix socket",
    "--root-path": "it must be empty, or begin with a slash and not end with one",
    "--limit-concurrency": "connections that wait for a request do not count; for them there is "
    "`--limit-connections`",
    "--backlog": "",
    "--limit-max-requests": "WebSockets count as well, when they end",
    "--limit-max-requests-jitter": "",
    "--timeout-keep-alive": "it must be above 0",
    "--timeout-graceful-shutdown": "the default is 10 seconds instead of no limit",
    "--timeout-worker-healthcheck": "the stack of a blocked worker is logged before it is replaced",
    "--ssl-keyfile": "it may be [repeated](tls.md#several-host-names), and needs `--ssl-certfile`",
    "--ssl-certfile": "it may be [repeated](tls.md#several-host-names); one that has expired ends "
    "the start",
    "--ssl-keyfile-password": "it needs `--ssl-certfile`",
    "--ssl-version": "17, 2 and 5 are taken: the first two are TLS 1.2 and 1.3, 5 is TLS 1.2 only",
    "--ssl-cert-reqs": "it needs `--ssl-certfile` and `--ssl-ca-certs`",
    "--ssl-ca-certs": "it needs `--ssl-certfile`",
    "--ssl-ciphers": "it needs `--ssl-certfile`",
    "--header": "an app's own header of the same name replaces it; "
    "[four names](reference/settings.md#--header) are refused",
    "--version": "a second line says whether the C extensions are used",
    "--app-dir": "a folder that does not exist ends the start",
    "--h11-max-incomplete-event-size": "another name of `--limit-request-head`: it limits each "
    "head, with either parser",
    "--reset-contextvars": "",
    "--factory": "",
}
