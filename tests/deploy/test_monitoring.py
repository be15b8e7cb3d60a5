"""The dashboard, the alert rules and the examples of PromQL: of metrics that exist, and valid."""

import json
import re
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.grafana_dashboard import ROWS
from docs.metrics_table import GROUPS
from tests.deploy.command_lines import container
from tests.deploy.made_up_series import SECONDS, STEPS, input_series
from tests.deploy.promql import faults, names_in, result_labels
from tests.harness.processes import ROOT
from tests.harness.prometheus import check
from tests.harness.proxies import EXAMPLES
from wsgate.metrics.families import FAMILIES, PROCESS_NAMES

FOLDER = EXAMPLES / "monitoring"
ALERTS = FOLDER / "alerts.yml"
ALERTS_TEST = Path(__file__).parent / "alerts_test.yml"
CONFIGS = ("prometheus.yml", "prometheus-kubernetes.yml")
PAGES = (ROOT / "docs/reference/metrics.md", ROOT / "docs/deploy/monitoring.md")
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def panels() -> list[dict[str, Any]]:
    """Return the panels that show something."""
    return [panel for panel in PANELS if panel["type"] != "row"]


def targets() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each query of the dashboard, with the name of its panel."""
    for panel in panels():
        for target in panel["targets"]:
            yield f"{panel['title']}-{target['refId']}", target


def alerts() -> dict[str, dict[str, Any]]:
    """Return the alert rules by name."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def queries() -> dict[str, str]:
    """Return the expressions of the dashboard and of the pages by a name, without variables."""
    found = {name: target["expr"] for name, target in targets()}
    for page in PAGES:
        snippets = re.findall(r"(?ms)^```promql\n(.*?)^```", page.read_text())
        found |= {f"{page.name}-{number}": text for number, text in enumerate(snippets, 1)}
    return {name: _without_variables(text) for name, text in found.items()}


def _without_variables(expression: str) -> str:
    expression = re.sub(r"\$(job|instance)\b", ".*", expression)
    return expression.replace("$__rate_interval", "5m")


QUERIES = queries()
TARGETS = dict(targets())
RULES = alerts()

# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_names_series_and_labels_that_exist(name: str) -> None:
    assert faults(QUERIES[name]) == []


@pytest.mark.parametrize("name", RULES)
def test_an_alert_names_series_and_labels_that_exist(name: str) -> None:
    assert faults(RULES[name]["expr"]) == []


@pytest.mark.parametrize("name", RULES)
def test_the_texts_of_an_alert_have_values(name: str) -> None:
    rule = RULES[name]
    texts = rule["annotations"]
    assert set(texts) == {"summary", "description"}
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(texts.values())))
    assert used <= result_labels(rule["expr"])
    assert "instance" in used
    assert texts["description"].endswith(".")
    assert rule["labels"]["severity"] in ("critical", "warning")


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name for query in QUERIES.values() for name, _ in names_in(query).series}
    missing = [one.name for one in FAMILIES if not shown & one.series_names]
    assert missing == []


def test_the_text_of_alerts_has_the_job_of_the_configurations() -> None:
    for name in CONFIGS:
        (job,) = _config(name)["scrape_configs"]
        assert job["job_name"] == "wsgate"
    assert set(re.findall(r'job="(\w+)"', ALERTS.read_text())) == {"wsgate"}


def _config(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / name).read_text()))


def test_prometheus_finds_the_port_of_the_pod() -> None:
    (job,) = _config("prometheus-kubernetes.yml")["scrape_configs"]
    keep = job["relabel_configs"][0]
    assert keep["regex"] in {port["name"] for port in container()["ports"]}


# -- the dashboard ---------------------------------------------------------------------------------


def test_the_ids_of_panels_are_unique() -> None:
    numbers = [panel["id"] for panel in PANELS]
    assert len(numbers) == len(set(numbers))
    assert all(number > 0 for number in numbers)


def test_no_panel_lies_over_another() -> None:
    for one, other in combinations(PANELS, 2):
        a, b = one["gridPos"], other["gridPos"]
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or below, (one["title"], other["title"])


def test_panels_lie_on_the_grid_below_the_row_that_they_belong_to() -> None:
    assert [panel["title"] for panel in PANELS if panel["type"] == "row"] == list(ROWS)
    for before, panel in pairwise(PANELS):
        place = panel["gridPos"]
        assert 0 <= place["x"] <= place["x"] + place["w"] <= 24
        assert (before["gridPos"]["y"], before["gridPos"]["x"]) < (place["y"], place["x"])


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_asks_the_data_source_that_was_chosen(panel: dict[str, Any]) -> None:
    assert panel["datasource"] == DATASOURCE
    assert panel["targets"]
    assert [target["refId"] for target in panel["targets"]] == list("ABC"[: len(panel["targets"])])
    assert all(target["datasource"] == DATASOURCE for target in panel["targets"])
    assert panel["fieldConfig"]["defaults"]["unit"]


@pytest.mark.parametrize("name", TARGETS)
def test_each_series_of_a_query_is_of_the_job_and_the_instance_that_were_chosen(name: str) -> None:
    target = TARGETS[name]
    for _, labels in names_in(target["expr"]).series:
        assert labels >= {"job", "instance"}
    assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= result_labels(
        target["expr"]
    )


def test_the_queries_of_a_panel_have_different_names() -> None:
    for panel in panels():
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(legends) == len(set(legends))


def test_the_variables_are_those_that_are_used() -> None:
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)\b", json.dumps(DASHBOARD)))
    assert set(variables) == used == {"datasource", "job", "instance"}
    for name in ("job", "instance"):
        query = variables[name]["query"]["query"]
        series, label = re.findall(r"label_values\((.*), (\w+)\)", query)[0]
        assert label == name
        assert faults(series) == []


# -- by Prometheus itself --------------------------------------------------------------------------


def test_promtool_accepts_the_rules() -> None:
    check("check", "rules", str(ALERTS))


@pytest.mark.parametrize("name", CONFIGS)
def test_promtool_accepts_the_configurations(name: str, tmp_path: Path) -> None:
    # Debian's Prometheus is built without the discovery of Kubernetes.
    text = re.sub(
        r"kubernetes_sd_configs:\n +- role: pod",
        'static_configs: [{targets: ["a:1"]}]',
        (FOLDER / name).read_text(),
    )
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / "alerts.yml").write_bytes(ALERTS.read_bytes())
    check("check", "config", str(tmp_path / "prometheus.yml"))


def test_alerts_fire_when_they_should() -> None:
    check("test", "rules", str(ALERTS_TEST))


def test_each_alert_fires_in_a_test() -> None:
    tests = yaml.safe_load(ALERTS_TEST.read_text())["tests"]
    (worst,) = (one for one in tests if one["name"].startswith("each alert fires"))
    labels = (sample["labels"] for sample in worst["promql_expr_test"][0]["exp_samples"])
    assert sorted(re.findall(r'alertname="(\w+)"', " ".join(labels))) == sorted(RULES)


def test_each_query_gives_a_result_for_made_up_series(tmp_path: Path) -> None:
    samples = [{"labels": "{}", "value": 1}]
    wanted = [
        {"expr": f"count({query}) > bool 0", "eval_time": "30m", "exp_samples": samples}
        for query in QUERIES.values()
    ]
    one = {
        "interval": f"{SECONDS}s",
        "input_series": input_series(),
        "promql_expr_test": wanted,
    }
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"evaluation_interval": f"{SECONDS}s", "tests": [one]}))
    assert SECONDS * STEPS >= 30 * 60
    check("test", "rules", str(file))


# -- the reference ---------------------------------------------------------------------------------


def test_the_reference_has_every_series() -> None:
    text = PAGES[0].read_text()
    for name in (*(family.name for family in FAMILIES), *PROCESS_NAMES):
        assert f"| `{name}` | " in text
    assert {family for group in GROUPS.values() for family in group} == set(FAMILIES)
