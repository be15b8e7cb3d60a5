"""What runs in the process of --preload: imports the app, and forks a worker whenever it is asked.

A worker is forked twice. The process in between reports the worker's process id and ends at once:
so the worker becomes a child of the supervisor, which has asked the kernel for that
(PR_SET_CHILD_SUBREAPER).
"""

import contextlib
import dataclasses
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable

from wsgate import loggers, streams
from wsgate.errors import ConfigError, StartupFailed
from wsgate.observe import console_log, log_files
from wsgate.observe.log_format import escape
from wsgate.process import assignment as assignments, worker_process
from wsgate.process.channel import Channel
from wsgate.threads import OWN_THREADS
from wsgate.types import App

ORDER = b"f"  # asks for a worker; with it come its channel and the pipe for its stack


def main(descriptor: int) -> None:
    """Import the app, and fork workers until the supervisor closes the channel.

    Args:
        descriptor: Of the channel to the supervisor.
    """
    worker_process.enter()
    with socket.socket(fileno=descriptor) as sock:
        streams.open_missing()
        try:
            program = assignments.receive_program(sock)
            if program is None:  # the supervisor has ended
                return
            program.set_up_log()
            loaded = program.load()
        except ConfigError as error:
            console_log.close()  # now: this process may be killed once the supervisor knows
            worker_process.report_failure(sock, error)
            sys.exit(error.exit_status)
        _warn_of_threads()
        gc.collect()
        gc.freeze()  # a collection in a worker does not copy what was imported
        with contextlib.suppress(OSError):
            sock.sendall(Channel.encode({"ready": []}))
        serve_orders(sock, lambda: loaded)


def _warn_of_threads() -> None:
    """Log a warning if the app has threads of its own: a fork has only the thread that forks."""
    threads = [one for one in threading.enumerate() if one is not threading.main_thread()]
    names = [one.name for one in threads if not one.name.startswith(OWN_THREADS)]
    if names:
        text = "Threads that the app has started while it was imported do not run in workers: %s"
        loggers.error.warning(text, escape(", ".join(names)))


def serve_orders(sock: socket.socket, load: worker_process.Load) -> None:
    """Fork a worker for each order, until the supervisor closes the channel.

    Args:
        sock: The channel to the supervisor.
        load: Returns the app.
    """
    while True:
        try:
            order, descriptors, _, _ = socket.recv_fds(sock, len(ORDER), 2)
        except ConnectionError:  # the supervisor was killed before it has read the last line
            return
        if not order:
            return
        channel, stacks = descriptors
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        console_log.close()  # its threads would not exist in the worker
        with socket.socket(fileno=channel) as own:
            if _fork(own):
                sock.close()
                sys.exit(_serve(own, stacks, load))
        os.close(stacks)


def _fork(channel: socket.socket) -> bool:
    """Fork a worker; return whether this is the worker.

    Args:
        channel: Of the worker. If there is no worker, it gets the reason.
    """
    try:
        between = os.fork()
    except OSError as error:
        _report_failure(channel, error)
        return False
    if not between:
        return _fork_again(channel)
    with contextlib.suppress(ChildProcessError):  # the app has set SIGCHLD to be ignored
        os.waitpid(between, 0)
    return False


def _fork_again(channel: socket.socket) -> bool:
    """Fork the worker and end this process; return True in the worker."""
    is_worker = False
    try:
        worker = os.fork()
        is_worker = not worker
        if not is_worker:
            _report_pid(channel, worker)
    except OSError as error:
        _report_failure(channel, error)
    finally:
        if not is_worker:  # nothing of this process's parent may run here
            os._exit(0)
    return True


def _report_pid(channel: socket.socket, worker: int) -> None:
    """Let the supervisor know a worker, which may hang before it does anything itself."""
    try:
        channel.sendall(Channel.encode({"pid": worker}))
    except OSError:  # the supervisor has ended, or expects this worker no longer
        os.kill(worker, signal.SIGKILL)


def _report_failure(channel: socket.socket, error: OSError) -> None:
    text = f"the process of --preload cannot fork it: {error.strerror}"
    worker_process.report_failure(channel, StartupFailed(text))


def _serve(sock: socket.socket, stacks: int, load: worker_process.Load) -> int:
    """Serve as a worker; return the exit status."""
    assignment = assignments.receive(sock)
    if assignment is None:  # the supervisor has ended
        return 0
    own = dataclasses.replace(assignment, stacks=stacks)

    def reopen_and_load() -> App | Awaitable[App]:
        log_files.reopen_moved()  # the process that this one is forked from keeps its files
        return load()

    return worker_process.serve(own, sock, reopen_and_load)
