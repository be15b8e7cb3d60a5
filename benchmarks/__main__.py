"""Measure wsgate and its peers side by side, and write the page and the pictures.

    python -m benchmarks [--loads echo64 connect ...] [--servers wsgate limit ...]
                         [--rounds 5] [--seconds 1.5] [--results FILE]
    python -m benchmarks --report

Every round starts each server afresh, one after the other, so that the machine's drift falls on all
alike. Results are kept in benchmarks/results.json, load by load: one may be measured anew and the
rest stays. With --servers only some would be: then they are printed, and kept only in --results.
"""

import argparse
import datetime as dt
import sys
import tempfile
from pathlib import Path

from benchmarks import machine, measure, report, results
from benchmarks.loads import LOADS, Load
from benchmarks.servers import SERVERS, UVICORN

FAILURES = 2  # in a row, and a server is not tried again on a load


def main() -> int:
    """Do what the arguments say."""
    arguments = _arguments()
    if not arguments.report:
        kept = arguments.results or (None if arguments.servers else results.FILE)
        _measure(arguments, kept)
        if kept != results.FILE:
            return 0
    report.write(results.load(results.FILE))
    print(f"written: {', '.join(report.written())}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=list(LOADS), metavar="LOAD")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, metavar="SERVER")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each run")
    parser.add_argument("--results", type=Path, help="keep them here instead")
    parser.add_argument(
        "--programs",
        type=Path,
        default=Path(sys.executable).parent,
        help="the folder of the servers' programs; default: where this Python lies",
    )
    parser.add_argument("--report", action="store_true", help="only write page and pictures anew")
    return parser.parse_args()


def _measure(arguments: argparse.Namespace, kept: Path | None) -> None:
    everything = results.load(kept) if kept else {}
    with tempfile.TemporaryDirectory() as folder:
        generator = measure.compiled(Path(folder))
        bench = measure.Bench(arguments.programs.absolute(), generator, arguments.seconds)
        about = machine.about(bench.programs)
        for name in arguments.loads:
            load = LOADS[name]
            servers = _servers(load, arguments.servers, everything)
            rounds = min(arguments.rounds, load.most_rounds or arguments.rounds)
            record: results.Record = about | {
                "date": dt.datetime.now(dt.UTC).date().isoformat(),
                "seconds": load.seconds or arguments.seconds,
                "servers": {server: [] for server in servers},
            }
            for number in range(rounds):
                for server, entries in record["servers"].items():
                    entries.append(_once(bench, server, load, entries))
                    print(f"{name} {number + 1}/{rounds} {server}: {entries[-1]}", flush=True)
            print(report.lines_of(name, record), flush=True)
            everything[name] = record
            if kept:
                results.save(kept, everything)


def _servers(load: Load, wanted: list[str] | None, everything: results.Results) -> list[str]:
    if wanted:
        return [name for name in (*load.servers, *load.others) if name in wanted]
    servers = list(load.servers)
    if load.like in everything and (best := results.best(everything, load.like, UVICORN)):
        servers = [name for name in servers if name not in UVICORN or name == best]
    return servers


def _once(
    bench: measure.Bench, server: str, load: Load, before: list[measure.Entry]
) -> measure.Entry:
    if len(before) >= FAILURES and all("failed" in entry for entry in before[-FAILURES:]):
        return before[-1]
    try:
        return measure.once(bench, SERVERS[server], load)
    except measure.Failed as failure:
        return {"failed": str(failure)}


if __name__ == "__main__":
    sys.exit(main())
