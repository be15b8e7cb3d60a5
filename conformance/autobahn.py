"""Run the Autobahn Testsuite against wsgate's echo app, and write its results as a table.

    python -m conformance.autobahn [--cases '1.*' ...] [--exclude '9.*' ...] [--write PAGE.md]

The suite is Python 2, so it runs apart: by a script that AUTOBAHN names (it takes the URL, --cases,
--exclude and --keep FOLDER), else by ../shared/tools/autobahn.py where that lies beside the
project, else by docker, from the image crossbario/autobahn-testsuite. Exit status 1 when any case
is neither OK nor INFORMATIONAL.
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
SHORT = ("9.*", "12.*", "13.*")  # what the test run leaves out: performance and compression
FINE = ("OK", "INFORMATIONAL")
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


def script() -> Path | None:
    """Return the script that runs the suite, if there is one."""
    for place in (os.environ.get("AUTOBAHN"), ROOT.parent / "shared/tools/autobahn.py"):
        if place and Path(place).exists():
            return Path(place)
    return None


def is_available() -> bool:
    """Tell whether the suite can be run here."""
    return script() is not None or _docker_runs()


def _docker_runs() -> bool:
    docker = shutil.which("docker")
    return (
        bool(docker)
        and not subprocess.run(  # noqa: S603  # no input of anyone's
            [docker or "", "info"], capture_output=True, check=False
        ).returncode
    )


def command(url: str, folder: Path, cases: list[str], exclude: list[str]) -> list[str]:
    """Return the command that runs the suite and leaves its reports in a folder."""
    if (tool := script()) is not None:
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
    """Run cases against a live echo server; options are the server's. Return the suite's index."""
    folder = Path(tempfile.mkdtemp(prefix="autobahn-"))
    try:
        async with wsgate.testing.serve(app, lifespan="off", **options) as server:
            process = await asyncio.create_subprocess_exec(
                *command(server.ws_url + "/", folder, cases, exclude),
                stdout=asyncio.subprocess.DEVNULL,
            )
            await process.wait()
        index: dict[str, Results] = json.loads((folder / "index.json").read_text())
        return index["server"]
    finally:
        shutil.rmtree(folder)


async def run_all(**options: Any) -> Results:
    """Run every case, in two halves at a time: the suite itself is what takes the time."""
    long = ["13.*"]
    halves = await asyncio.gather(run(["*"], long, **options), run(long, [], **options))
    return halves[0] | halves[1]


def shortfalls(results: Results) -> dict[str, str]:
    """Return the cases that are not as they should be, with what is wrong."""
    short = {}
    for case, result in results.items():
        judged = (result["behavior"], result["behaviorClose"])
        if not set(judged) <= set(FINE):
            short[case] = f"{judged[0]}, closing {judged[1]}, code {result['remoteCloseCode']}"
    return short


def table(results: Results) -> str:
    """Return the results as Markdown, a line a group."""
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

wsgate {wsgate} with wsproto {wsproto} and h11 {h11}, CPython {python}, the echo app of the tests.
Made by `make autobahn`; `make test` runs all groups but 9, 12 and 13, with the same demands: each
case OK or INFORMATIONAL, in its messages and in its closing.

{table}
"""


def main() -> int:
    """Run the suite as the arguments say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", nargs="+", default=["*"])
    parser.add_argument("--exclude", nargs="*", default=[])
    parser.add_argument("--write", type=Path, help="write the table to this page")
    arguments = parser.parse_args()
    if not is_available():
        print("the suite is not here: name its script in AUTOBAHN, or have docker run")
        return 1
    is_all = arguments.cases == ["*"] and not arguments.exclude
    results = asyncio.run(run_all() if is_all else run(arguments.cases, arguments.exclude))
    print(table(results))
    short = shortfalls(results)
    for case, what in short.items():
        print(f"{case}: {what}")
    if arguments.write:
        versions = {name: importlib.metadata.version(name) for name in ("wsgate", "wsproto", "h11")}
        python = sys.version.split()[0]
        page = PAGE.format(table=table(results), python=python, **versions)
        arguments.write.write_text(page)
    return bool(short)


if __name__ == "__main__":
    sys.exit(main())
