"""The optional C extensions; everything else about the project is in pyproject.toml."""

from setuptools import Extension, setup

# The installation succeeds without a compiler too: each extension has a Python twin.
COMPILED = {
    "wsgate.ws.frames._messages": "wsgate/ws/frames/_messages.c",
    "wsgate.server._fast_path": "wsgate/server/_fast_path.c",
}

# A change of a header builds what includes it again.
HEADERS = ["wsgate/server/_message_meter.h"]

setup(
    ext_modules=[
        Extension(name, [file], depends=HEADERS, optional=True) for name, file in COMPILED.items()
    ]
)
