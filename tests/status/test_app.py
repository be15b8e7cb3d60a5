"""The requests of the metrics' address."""

import httpx
import pytest

from tests.status.conftest import FakeSource
from wsgate.status.app import StatusApp


@pytest.fixture
def client(app: StatusApp) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="http://metrics")


async def test_metrics_are_exposed(client: httpx.AsyncClient) -> None:
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert response.headers["cache-control"] == "no-store"
    assert response.text == "# HELP x_total X.\n# TYPE x_total counter\nx_total 5.0\n"


async def test_the_accept_header_and_the_query_are_passed_on(client: httpx.AsyncClient) -> None:
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    response = await client.get("/metrics", headers=accept)
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("x_total 5.0\n# EOF\n")
    assert not (await client.get("/metrics?name[]=other")).content


async def test_without_metrics_the_answer_says_why(
    client: httpx.AsyncClient, source: FakeSource
) -> None:
    del source.answers["metrics"]
    response = await client.get("/metrics")
    assert (response.status_code, response.text) == (503, "metrics is refused\n")


async def test_probes(client: httpx.AsyncClient, source: FakeSource) -> None:
    health, ready = await client.get("/healthz"), await client.get("/readyz")
    assert (health.status_code, health.text) == (200, "ok\n")
    assert (ready.status_code, ready.text) == (200, "ready\n")
    source.answers["status"][0]["server"]["state"] = "stopping"
    health, ready = await client.get("/healthz"), await client.get("/readyz")
    assert health.status_code == 200
    assert (ready.status_code, ready.text) == (503, "not ready: the server is stopping\n")


async def test_the_page_is_one_file_without_outside_resources(client: httpx.AsyncClient) -> None:
    response = await client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "http://" not in response.text.replace("http://www.w3.org/", "")
    assert "https://" not in response.text


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/"])
async def test_head_has_no_body_and_other_methods_are_refused(
    client: httpx.AsyncClient, path: str
) -> None:
    head, get = await client.head(path), await client.get(path)
    assert not head.content
    assert head.headers["content-length"] == get.headers["content-length"]
    response = await client.post(path)
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")


async def test_an_unknown_path_names_those_that_exist(client: httpx.AsyncClient) -> None:
    response = await client.get("/metric")
    assert response.status_code == 404
    assert "/metrics" in response.text
