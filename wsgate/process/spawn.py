"""Starts a new interpreter for a process of ours, with descriptors that it inherits."""

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

# Asks for the stack of the main thread. Real-time signals are the ones that apps leave alone.
STACK_SIGNAL: int = getattr(signal, "SIGRTMIN", signal.SIGUSR2) + hasattr(signal, "SIGRTMIN")
# The current folder is left out: a file of the user's may have the name of a standard module.
_COMMAND = (
    "import sys; sys.path = [folder for folder in sys.path if folder] + [{root!r}]; "
    "from wsgate.process.{module} import main; main(int(sys.argv[1]))"
)
_ROOT = str(Path(__file__).parents[2])  # the folder of this package


def spawn(
    module: str,
    channel: socket.socket,
    descriptors: Sequence[int],
    *words: str,
    blocked: Sequence[int] = (),
) -> "subprocess.Popen[bytes]":
    """Start an interpreter that runs `main` of a module of this folder.

    Args:
        module: Its name.
        channel: A socket for it; `main` gets the descriptor.
        descriptors: Further ones that it inherits, with the same numbers.
        words: Further arguments of its command line, by which people recognize it.
        blocked: Signals that `main` unblocks, besides those of `_signals_blocked`.

    Raises:
        OSError: The process cannot be started.
    """
    program = _COMMAND.format(module=module, root=_ROOT)
    command = [*_interpreter(), "-c", program, str(channel.fileno()), *words]
    inherited = [channel.fileno(), *descriptors]
    with _signals_blocked(blocked):
        return subprocess.Popen(command, pass_fds=inherited)  # noqa: S603  # this Python


@contextlib.contextmanager
def _signals_blocked(more: Sequence[int]) -> Iterator[None]:
    """Block signals in a child that is started meanwhile, until it has handlers of its own.

    Those that may be sent to all processes of the server, by the terminal or to reopen logs, and
    the one that asks for a stack, which would end an interpreter that is slow to start.
    """
    blocked = [signal.SIGINT, signal.SIGUSR1, STACK_SIGNAL, *more]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _interpreter() -> list[str]:
    """Return the command of this Python, with its options."""
    return [sys.executable, *subprocess._args_from_interpreter_flags()]  # type: ignore[attr-defined]  # noqa: SLF001  # multiprocessing uses it, too
