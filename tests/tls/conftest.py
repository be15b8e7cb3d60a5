"""The certificates of the tests of this folder."""

import ssl
from pathlib import Path

import pytest

from tests.harness.tls import Files, load
from wsgate.tls.certificates import Certificates


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(Path(tmp_path_factory.mktemp("tls")))


@pytest.fixture(scope="module")
def server(files: Files) -> Certificates:
    return load(**files.issue("server"))


@pytest.fixture
def context(files: Files) -> ssl.SSLContext:
    return files.client_context()
