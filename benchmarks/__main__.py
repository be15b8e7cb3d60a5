"""Measure wsgate and other servers side by side; write the results page and the pictures.

    python -m benchmarks [--loads echo64 connect ...] [--servers wsgate limit ...]
                         [--rounds 5] [--seconds 1.5] [--results FILE]
    python -m benchmarks --report

Every round starts each server again, one after the other, so that changes of the machine's speed
affect all servers alike. The results of each load are stored in benchmarks/results.json: --loads
measures some loads again and keeps the others. With --servers, a load would be incomplete, so its
results are only printed, or stored in the file that --results names.
"""

import argparse
import datetime as dt
import sys
import tempfile
from pathlib import Path

from benchmarks import machine, measure, report, results
from benchmarks.loads import LOADS, Load
from benchmarks.servers import SERVERS, UVICORN

MAX_FAILURES = 2  # in a row; after that a server is not started again for this load


def main() -> int:
    """Parse the arguments, measure, write the page, and return the exit status."""
    arguments = _parse_arguments()
    if not arguments.report:
        file = arguments.results or (None if arguments.servers else results.FILE)
        _measure_loads(arguments, file)
        if file != results.FILE:
            return 0
    report.write(results.load(results.FILE))
    print(f"written: {', '.join(report.written_files())}")
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=list(LOADS), metavar="LOAD")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, metavar="SERVER")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of each run")
    parser.add_argument("--results", type=Path, help="store the results in this file")
    parser.add_argument(
        "--programs",
        type=Path,
        default=Path(sys.executable).parent,
        help="folder of the servers' programs; by default the folder of this Python",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="measure nothing, only rewrite the page and the pictures",
    )
    return parser.parse_args()


def _measure_loads(arguments: argparse.Namespace, file: Path | None) -> None:
    """Measure the loads and print them; store each in the file as soon as it is complete."""
    records = results.load(file) if file else {}
    with tempfile.TemporaryDirectory() as folder:
        generator = measure.compile_generator(Path(folder))
        certificate = measure.make_certificate(Path(folder))
        bench = measure.Bench(
            arguments.programs.absolute(), generator, certificate, arguments.seconds
        )
        environment = machine.describe(bench.programs)
        for name in arguments.loads:
            load = LOADS[name]
            servers = _servers(load, arguments.servers, records)
            rounds = min(arguments.rounds, load.max_rounds or arguments.rounds)
            record: results.Record = environment | {
                "date": dt.datetime.now(dt.UTC).date().isoformat(),
                "seconds": load.seconds or arguments.seconds,
                "servers": {server: [] for server in servers},
            }
            for number in range(rounds):
                for server, entries in record["servers"].items():
                    entries.append(_measure_once(bench, server, load, entries))
                    print(f"{name} {number + 1}/{rounds} {server}: {entries[-1]}", flush=True)
            print(report.load_table(name, record), flush=True)
            records[name] = record
            if file:
                results.save(file, records)


def _servers(load: Load, chosen: list[str] | None, records: results.Results) -> list[str]:
    """Return the servers to measure: the chosen ones, or those that the load names."""
    if chosen:
        return [name for name in (*load.servers, *load.others) if name in chosen]
    servers = list(load.servers)
    if load.like in records and (best := results.best(records, load.like, UVICORN)):
        servers = [name for name in servers if name not in UVICORN or name == best]
    return servers


def _measure_once(
    bench: measure.Bench, server: str, load: Load, before: list[measure.Entry]
) -> measure.Entry:
    """Return one round's entry. before: the server's entries of the earlier rounds."""
    if len(before) >= MAX_FAILURES and all("failed" in entry for entry in before[-MAX_FAILURES:]):
        return before[-1]
    try:
        return measure.measure(bench, SERVERS[server], load)
    except measure.Failed as failure:
        return {"failed": str(failure)}


if __name__ == "__main__":
    sys.exit(main())
