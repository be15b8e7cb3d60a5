"""Fixtures of the tests with real proxies."""

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
import pytest_asyncio

from tests.deploy.stack import COMMANDS, Certificates, Stack, issue_certificates, proxied

Start = Callable[..., contextlib.AbstractAsyncContextManager[Stack]]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return a certificate for the host name of the examples."""
    return issue_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module", params=COMMANDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Return the name of a proxy that terminates TLS."""
    return str(request.param)


@pytest.fixture(scope="module")
def start(kind: str, certificates: Certificates) -> Start:
    """Return `proxied` for a proxy."""
    return partial(proxied, COMMANDS[kind], certificates)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(start: Start) -> AsyncIterator[Stack]:
    """Return a proxy with one server, for all tests of a module that change neither."""
    async with start() as stack:
        yield stack
