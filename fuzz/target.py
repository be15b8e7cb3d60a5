"""Runs one coverage-guided fuzz target: python -m fuzz.target http|codec|session [OPTIONS].

OPTIONS are those of libFuzzer, for example -max_total_time=60.
"""

import sys

import atheris

with atheris.instrument_imports(include=["wsgate", "h11", "wsproto"]):
    from fuzz import checks

TARGETS = {
    "http": checks.check_http,
    "codec": checks.check_codec,
    "session": checks.check_session,
}


def main() -> None:
    """Run the target that the first argument names, until libFuzzer stops it."""
    check = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
