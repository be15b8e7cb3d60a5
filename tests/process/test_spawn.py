"""Signals that arrive before a new process has handlers for them."""

import os
import signal
import socket

import pytest

from wsgate.process.spawn import STACK_SIGNAL, spawn


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1, STACK_SIGNAL])
def test_a_signal_to_a_worker_that_is_starting_does_not_end_it(number: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = spawn("worker_process", theirs, [])
        os.kill(worker.pid, number)  # long before its interpreter has imported anything
    assert worker.wait(60) == 0  # as the channel is closed without an assignment
