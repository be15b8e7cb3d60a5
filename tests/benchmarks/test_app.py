"""The app of the benchmarks."""

import asyncio
import os
import time

from websockets.asyncio.client import connect

import wsgate.testing
from benchmarks import app as module
from benchmarks.app import WORK_SECONDS, app
from benchmarks.readiness import serving_pids
from tests.harness.proxies import reserved_ports


async def test_pid_is_the_id_of_the_process_that_serves() -> None:
    async with wsgate.testing.serve(app, access_log=False) as server:
        async with connect(f"{server.ws_url}/pid", proxy=None) as websocket:
            assert await websocket.recv() == str(os.getpid())
        assert await asyncio.to_thread(serving_pids, server.port) == {os.getpid()}


async def test_without_an_answer_nobody_serves() -> None:
    with reserved_ports(1) as (port,):
        assert await asyncio.to_thread(serving_pids, port) == set()


async def test_work_takes_processor_time_for_each_message() -> None:
    async with (
        wsgate.testing.serve(app, access_log=False) as server,
        connect(f"{server.ws_url}/work", proxy=None) as websocket,
    ):
        began = time.process_time()
        for number in range(50):
            await websocket.send(str(number))
            assert await websocket.recv() == str(number)
        assert time.process_time() - began >= 50 * WORK_SECONDS


def test_work_is_counted_on_the_clock_of_the_thread() -> None:
    began = time.thread_time()
    module.work()
    assert time.thread_time() - began >= WORK_SECONDS
