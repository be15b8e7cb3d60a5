"""The limit of one message to many: compiles fan_limit.c and becomes that program.

python -m benchmarks.fan_limit PORT
"""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("fan_limit.c")


def main() -> None:
    """Compile the program into a temporary folder, and run it."""
    program = Path(tempfile.mkdtemp(prefix="fan-limit-")) / "fan_limit"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    subprocess.run([*compiler, "-O2", "-o", str(program), str(SOURCE)], check=True)
    os.execv(program, [str(program), *sys.argv[1:]])


if __name__ == "__main__":
    main()
