"""Runs one coverage-guided fuzz target: python -m fuzz.target NAME [OPTIONS].

NAME is one of those in TARGETS. OPTIONS are those of libFuzzer, for example -max_total_time=60.
"""

import sys

import atheris

with atheris.instrument_imports(include=["wsgate", "h11", "wsproto"]):
    from fuzz import checks, proxy_checks

TARGETS = {
    "http": checks.check_http,
    "codec": checks.check_codec,
    "session": checks.check_session,
    "proxy_header": proxy_checks.check_proxy_header,
    "forwarded": proxy_checks.check_forwarded,
}


def main() -> None:
    """Run the target that the first argument names, until libFuzzer stops it."""
    check = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
