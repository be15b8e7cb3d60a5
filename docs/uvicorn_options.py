"""The options of uvicorn 0.54, in the order of its help, and how those of wsgate differ.

A text that is empty says that the option means the same. Options that wsgate only answers are in
wsgate/answers.py.
"""

VERSION = "0.54"

DIFFERENCES: dict[str, str] = {
    "--host": "it may be [repeated](sockets.md)",
    "--port": "",
    "--uds": "it may be [repeated](sockets.md), and `--host` beside it is served as well",
    "--fd": "",
    "--reload": "it needs `pip install 'wsgate[reload]'`; there is no fallback that polls",
    "--reload-dir": "",
    "--reload-include": "it adds to `*.py`",
    "--reload-exclude": "it adds to the patterns that are always left out",
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
    "--lifespan": "",
    "--interface": "`auto` takes a function for ASGI 2 only if its one argument is called `scope`",
    "--env-file": "the file can also set `WSGATE_*`, and so the options; a malformed line ends the "
    "start",
    "--log-config": "the loggers are `wsgate.error` and `wsgate.access`; those of uvicorn are "
    "[taken for them](logging.md#a-configuration-for-uvicorn)",
    "--log-level": "",
    "--access-log": "",
    "--use-colors": "",
    "--proxy-headers": "RFC 7239 `Forwarded` is read as well, and `--forwarded-values` adds host, "
    "port and prefix",
    "--server-header": "",
    "--date-header": "",
    "--forwarded-allow-ips": "the default has ::1, too; `unix:` is every Unix socket",
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
    "--ssl-certfile": "it may be [repeated](tls.md#several-host-names)",
    "--ssl-keyfile-password": "",
    "--ssl-version": "17, 2 and 5 are taken, which are all versions and TLS 1.2 only",
    "--ssl-cert-reqs": "it needs `--ssl-ca-certs`",
    "--ssl-ca-certs": "",
    "--ssl-ciphers": "it needs `--ssl-certfile`",
    "--header": "",
    "--version": "a second line says whether the C extensions are used",
    "--app-dir": "",
    "--h11-max-incomplete-event-size": "another name of `--limit-request-head`: it limits each "
    "head, with either parser",
    "--reset-contextvars": "",
    "--factory": "",
}
