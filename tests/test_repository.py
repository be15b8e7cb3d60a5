"""The repository's own files: CI workflow, templates, links, and log lines quoted in the docs."""

import ast
import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"
# Written by `make docs`, and therefore not in every working copy.
GENERATED = {ROOT / "docs" / "reference" / "settings.md"}


def _tracked(*patterns: str) -> list[Path]:
    """Return the files that git knows, or all files if this is not a git working copy."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return [path for pattern in patterns for path in ROOT.rglob(pattern)]
    return [ROOT / name for name in listing.stdout.splitlines() if (ROOT / name).exists()]


YAML = sorted(_tracked("*.yml", "*.yaml"))
MARKDOWN = sorted(_tracked("*.md"))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _workflow() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    return loaded


# -- CI ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", YAML, ids=_name)
def test_yaml_files_are_valid(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def _make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text()
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))


@pytest.mark.parametrize("name", [".github/workflows/ci.yml", ".pre-commit-config.yaml", ".ci/run"])
def test_make_targets_of_ci_and_pre_commit_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    called = re.findall(r"^\s*(?:- run: |entry: )?make ([a-z-]+)", text, re.MULTILINE)
    assert called
    assert set(called) <= _make_targets()


@pytest.mark.parametrize(("target", "installed"), [("chat", "."), ("test", ".[dev]")])
def test_make_installs_what_a_target_needs_and_says_so(
    target: str, installed: str, tmp_path: Path
) -> None:
    folders = (f"VENV={tmp_path / 'dev'}", f"CHAT_VENV={tmp_path / 'chat'}")
    command = ("make", "--dry-run", "--no-print-directory", target, *folders)
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.startswith('echo "Installing wsgate ')
    assert re.findall("--editable '(.*)'", printed) == [installed]


@pytest.mark.parametrize("path", _tracked("examples/chat/*.py"), ids=lambda path: path.name)
def test_the_chat_imports_nothing_but_wsgate(path: Path) -> None:
    own = {one.stem for one in path.parent.glob("*.py")}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = {one.name.partition(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = {str(node.module).partition(".")[0]}
        else:
            continue
        assert names <= {*sys.stdlib_module_names, "wsgate", *own}


def test_ci_runs_the_checks_that_a_developer_runs() -> None:
    runs = [step.get("run", "") for job in _workflow()["jobs"].values() for step in job["steps"]]
    for command in ("make check", "make plain", "make sanitize", "make test PYTHON=python"):
        assert any(run.startswith(command) for run in runs), command


def test_ci_installs_the_other_programs_and_requires_them() -> None:
    steps = _workflow()["jobs"]["test"]["steps"]
    runs = [step.get("run", "") for step in steps]
    tests = next(i for i, run in enumerate(runs) if run.startswith("make test"))
    names = ("proxies", "redis", "nats", "browser", "prometheus")
    assert {f".ci/install-{name}" for name in names} <= set(runs[:tests])
    assert steps[tests]["env"] == {f"TEST_{name.upper()}": "required" for name in names}
    script = (ROOT / ".ci/run").read_text()
    required = script.index("export " + " ".join(f"TEST_{name.upper()}=required" for name in names))
    installed = script.index("".join(f"\n.ci/install-{name}" for name in names))
    assert installed < required < script.index("\n    make test")


def test_ci_tests_the_pythons_of_the_classifiers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = (re.search(r"Python :: (3\.\d+)$", line) for line in project["classifiers"])
    matrix = _workflow()["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == [match[1] for match in found if match]
    assert project["requires-python"] == f">={matrix['python'][0]}"
    assert all(entry["experimental"] for entry in matrix["include"])  # these may fail


def test_issue_forms_have_unique_ids_and_labels() -> None:
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"):
        form = yaml.safe_load(path.read_text())
        fields = [field for field in form["body"] if field["type"] != "markdown"]
        assert all(field["attributes"]["label"] for field in fields)
        ids = [field["id"] for field in fields]
        assert len(ids) == len(set(ids)), path


# -- links in Markdown ---------------------------------------------------------------------------

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")


def _links(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield the target and the fragment of each relative link of a page."""
    for link in _LINK.findall(_FENCE.sub("", page.read_text())):
        if not re.match(r"[a-z]+:", link):
            path, _, fragment = link.partition("#")
            yield (page.parent / path).resolve() if path else page, fragment


def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", MARKDOWN, ids=_name)
def test_relative_links_point_to_existing_files_and_headings(page: Path) -> None:
    for target, fragment in _links(page):
        if target in GENERATED and not target.exists():
            continue
        assert target.exists(), f"{_name(page)} links to {target}"
        if fragment and target.suffix == ".md":
            assert fragment in _anchors(target), f"{_name(page)} links to {target}#{fragment}"


def test_every_page_is_in_the_index() -> None:
    index = {target for target, _ in _links(ROOT / "docs" / "README.md")}
    folders = (ROOT / "docs", ROOT / "docs" / "deploy")
    pages = {path for path in MARKDOWN if path.parent in folders and path.name != "README.md"}
    assert pages <= index


_PARSERS: dict[str, Callable[[str], object]] = {
    "python": ast.parse,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
}


_SNIPPET = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SNIPPETS = [
    pytest.param(language, code, id=f"{_name(page)}-{number}")
    for page in MARKDOWN
    for number, (language, code) in enumerate(_SNIPPET.findall(page.read_text()), start=1)
    if language in _PARSERS
]


@pytest.mark.parametrize(("language", "code"), SNIPPETS)
def test_snippets_in_the_docs_can_be_parsed(language: str, code: str) -> None:
    _PARSERS[language](code)


def test_the_app_of_the_readme_has_ten_lines_at_most() -> None:
    readme = _SNIPPET.findall((ROOT / "README.md").read_text())
    app = next(code for _, code in readme if "async def app(" in code)
    assert app.count("\n") <= 10


# -- texts of the server that the docs quote -------------------------------------------------------


@functools.cache
def _texts_of_the_code() -> list[str]:
    """Return all string constants of the package, including the parts of f-strings."""
    trees = (ast.parse(path.read_text()) for path in (ROOT / "wsgate").rglob("*.py"))
    nodes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return [node.value for node in nodes if isinstance(node.value, str)]


def _quoted_lines() -> Iterator[str]:
    """Yield the log lines and errors in the first column of the tables of troubleshooting.md."""
    for section in ("It does not start", "Lines of the error log"):
        text = TROUBLESHOOTING.read_text().split(f"## {section}\n")[1].split("\n## ")[0]
        for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE):
            yield re.findall(r"`([^`]+)`", row)[0]


@pytest.mark.parametrize("line", [line for line in _quoted_lines() if line != "No such option"])
def test_quoted_log_lines_are_texts_of_the_code(line: str) -> None:
    texts = _texts_of_the_code()
    for part in filter(None, (part.strip() for part in line.split("…"))):
        assert any(part in text for text in texts), part
