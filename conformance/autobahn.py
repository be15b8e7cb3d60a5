"""Run the Autobahn Testsuite against wsgate's echo app and write the results as a table.

    python -m conformance.autobahn [--cases '1.*' ...] [--exclude '9.*' ...] [--write PAGE.md]

The suite is written in Python 2, so it runs in another process. Three ways are tried in order:

1. the script that the variable AUTOBAHN names; it takes the URL, --cases, --exclude, --keep FOLDER;
2. ../shared/tools/autobahn.py, if that file exists;
3. Docker, with the image crossbario/autobahn-testsuite.

The exit status is 1 if any case is neither OK nor INFORMATIONAL.
"""

import argparse
import asyncio
import collections
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import wsgate.testing
from tests.apps.echo import app

ROOT = Path(__file__).parent.parent
IMAGE = "crossbario/autobahn-testsuite"
# `make test` leaves these groups out because they take minutes: performance and compression.
LONG_GROUPS = ("9.*", "12.*", "13.*")
PASSED = frozenset({"OK", "INFORMATIONAL"})
GROUPS = {
    "1": "Framing",
    "2": "Pings and Pongs",
    "3": "Reserved bits",
    "4": "Opcodes",
    "5": "Fragmentation",
    "6": "UTF-8 handling",
    "7": "Closing handshake",
    "9": "Limits and performance",
    "10": "Auto-fragmentation",
    "12": "Compression, default offers",
    "13": "Compression, with parameters",
}
Results = dict[str, dict[str, Any]]


def find_script() -> Path | None:
    """Return the script that runs the suite, or None."""
    for place in (os.environ.get("AUTOBAHN"), ROOT.parent / "shared/tools/autobahn.py"):
        if place and Path(place).exists():
            return Path(place)
    return None


def is_available() -> bool:
    """Return whether the suite can run on this machine."""
    return find_script() is not None or _is_docker_running()


def _is_docker_running() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    command = [docker, "info"]  # fails when there is a client but no daemon
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603  # no untrusted input


def suite_command(url: str, folder: Path, cases: list[str], exclude: list[str]) -> list[str]:
    """Return the command that runs the suite against a URL and puts its reports in a folder."""
    if (tool := find_script()) is not None:
        parts = [sys.executable, str(tool), url, "--keep", str(folder), "--cases", *cases]
        return [*parts, "--exclude", *exclude] if exclude else parts
    spec = {
        "outdir": "/reports",
        "servers": [{"agent": "server", "url": url}],
        "cases": cases,
        "exclude-cases": exclude,
        "exclude-agent-cases": {},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    suite = ["wstest", "--mode", "fuzzingclient", "--spec", "/reports/spec.json"]
    mount = f"{folder}:/reports"
    return ["docker", "run", "--rm", "--network", "host", "--volume", mount, IMAGE, *suite]


async def run(cases: list[str], exclude: list[str], **options: Any) -> Results:
    """Run cases against a live echo server.

    Args:
        cases: Patterns of the cases to run, such as "1.*".
        exclude: Patterns of the cases to leave out.
        options: Settings of the server, as in `wsgate.Config`.

    Returns:
        The suite's result for each case.
    """
    folder = Path(tempfile.mkdtemp(prefix="autobahn-"))
    try:
        async with wsgate.testing.serve(app, lifespan="off", **options) as server:
            process = await asyncio.create_subprocess_exec(
                *suite_command(server.ws_url + "/", folder, cases, exclude),
                stdout=asyncio.subprocess.DEVNULL,
            )
            await process.wait()
        index: dict[str, Results] = json.loads((folder / "index.json").read_text())
        return index["server"]
    finally:
        shutil.rmtree(folder)


async def run_all(**options: Any) -> Results:
    """Run every case. Two suites run in parallel, because the suite is slower than the server."""
    group = ["13.*"]
    halves = await asyncio.gather(run(["*"], group, **options), run(group, [], **options))
    return halves[0] | halves[1]


def failures(results: Results) -> dict[str, str]:
    """Return the cases that did not pass, each with its verdicts and the server's close code."""
    failed = {}
    for case, result in results.items():
        behavior, closing = result["behavior"], result["behaviorClose"]
        if not {behavior, closing} <= PASSED:
            failed[case] = f"{behavior}, closing {closing}, code {result['remoteCloseCode']}"
    return failed


def table(results: Results) -> str:
    """Return the results as a Markdown table with one row per group of cases."""
    groups: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for case, result in results.items():
        groups[case.split(".")[0]][result["behavior"]] += 1
    kinds = ("OK", "INFORMATIONAL", "NON-STRICT", "FAILED", "UNIMPLEMENTED")
    lines = ["| Group | Cases | " + " | ".join(kinds) + " |", "| --- " + "| ---: " * 6 + "|"]
    for group, counts in [*sorted(groups.items(), key=lambda kv: int(kv[0])), ("All", None)]:
        counts = counts or sum(groups.values(), collections.Counter())  # noqa: PLW2901
        name = f"{group} {GROUPS.get(group, '')}".strip()
        cells = [str(counts.total()), *(str(counts[kind]) for kind in kinds)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


PAGE = """# The Autobahn Testsuite

The [Autobahn Testsuite](https://github.com/crossbario/autobahn-testsuite) checks a WebSocket server
against RFC 6455 and RFC 7692, case by case. A case passes here only if the suite rates both the
messages and the closing handshake OK or INFORMATIONAL.

To repeat the run, use `make autobahn`: it needs Docker and rewrites this page. `make test` runs all
groups except 9, 12 and 13.

Measured with wsgate {wsgate}, wsproto {wsproto}, h11 {h11} and CPython {python}; the server runs
the echo app of the tests.

{table}
"""


def main() -> int:
    """Parse the arguments, run the suite, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", nargs="+", default=["*"])
    parser.add_argument("--exclude", nargs="*", default=[])
    parser.add_argument("--write", type=Path, help="write the table to this file")
    arguments = parser.parse_args()
    if not is_available():
        print(
            "The suite is not available: start Docker, or set AUTOBAHN to the path of its script."
        )
        return 1
    is_all = arguments.cases == ["*"] and not arguments.exclude
    results = asyncio.run(run_all() if is_all else run(arguments.cases, arguments.exclude))
    print(table(results))
    failed = failures(results)
    for case, verdict in failed.items():
        print(f"{case}: {verdict}")
    if arguments.write:
        versions = {name: importlib.metadata.version(name) for name in ("wsgate", "wsproto", "h11")}
        python = sys.version.split()[0]
        page = PAGE.format(table=table(results), python=python, **versions)
        arguments.write.write_text(page)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
