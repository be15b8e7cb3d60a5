"""The environment of a measurement: the machine, and the versions of Python and all packages."""

import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import servers

# Run by the Python of the servers, which may differ from the one that runs this module.
_LIST_VERSIONS = """
import importlib.metadata, importlib.util, json, platform, sys
versions = {"CPython": platform.python_version()}
for name in sys.argv[1:]:
    try:
        versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
if "wsgate" in versions:
    has_c = importlib.util.find_spec("wsgate.ws.frames._messages") is not None
    versions["wsgate"] += f" (its frames in {'C' if has_c else 'Python'})"
print(json.dumps(versions))
"""


def describe(programs: Path) -> dict[str, Any]:
    """Return the machine and the versions, in the form that is stored with the results."""
    return {"machine": this_machine(), "versions": versions(programs)}


def versions(programs: Path) -> dict[str, str]:
    """Return the versions of Python and of all packages of the servers."""
    command = [str(programs / "python"), "-c", _LIST_VERSIONS, *servers.all_packages()]
    found: dict[str, str] = json.loads(subprocess.check_output(command))
    return found


def this_machine() -> dict[str, str]:
    """Return the processor, the number of cores, the memory and the kernel."""
    model = re.search(r"model name\s*:\s*(.+)", _read("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s*(\d+)", _read("/proc/meminfo"))
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "unknown",
        "kernel": f"{platform.system()} {platform.release()}",
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
