"""The generated pages: complete and up to date."""

import re
from enum import Enum
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from docs import generate
from wsgate.config import PROGRAM_SETTINGS, SETTINGS
from wsgate.settings import Setting
from wsgate.supervision import SUPERVISION_SETTINGS

PAGE = generate.settings_page()


ALL_SETTINGS = (*SETTINGS, *SUPERVISION_SETTINGS)


def entry(setting: Setting) -> str:
    """Return the section of a setting in the reference."""
    _, found, rest = PAGE.partition(f"\n### `{setting.option}`")
    assert found, f"{setting.option} has no heading"
    return rest.split("\n##", maxsplit=1)[0]


def by_name(name: str) -> Setting:
    return next(setting for setting in ALL_SETTINGS if setting.name == name)


# -- staleness -------------------------------------------------------------------------------------


def test_the_generated_pages_are_fresh() -> None:
    stale = [path.name for path in generate.stale_pages()]
    assert stale == [], "run `make docs` and commit the pages"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Generate into a folder whose pages are stale, or are not there."""
    docs = tmp_path / "docs"
    docs.mkdir()
    architecture = (generate.DOCS / "architecture.md").read_text()
    stale = re.sub(
        r"stateDiagram-v2\n.*?```", "stateDiagram-v2\n```", architecture, flags=re.DOTALL
    )
    (docs / "architecture.md").write_text(stale)
    migration = (generate.DOCS / "migrate-from-uvicorn.md").read_text()
    (docs / "migrate-from-uvicorn.md").write_text(migration.replace("| `--port` | same |\n", ""))
    (docs / "reference").mkdir()
    closes = (generate.DOCS / "reference" / "close-codes.md").read_text()
    (docs / "reference" / "close-codes.md").write_text(closes.replace("### operator\n", ""))
    metrics = (generate.DOCS / "reference" / "metrics.md").read_text()
    (docs / "reference" / "metrics.md").write_text(metrics.replace("| `wsgate_info` ", "| "))
    monkeypatch.setattr(generate, "DOCS", docs)
    return docs


def test_a_check_names_the_stale_pages_and_the_command(folder: Path) -> None:
    before = (folder / "architecture.md").read_text()
    result = CliRunner().invoke(generate.main, ["--check"])
    assert result.exit_code == 1
    assert result.output == (
        "docs/reference/settings.md is stale: run `make docs` and commit it\n"
        "docs/reference/close-codes.md is stale: run `make docs` and commit it\n"
        "docs/reference/metrics.md is stale: run `make docs` and commit it\n"
        "docs/deploy/examples/monitoring/grafana-dashboard.json is stale: "
        "run `make docs` and commit it\n"
        "docs/migrate-from-uvicorn.md is stale: run `make docs` and commit it\n"
        "docs/architecture.md is stale: run `make docs` and commit it\n"
    )
    assert (folder / "architecture.md").read_text() == before
    assert not (folder / "reference" / "settings.md").exists()


def test_stale_pages_are_written_once(folder: Path) -> None:
    result = CliRunner().invoke(generate.main)
    assert result.output == (
        "docs/reference/settings.md is written\n"
        "docs/reference/close-codes.md is written\n"
        "docs/reference/metrics.md is written\n"
        "docs/deploy/examples/monitoring/grafana-dashboard.json is written\n"
        "docs/migrate-from-uvicorn.md is written\n"
        "docs/architecture.md is written\n"
    )
    assert result.exit_code == 0
    assert (folder / "reference" / "settings.md").read_text() == PAGE
    for args in ([], ["--check"]):
        result = CliRunner().invoke(generate.main, args)
        assert (result.exit_code, result.output) == (0, "")


def test_a_page_without_its_region_is_an_error(folder: Path) -> None:
    (folder / "architecture.md").write_text("# How it is built\n")
    result = CliRunner().invoke(generate.main, ["--check"])
    assert result.exit_code == 1
    assert "Error: there is no region <!-- generated: states of the session -->" in result.output


@pytest.mark.parametrize("page", ["", "<!-- generated: a -->\nno end", "<!-- end -->"])
def test_a_region_needs_both_of_its_marks(page: str) -> None:
    with pytest.raises(click.ClickException):
        generate.fill_region(page, "a", "new")


def test_a_region_is_replaced_and_nothing_else() -> None:
    page = "a\n<!-- generated: b -->\nold\n<!-- end -->\nc\n<!-- end -->\n"
    filled = "a\n<!-- generated: b -->\nnew\n<!-- end -->\nc\n<!-- end -->\n"
    assert generate.fill_region(page, "b", "new") == filled
    assert generate.fill_region(filled, "b", "new") == filled


# -- the reference of settings ---------------------------------------------------------------------


@pytest.mark.parametrize("setting", ALL_SETTINGS, ids=lambda setting: setting.name)
def test_a_setting_is_in_the_reference(setting: Setting) -> None:
    text = entry(setting)
    assert setting.help in " ".join(text.split())
    for name in (setting.name, *setting.aliases, *setting.variables, *setting.options[1:]):
        assert f"`{name}`" in text
    for choice in setting.choices:
        assert f"`{choice}`" in text
    if setting.is_switch:
        assert f"`--no-{setting.option[2:]}`" in text
    for bound in setting.bounds if not setting.choices else ():
        assert bound.wanted in text
    assert "- Value: " in text
    assert "- Default: " in text


def test_the_reference_names_the_switches_with_a_value() -> None:
    text = " ".join(PAGE.split())
    named = "`--ws-per-message-deflate true` and `--ws-deflate-context-takeover true`"
    assert f"The options {named} take the value on the command line, too" in text


def test_the_reference_has_the_groups_in_their_order() -> None:
    headings = re.findall(r"(?m)^## (.+)$", PAGE)
    assert headings == ["The app", *dict.fromkeys(setting.group for setting in ALL_SETTINGS)]


def test_the_reference_has_the_options_that_are_no_settings() -> None:
    for setting in PROGRAM_SETTINGS:
        assert f"- Variable: `{setting.variables[0]}`\n" in PAGE
    assert "### `APP`\n" in PAGE
    assert "- Keyword: the first argument of `wsgate.run()`\n" in PAGE
    assert "- Keyword: `factory` of `wsgate.run()`\n" in PAGE
    assert "Call APP to get the app. An async factory is awaited.\n" in PAGE


def test_no_line_of_the_text_is_too_long() -> None:
    long = [line for line in PAGE.splitlines() if len(line) > 100]
    assert [line for line in long if not line.startswith("- ")] == []


@pytest.mark.parametrize(
    ("name", "value", "default"),
    [
        ("port", "whole number, 0 to 65535", "8000"),
        (
            "uds_perms",
            "file permissions (in Python a number such as `0o660`), octal, 0 to 777",
            "those of the stale file that a socket replaces, or 666",
        ),
        (
            "uds",
            generate._REPEATED,
            "none",
        ),
        ("root_path", "string, /like/this, or empty", "none"),
        ("loop", "one of `auto`, `asyncio`, `uvloop`, `none`", "`auto`"),
        ("access_log", "`true` or `false`", "on"),
        ("reset_contextvars", "`true` or `false`", "off"),
        ("ws_ping_interval", "number of seconds, 0 or greater", "20"),
        ("ws_max_fragments", "whole number of frames, greater than 0", "131,072"),
        (
            "ws_max_size",
            "whole number of bytes, greater than 0, at most 4611686018427387904",
            "16,777,216 (16 MiB)",
        ),
        ("ws_deflate_threshold", "whole number of bytes, 0 or greater", "1024 (1 KiB)"),
        (
            "ws_origins",
            "strings with commas between them (in the file and in Python also a list)",
            "any",
        ),
    ],
)
def test_values_and_defaults_are_for_readers(name: str, value: str, default: str) -> None:
    setting = by_name(name)
    assert generate.value_text(setting) == value
    assert generate.default_text(setting) == default


def test_a_size_of_odd_bytes_has_no_other_unit() -> None:
    assert generate._size(1_000) == generate._size(1_025) == ""


# -- the state diagrams ----------------------------------------------------------------------------


class Light(Enum):
    OFF = "off"
    ON = "on"
    BROKEN = "broken"


class Cause(Enum):
    PRESSED = "pressed"


def test_a_diagram_shows_every_transition() -> None:
    table: dict[tuple[Any, Any], Light] = {
        (Light.OFF, Cause.PRESSED): Light.ON,
        (Light.ON, "pressed again"): Light.OFF,
    }
    machine = generate.Diagram(table, Light.OFF, {(Light.ON, "an hour"): Light.BROKEN})
    assert generate.diagram(machine) == (
        "```mermaid\n"
        "stateDiagram-v2\n"
        "    [*] --> OFF\n"
        "    OFF --> ON: pressed\n"
        "    ON --> OFF: pressed again\n"
        "    ON --> BROKEN: an hour\n"
        "    BROKEN --> [*]\n"
        "```"
    )


@pytest.mark.parametrize("name", generate.DIAGRAMS)
def test_every_state_is_reached_in_a_diagram(name: str) -> None:
    machine = generate.DIAGRAMS[name]
    reached = {machine.initial, *machine.table.values(), *machine.moves.values()}
    assert reached == set(type(machine.initial))
    assert not machine.moves.keys() & machine.table.keys()
