"""The compiled part, which is optional; all else of the project stands in pyproject.toml."""

from setuptools import Extension, setup

# Without a compiler, or Python's headers, the install goes on, and frames.py does the same.
FRAMES = Extension("wsgate.protocol._frames", ["wsgate/protocol/_frames.c"], optional=True)

setup(ext_modules=[FRAMES])
