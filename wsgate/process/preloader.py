"""What runs in the process of --preload: imports the app, and forks a worker whenever it is asked.

A worker is forked twice, and the process in between ends at once: so the worker becomes a child of
the supervisor, which has asked the kernel for that (PR_SET_CHILD_SUBREAPER).
"""

import contextlib
import dataclasses
import gc
import os
import socket
import sys

from wsgate import streams
from wsgate.errors import ConfigError
from wsgate.observe import console_log
from wsgate.process import assignment as assignments, worker_process
from wsgate.process.channel import Channel

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
            worker_process.report_failure(sock, error)
            sys.exit(error.exit_status)
        gc.collect()
        gc.freeze()  # a collection in a worker does not copy what was imported
        with contextlib.suppress(OSError):
            sock.sendall(Channel.encode({"ready": []}))
        serve_orders(sock, lambda: loaded)


def serve_orders(sock: socket.socket, load: worker_process.Load) -> None:
    """Fork a worker for each order, until the supervisor closes the channel.

    Args:
        sock: The channel to the supervisor.
        load: Returns the app.
    """
    while True:
        order, descriptors, _, _ = socket.recv_fds(sock, len(ORDER), 2)
        if not order:
            return
        channel, stacks = descriptors
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        console_log.close()  # its threads would not exist in the worker
        middle = os.fork()
        if not middle:
            if os.fork():
                os._exit(0)
            sock.close()
            sys.exit(_serve(channel, stacks, load))
        with contextlib.suppress(ChildProcessError):  # the app has set SIGCHLD to be ignored
            os.waitpid(middle, 0)
        os.close(channel)
        os.close(stacks)


def _serve(channel: int, stacks: int, load: worker_process.Load) -> int:
    """Serve as a worker; return the exit status."""
    with socket.socket(fileno=channel) as sock:
        assignment = assignments.receive(sock)
        if assignment is None:  # the supervisor has ended
            return 0
        sock.sendall(Channel.encode({"pid": os.getpid()}))
        own = dataclasses.replace(assignment, stacks=stacks)
        return worker_process.serve(own, sock, load)
