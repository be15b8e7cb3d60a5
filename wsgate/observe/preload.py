"""Imports the modules that Python itself imports only when it formats a traceback.

Without a free file descriptor that import fails, and then the traceback cannot be logged.
"""
# ruff: noqa: F401

import ast
import contextlib
import tokenize
import unicodedata

with contextlib.suppress(ImportError):  # new in Python 3.13
    import _suggestions  # type: ignore[import-not-found]
