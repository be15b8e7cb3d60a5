"""The files for systemd, Docker and Kubernetes: complete, consistent, and long enough to stop."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.command_lines import container, manifest, of_image, of_pod, of_units, unit
from tests.deploy.test_commands import parse
from tests.harness.processes import ROOT
from tests.harness.proxies import EXAMPLES
from wsgate.config import Config

UNITS = sorted((EXAMPLES / "systemd").iterdir(), key=lambda path: path.name)
IGNORED = 7  # seconds for an app that ignores its cancellation


def longest_stop(words: list[str]) -> float:
    """Return the seconds that a stop may take: see "Time to stop" in docs/deployment.md."""
    config = parse(words)
    return config.drain_seconds + 2 * config.timeout_graceful_shutdown + IGNORED


# -- systemd ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_accepts_a_unit(path: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze")
    for other in UNITS:
        text = other.read_text().replace("/srv/app/venv/bin/wsgate", "/bin/true")
        (tmp_path / other.name.replace("@", "@8000")).write_text(text)
    name = path.name.replace("@", "@8000")
    command = [analyze, "verify", "--man=no", str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "app" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize(("name", "words"), list(of_units()))
def test_systemd_waits_long_enough(name: str, words: list[str]) -> None:
    service = unit(EXAMPLES / "systemd" / name)["Service"]
    assert float(service["TimeoutStopSec"]) >= longest_stop(words)
    assert service["Type"] == "notify"
    assert int(service["LimitNOFILE"]) == 65536


def test_the_services_differ_only_where_they_must() -> None:
    one, template = (unit(EXAMPLES / "systemd" / name) for name in ("app.service", "app@.service"))
    differing = {key for key in one["Service"] if one["Service"][key] != template["Service"][key]}
    assert differing == {"ExecStart", "TimeoutStopSec"}
    assert one["Service"].keys() == template["Service"].keys()


# -- Docker ----------------------------------------------------------------------------------------

DOCKER = EXAMPLES / "docker"


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"])


def test_the_image_runs_wsgate_as_process_1_and_not_as_root() -> None:
    text = re.sub(r"\\\n\s*", "", (DOCKER / "Dockerfile").read_text())
    lines = dict(re.findall(r"(?m)^([A-Z]+) (.*)$", text))  # the last one of each
    assert lines["USER"] == "app"
    assert lines["STOPSIGNAL"] == "SIGTERM"
    assert lines["CMD"].startswith('["wsgate", ')
    assert "127.0.0.1:9464/readyz" in lines["HEALTHCHECK"]
    assert parse(of_image()).metrics == "0.0.0.0:9464"
    assert "[metrics]" in lines["RUN"]
    assert lines["EXPOSE"] == "8000"
    assert "--port" not in of_image()
    assert "ENTRYPOINT" not in lines


def test_the_image_builds_wsgate_in_a_stage_of_its_own() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    build, image = re.split(r"(?m)^FROM ", text)[1:]
    assert 'pip wheel --no-cache-dir --no-deps --wheel-dir /wheels "$WSGATE"' in build
    assert "COPY --from=build /wheels /wheels" in image
    assert "/wheels/*.whl" in image


def test_the_service_without_a_proxy_can_be_started() -> None:
    page = (EXAMPLES.parent / "docker.md").read_text()
    (text,) = re.findall(r"(?s)```yaml\n(services:.*?)```", page)
    service = yaml.safe_load(text)["services"]["app"]
    program, *arguments = service["command"]
    assert program == "wsgate"
    config = parse(arguments)
    assert config.port == int(service["ports"][0].partition(":")[2])
    folder = service["volumes"][0].split(":")[1]
    assert all(f.startswith(f"{folder}/") for f in (*config.ssl_certfile, *config.ssl_keyfile))
    assert float(service["stop_grace_period"].removesuffix("s")) >= longest_stop(arguments)


def test_docker_waits_long_enough() -> None:
    assert float(compose()["app"]["stop_grace_period"].removesuffix("s")) >= longest_stop(
        of_image()
    )


def test_the_services_of_compose_fit_together() -> None:
    nginx = compose()["nginx"]
    source, target, mode = nginx["volumes"][0].split(":")
    assert ((DOCKER / source).exists(), target, mode) == (True, "/etc/nginx/nginx.conf", "ro")
    assert set(nginx["depends_on"]) == {"app"}
    assert "ports" not in compose()["app"]  # only nginx may set the headers that the app trusts
    assert "set $app app:8000;" in (DOCKER / "nginx.conf").read_text()


# -- Kubernetes ------------------------------------------------------------------------------------


def test_the_manifests_fit_together() -> None:
    deployment, service, ingress = map(manifest, ("deployment", "service", "ingress"))
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    (port,) = service["spec"]["ports"]
    assert port["targetPort"] in {one["name"] for one in container()["ports"]}
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    backend = {"service": {"name": service["metadata"]["name"], "port": {"name": port["name"]}}}
    assert path["backend"] == backend
    assert ingress["spec"]["tls"][0]["hosts"] == [rule["host"]]


def test_the_pod_listens_where_it_is_probed() -> None:
    ports = {one["name"]: one["containerPort"] for one in container()["ports"]}
    assert ports == {"http": 8000, "metrics": 9464}
    assert "--port" not in of_pod()
    assert parse(of_pod()).metrics == "0.0.0.0:9464"
    paths = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
    for probe, path in paths.items():
        assert container()[probe]["httpGet"] == {"path": path, "port": "metrics"}


def test_kubernetes_waits_long_enough() -> None:
    pod = manifest("deployment")["spec"]["template"]["spec"]
    assert pod["enableServiceLinks"] is False
    (pause,) = container()["lifecycle"]["preStop"]["exec"]["command"][1:]
    assert pod["terminationGracePeriodSeconds"] >= float(pause) + longest_stop(of_pod())


def test_strings_of_annotations_and_variables_are_strings() -> None:
    # 60 without quotes is a number, which Kubernetes refuses.
    annotations = manifest("ingress")["metadata"]["annotations"]
    values = [*annotations.values(), *(variable["value"] for variable in container()["env"])]
    assert all(isinstance(value, str) for value in [*values, *container()["command"]])


# -- timeouts --------------------------------------------------------------------------------------

# What each configuration says, in seconds: its timeout of an idle WebSocket, and how long it keeps
# an idle connection to wsgate, None if it closes none of its own accord.
TIMEOUTS = {
    "nginx/app.conf": (r"proxy_read_timeout (\d+)s;", r" keepalive_timeout (\d+)s;"),
    "nginx/tls-passthrough.conf": (r"proxy_timeout (\d+)s;", None),
    "haproxy/haproxy.cfg": (r"timeout tunnel (\d+)s", None),
    "haproxy/tls-passthrough.cfg": (r"timeout client (\d+)s", None),
    "caddy/Caddyfile": (None, r" ?keepalive (\d+)s\n"),
    "docker/nginx.conf": (r"proxy_read_timeout (\d+)s;", None),
    "kubernetes/ingress.yaml": (r'proxy-read-timeout: "(\d+)"', None),
}


@pytest.mark.parametrize("name", TIMEOUTS)
def test_timeouts_are_longer_than_the_interval_of_pings(name: str) -> None:
    idle, kept = TIMEOUTS[name]
    text = (EXAMPLES / name).read_text()
    if idle is not None:
        assert 2 * Config().ws_ping_interval < float(re.findall(idle, text)[0])
    if kept is not None:
        assert float(re.findall(kept, text)[0]) < 75  # --timeout-keep-alive in all commands
    for words in (*(words for _, words in of_units()), of_image(), of_pod()):
        assert words[words.index("--timeout-keep-alive") + 1] == "75"


def test_every_example_is_linked() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "deploy").glob("*.md"))
    for path in EXAMPLES.rglob("*"):
        if path.is_file() and not path.name.startswith(".") and "__pycache__" not in path.parts:
            assert f"(examples/{path.relative_to(EXAMPLES)})" in pages, path
