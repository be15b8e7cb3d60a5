"""The compiled part, which is optional; all else of the project stands in pyproject.toml."""

from setuptools import Extension, setup

# Without a compiler, or Python's headers, the install goes on: frames.py and lane.py do the same.
COMPILED = {
    "wsgate.protocol._frames": "wsgate/protocol/_frames.c",
    "wsgate.server._lane": "wsgate/server/_lane.c",
}

setup(ext_modules=[Extension(name, [file], optional=True) for name, file in COMPILED.items()])
