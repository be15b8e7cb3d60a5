import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MODULES = ("traceback", "linecache")  # they format tracebacks


def late_imports(module: str) -> Iterator[str]:
    """Yield the modules that a module of the standard library imports within its functions."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    for function in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    yield from (alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    yield node.module


@pytest.mark.parametrize("module", MODULES)
def test_imports_for_a_traceback_are_preloaded(module: str) -> None:
    names = sorted(set(late_imports(module)))
    available = [name for name in names if importlib.util.find_spec(name) is not None]
    script = "import sys, wsgate.process.server; print(*(set(sys.argv[1:]) - set(sys.modules)))"
    missing = subprocess.check_output([sys.executable, "-c", script, *available], text=True).split()
    assert missing == []
