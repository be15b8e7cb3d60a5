"""The page and the pictures of the benchmarks, for given results."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks import measure, picture, report, results
from benchmarks.loads import BALANCES, GOALS, GROWTHS, LOADS, Figure, Goal
from benchmarks.results import Results
from benchmarks.servers import SERVERS, UVICORN

ABOUT = {
    "machine": {"processor": "Z80", "cores": "1", "memory": "64 KiB", "kernel": "CP/M 2.2"},
    "versions": {"CPython": "3.11.0", "wsgate": "0.1.0"},
    "date": "2026-01-02",
    "seconds": 1.5,
}


def rates(*values: float | None) -> list[dict[str, Any]]:
    return [
        {"failed": "no"} if v is None else {"rate": v, "p50_ms": 1, "p99_ms": 2} for v in values
    ]


def record(**servers: list[dict[str, Any]]) -> dict[str, Any]:
    return ABOUT | {"servers": {name.replace("_", "-"): rounds for name, rounds in servers.items()}}


@pytest.fixture
def found() -> Results:
    return {
        "echo64": record(
            limit=rates(100, 200, 400),
            wsgate=rates(90, 170, 300),
            socketify=rates(80, 80, 80),
            uvicorn_websockets=rates(10, 20, 30),
            uvicorn_sansio=rates(50, 50, 50),
            wsgate_wsproto=rates(60, 60, None),
            daphne=rates(None, None, None),
        ),
        "idle-deflate": record(
            wsgate=[{"bytes": 5000, "deflate": True}, {"bytes": 6100, "deflate": True}],
            socketify=[{"bytes": 8000, "deflate": False}, {"bytes": 8000, "deflate": False}],
        ),
        "idle-pings": record(
            wsgate=[{"bytes": 5000, "cpu_us": 1.5, "kernel_share": 0.42}],
            limit_pinging=[{"bytes": 1000, "cpu_us": 0.91, "kernel_share": 0.67}],
        ),
        "hold": record(wsgate=[{"rate": 9, "p50_ms": 1, "p99_ms": 20.0, "server_processes": 3}]),
        "redis-round-trip": record(
            redis_py=[{"rate": 3000, "p50_ms": 0.2, "p99_ms": 1}],
            wsgate_redis_kept=[{"rate": 2500, "p50_ms": 0.28, "p99_ms": 1}],
        ),
        "workers-fan500": record(
            wsgate_topics=[{"rate": 9000, "per_cpu": 10_000, "processors": 0.9}],
            wsgate_topics_w2=[{"rate": 9500, "per_cpu": 8000, "processors": 1.19}],
        ),
        "workers-work": record(wsgate=rates(100, 100), wsgate_w2=rates(195, 175)),
        "balance-10000-w4": record(
            wsgate_w4=[
                {"least": 2450, "fullest": 2550, "ratio": 1.041},
                {"least": 2499, "fullest": 2501, "ratio": 1.001},
                {"least": 2490, "fullest": 2510, "ratio": 1.008},
            ],
            granian_w4=[{"failed": "no"}],
        ),
        "restart-100": record(
            wsgate_w2=[
                {
                    "restarts": 100,
                    "handshakes": 41234,
                    "requests": 98765,
                    "failures": 2,
                    "refused": 0,
                    "reset": 1,
                    "cut": 1,
                    "silent": 0,
                    "rejected": 0,
                    "restart_seconds": 1.23,
                }
            ]
        ),
        "jitter-redis": record(
            wsgate_redis=[
                {
                    "failures": 3,
                    "delivered_percent": 99.99,
                    "missing": 2,
                    "twice": 1,
                    "incomplete": 0,
                    "reconnects": 10174,
                    "repeated": 1,
                }
            ]
        ),
        "workers-hold": record(
            wsgate_w6=[{"rate": 9, "p50_ms": 1, "p99_ms": 30.0, "bytes": 5700}] * 2
        ),
    }


def goal(load: str, *against: str, server: str = "wsgate", figure: Figure | None = None) -> Goal:
    return next(
        goal
        for goal in GOALS
        if (goal.load, goal.server) == (load, server)
        and goal.against[:1] == against
        and goal.other_figure == figure
    )


def test_a_ratio_is_the_median_of_the_ratios_within_each_round(found: Results) -> None:
    assert results.ratio(found, "echo64", "wsgate", "limit") == 0.85
    assert results.ratio(found, "echo64", "daphne", "limit") is None
    assert results.ratio(found, "http", "wsgate", "limit") is None


def test_the_server_with_the_best_median_is_the_best(found: Results) -> None:
    assert results.best(found, "echo64", UVICORN) == "uvicorn-sansio"
    assert results.best(found, "idle-deflate", ("wsgate", "socketify")) == "wsgate"
    assert results.best(found, "echo64", ("daphne",)) is None


@pytest.mark.parametrize(
    ("checked", "value", "is_met"),
    [
        (goal("echo64", "limit"), 0.80, True),
        (goal("echo64", "limit"), 0.79, False),
        (goal("connect", "granian"), 1.0, False),
        (goal("connect", "granian"), 1.1, True),
        (goal("idle-deflate"), 6000, True),
        (goal("idle-deflate"), 6001, False),
        (goal("idle-deflate", "socketify"), 1.0, False),
        (goal("hold"), 49.9, True),
        (goal("hold"), 50, False),
        (goal("frozen500", "wsgate-all-read", server="wsgate-drop"), 1.1, True),
        (goal("frozen500", "wsgate-all-read", server="wsgate-drop"), 1.11, False),
        (goal("redis-round-trip", "redis-py", server="wsgate-redis-kept"), 1.5, True),
        (goal("redis-round-trip", "redis-py", server="wsgate-redis-kept"), 1.51, False),
        (goal("workers-fan500", "wsgate-topics", server="wsgate-topics-w2"), 0.85, True),
        (goal("workers-fan500", "wsgate-topics", server="wsgate-topics-w2"), 0.84, False),
        (goal("workers-work", "wsgate", server="wsgate-w2"), 1.8, True),
        (goal("workers-work", "wsgate", server="wsgate-w2"), 1.79, False),
        (goal("balance-10000-w4", server="wsgate-w4"), 1.05, True),
        (goal("balance-10000-w4", server="wsgate-w4"), 1.06, False),
        (goal("restart-100", server="wsgate-w2"), 0, True),
        (goal("restart-100", server="wsgate-w2"), 1, False),
        (goal("workers-hold", server="wsgate-w6", figure=Figure.MEMORY), 5800, True),
        (goal("workers-hold", server="wsgate-w6", figure=Figure.MEMORY), 5801, False),
    ],
)
def test_a_goal_is_met_or_not(checked: Goal, value: float, is_met: bool) -> None:
    assert results.is_met(checked, value) is is_met


def test_a_goal_without_a_peer_is_compared_with_the_worst_round(found: Results) -> None:
    assert results.goal_value(found, goal("idle-deflate")) == 6100


def test_the_table_of_goals_shows_which_are_met(found: Results) -> None:
    lines = report.goals_table(found).splitlines()
    echo = "| Echo of 64 B, 64 connections |"
    assert f"{echo} at least 0.8 of the limit | 0.85 | met |" in lines
    assert f"{echo} at least 1.25 times socketify | 2.12 (socketify) | met |" in lines
    best = "uvicorn --ws websockets-sansio"
    assert f"{echo} at least 1.7 times uvicorn's best | 3.4 ({best}) | met |" in lines
    idle = "| Bytes for an idle connection, deflate offered |"
    assert f"{idle} at most 6,000 | 6,100 | **not met** |" in lines
    assert f"{idle} below socketify | 0.694 (socketify) | met |" in lines
    title = "Processor time for an idle connection with Pings, us a second"
    assert f"| {title} | at most 2 | 1.5 | met |" in lines
    assert any("below 50, without a failure | 20 | met |" in line for line in lines)
    assert any("fails: no | **not met** |" in line for line in lines)
    work = "| Echo of 64 B with 0.2 ms of work, 64 connections (wsgate --workers 2) |"
    assert f"{work} at least 1.8 times wsgate | 1.85 (wsgate) | met |" in lines
    assert any("(wsgate --workers 4) | at most 1.05 | 1.04 | met |" in line for line in lines)
    assert any("(wsgate --workers 2) | at most 0 | 2 | **not met** |" in line for line in lines)
    held = "| 100,000 connections over 6 workers, 1,000 of them with 5 messages a second"
    memory = f"{held}: bytes for a connection (wsgate --workers 6) | at most 5,800 | 5,700 | met |"
    assert memory in lines
    trip = "| From publish to receive through Redis: median, ms (wsgate, a topic with history) |"
    assert f"{trip} at most 1.5 times redis-py | 1.4 (redis-py) | met |" in lines
    fan = "| A plain topic of 500 WebSockets: deliveries per second of processor time"
    two = f"{fan} (wsgate --workers 2) | at least 0.85 times wsgate | 0.8 (wsgate) | **not met** |"
    assert two in lines
    assert sum("| not measured |" in line for line in lines) == 34
    assert len(lines) == len(GOALS) + 2


def test_the_table_of_a_load_has_a_row_for_each_server(found: Results) -> None:
    table = report.load_table("echo64", found["echo64"])
    assert "| wsgate | 170 | 90 | 300 | 0.85 | 1 | 2 |" in table
    assert "| daphne | fails: no |  |  |  |  |  |" in table
    assert "| wsgate --no-ws-fast-path (failed in 1 of 3 rounds) | 60 | 60 | 60 |" in table
    assert "| socketify (declines deflate) | 8,000 |" in report.load_table(
        "idle-deflate", found["idle-deflate"]
    )
    table = report.load_table("idle-pings", found["idle-pings"])
    assert "| wsgate | 1.5 | 1.5 | 1.5 | 0.42 |" in table
    assert "3 processes on one processor" in report.load_table("hold", found["hold"])


def test_the_table_of_restarts_has_a_column_for_each_kind_of_failure(found: Results) -> None:
    table = report.load_table("restart-100", found["restart-100"])
    assert "| Refused | Reset | Closed without a response |" in table
    row = "| wsgate --workers 2 | 2 | 2 | 2 | 0 | 1 | 1 | 0 | 0 | 41,234 | 98,765 | 1.23 |"
    assert row in table


def test_the_table_of_lost_networks_rounds_nothing_up(found: Results) -> None:
    table = report.load_table("jitter-redis", found["jitter-redis"])
    row = "| two wsgate --workers 2, one Redis | 3 | 3 | 3 | 99.99 | 2 | 1 | 0 | 10,174 | 1 |"
    assert row in table


def test_the_table_of_balance_shows_the_median_round(found: Results) -> None:
    table = report.balance_table(found)
    assert "| wsgate |  |  |  | 2,490 / 2,510 (1.01) |  |" in table
    assert "| granian |  |  |  | fails |  |" in table


@pytest.mark.parametrize(
    ("connections", "least", "ratio"), [([50, 100], 50, 2.0), ([100], 0, 100.0), ([7, 7], 7, 1.0)]
)
def test_a_worker_without_connections_is_the_emptiest(
    connections: list[int], least: int, ratio: float
) -> None:
    found = measure.balance(connections, 2)
    assert found == {"least": least, "fullest": max(connections), "ratio": ratio}


def test_the_growth_table_shows_the_ratio_to_the_limit(found: Results) -> None:
    table = report.growth_table(found, GROWTHS[0])
    assert "| By connections | 1 | 64 | 1,000 | 10,000 |" in table
    assert "| wsgate |  | 170 (0.85) |  |  |" in table
    assert "| uvicorn's best |  | 50 (0.25) |  |  |" in table


def test_the_page_names_the_machine_the_date_and_the_versions(found: Results) -> None:
    text = report.generated_part(found)
    assert "2026-01-02 on Z80, 1 cores, 64 KiB, CP/M 2.2" in text
    assert "CPython 3.11.0, wsgate 0.1.0" in text


def test_dates_and_versions_of_all_records_are_listed(found: Results) -> None:
    found["hold"] = found["hold"] | {"date": "2026-02-03", "versions": {"wsgate": "0.2.0"}}
    text = report.fill_in_facts(found, "{dates}, {versions}")
    assert text == "2026-01-02 to 2026-02-03, CPython 3.11.0, wsgate 0.1.0 and 0.2.0"


def test_only_the_part_between_the_comments_is_replaced() -> None:
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    assert (
        report.replace_generated_part(page, "new")
        == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"
    )
    with pytest.raises(ValueError, match="no <!-- bench:begin"):
        report.replace_generated_part("a page", "new")


@pytest.mark.parametrize("is_empty", [False, True])
def test_pictures_are_well_formed_and_name_the_servers(found: Results, is_empty: bool) -> None:
    drawn = picture.pictures({} if is_empty else found, "a < note & more")
    assert list(drawn) == list(picture.NAMES)
    for svg in drawn.values():
        words = [element.text for element in ET.fromstring(svg).iter() if element.text]
        assert "a < note & more" in words
        assert is_empty or "wsgate" in words
    assert is_empty == ("0.85" not in drawn["fast.svg"])


def test_results_are_the_same_after_save_and_load(tmp_path: Path, found: Results) -> None:
    file = tmp_path / "results.json"
    assert results.load(file) == {}
    results.save(file, found)
    assert results.load(file) == found
    assert '{"rate": 100, "p50_ms": 1, "p99_ms": 2}' in file.read_text()


def test_loads_goals_and_growth_tables_name_existing_servers_and_loads() -> None:
    for load in LOADS.values():
        assert {*load.servers, *load.others} <= set(SERVERS)
        assert load.like is None or load.like in LOADS
    for target in GOALS:
        assert target.server in LOADS[target.load].servers
        assert set(target.against) & set(LOADS[target.load].servers) or not target.against
    for table in GROWTHS:
        assert {load for _, load in table.columns} <= set(LOADS)
    for _, name, workers in BALANCES:
        assert {SERVERS[server].workers for server in LOADS[name].servers} == {workers}
