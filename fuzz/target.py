"""A coverage-guided fuzz target: python -m fuzz.target http|codec|session [libFuzzer's options]."""

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
    """Run the target that the first argument names."""
    check = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
