"""The compiled part, which is optional; all else of the project stands in pyproject.toml."""

from setuptools import Extension, setup

# Without a compiler, or Python's headers, the install goes on: each has a plain twin.
COMPILED = {
    "wsgate.ws.frames._messages": "wsgate/ws/frames/_messages.c",
    "wsgate.server._fast_path": "wsgate/server/_fast_path.c",
}

setup(ext_modules=[Extension(name, [file], optional=True) for name, file in COMPILED.items()])
