"""Imports what Python's own modules import only when they format a traceback.

With no file descriptor left that import fails, and with it the traceback.
"""
# ruff: noqa: F401

import ast
import contextlib
import tokenize
import unicodedata

with contextlib.suppress(ImportError):  # new in Python 3.13
    import _suggestions  # type: ignore[import-not-found]
