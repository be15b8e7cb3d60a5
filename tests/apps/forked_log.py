"""Writes lines to a log's queue in a process and its forked child; see test_log_queue."""

import os
import threading

from wsgate.observe.log_queue import QueueWriter
from wsgate.observe.log_writer import LineWriter

TIMEOUT = 30.0  # seconds

may_write = threading.Event()


def write(data: bytes) -> int:
    may_write.wait(TIMEOUT)
    return os.write(1, data)


def main() -> None:
    queue = QueueWriter(LineWriter(write, lambda *_: b"missing", lambda _: True))
    queue.put(b"parent\n")  # is not written yet
    child = os.fork()
    if child == 0:
        may_write.set()
        queue.flush(TIMEOUT)  # does not write the parent's lines
        queue.close(TIMEOUT)
        queue.put(b"child\n")
        queue.flush(TIMEOUT)
        os._exit(0)
    os.waitpid(child, 0)
    may_write.set()
    queue.put(b"parent again\n")
    queue.close(TIMEOUT)


if __name__ == "__main__":
    main()
