"""What was measured on what: the machine, and the versions of everything."""

import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import servers

# Asked of the Python that runs the servers, which need not be this one.
_ASK = """
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


def about(programs: Path) -> dict[str, Any]:
    """Return the machine and the versions, as results keep them."""
    return {"machine": this_machine(), "versions": versions(programs)}


def versions(programs: Path) -> dict[str, str]:
    """Return the version of Python and of every package that the servers are made of."""
    command = [str(programs / "python"), "-c", _ASK, *servers.packages()]
    found: dict[str, str] = json.loads(subprocess.check_output(command))
    return found


def this_machine() -> dict[str, str]:
    """Return what matters of the machine."""
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
