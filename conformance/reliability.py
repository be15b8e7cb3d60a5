"""Write docs/reliability.md from the measurements of the abuse suite.

    python -m conformance.reliability RESULTS.jsonl PAGE.md

`pytest tests/abuse` appends its measurements to the file that WSGATE_ABUSE_RESULTS names. Each line
is a JSON object with the keys test, abuse, bound and measured.
"""

import json
import sys
from pathlib import Path

GROUPS = {
    "test_handshakes.py": "Handshakes",
    "test_frames.py": "Frames",
    "test_liveness.py": "Liveness",
    "test_floods.py": "Floods",
    "test_app.py": "The app",
    "test_process.py": "The process",
    "test_policies.py": "Policies",
    "test_tls.py": "TLS",
    "test_static.py": "Static files",
    "test_proxies.py": "PROXY headers",
    "test_topics.py": "Topics",
}
PAGE = """# The abuse suite

What wsgate does when clients, apps and operators misbehave, with the bound that each test asserts
and the value that was measured.

`make test` runs the suite, `tests/abuse/`. It starts real server processes and attacks them with
clients that break the protocol or vanish. After each test a new client must receive its echo within
one second, the numbers of tasks, file descriptors and connections must be back at their starting
values, and the log must contain no traceback.

Where a row has two values, the first is for asyncio's event loop and the second for uvloop. The
server checks deadlines four times a second. A Ping's timeout starts when the server has seen that
the Ping left, which can be up to a second later. `make reliability` repeats the measurements and
rewrites this page.

{tables}
## Responses

These tests measure nothing. They check that the server responds as specified.

| Abuse | Response |
| --- | --- |
| Sec-WebSocket-Key missing, sent twice, too short, or not base64 | 400 |
| Sec-WebSocket-Version missing, 8, or sent twice | 426, with `Sec-WebSocket-Version: 13` |
| A handshake with POST, with a body, or with Transfer-Encoding | 400; the connection is never upgraded |
| HTTP/1.0 with Upgrade | served as plain HTTP |
| No Host header, two of them, or an invalid one | 400 |
| A byte above 0x7F in Host, Connection, Upgrade or Sec-WebSocket-* | 400; in other fields it is legal |
| A malformed Sec-WebSocket-Extensions; an empty Sec-WebSocket-Protocol | 400 |
| Extension parameters that the server cannot use | the extension is declined; the handshake succeeds |
| 101 header fields; a request head of 64 KiB plus one byte | 431 |
| A request target over 8 KiB | 414 |
| Content-Length together with Transfer-Encoding; a malformed chunk line or trailer; a framing field in a trailer | 400, and the connection is closed |
| Unmasked frames, reserved bits, reserved opcodes, long or fragmented control frames, a continuation frame without a message, interleaved messages, lengths that are not minimal, a length with bit 63 set, invalid close codes, a Close of one byte | 1002 |
| Invalid UTF-8, split at every byte; invalid deflate data; invalid UTF-8 in a close reason | 1007, at the first invalid byte |
| One byte over the size limit: declared, in fragments, or after inflating | 1009, before the byte is stored; a message of exactly the limit passes |
| A slow consumer | 1013, then TCP is aborted |
| No data after a Ping | 1011 |
| Too many messages a second | 1008 |
| The app raises; returns; fails before it accepts | 1011; 1000; 500 |
| SIGTERM | 1012 |
| Garbage in place of a TLS handshake: random bytes, wrong record lengths, 10,000 empty records, alerts, ChangeCipherSpec, a ClientHello of 16 MiB | closed; the log has one line a second |
| HTTP on a TLS port | 400, without TLS |
| TLS clients that close their half, with close_notify or without, and do not read | 1006; the connection is closed |
| A file that becomes shorter while it is sent | the connection is aborted; the log has one line a second |
| A file that is removed or replaced while it is sent | the old one is sent to its end |
| A thousand overlapping ranges of a file | the whole file once, with 200 |
| 100 connections at once with an invalid PROXY header | closed without an answer; the log has one line a second |

## The worst faults found

1. A request pipelined after a body could skip all checks. h11 was given slices that reached into the
   next request, and parsed the bytes that it had kept without wsgate's limits. h11 now never
   receives a byte of the next request.
2. A chunk line with a few dozen quoted extensions took exponential time in one of wsgate's regular
   expressions. The expression is possessive now: 8,000 extensions take one millisecond.
3. On asyncio's event loop, a client that sent a Close, read the server's Close and then reset the
   connection left its app waiting forever: closing the sending half raised an exception, and the code that
   wakes the app was skipped.
"""


def main() -> None:
    """Read the results and write the page."""
    results, page = map(Path, sys.argv[1:3])
    rows: dict[str, dict[tuple[str, str], list[str]]] = {name: {} for name in GROUPS}
    for line in results.read_text().splitlines():
        row = json.loads(line)
        name = row["test"].split("::")[0]
        rows[name].setdefault((row["abuse"], row["bound"]), []).append(row["measured"])
    tables = [_table(GROUPS[name], found) for name, found in rows.items() if found]
    page.write_text(PAGE.format(tables="\n".join(tables)))


def _table(title: str, rows: dict[tuple[str, str], list[str]]) -> str:
    lines = [f"## {title}", "", "| Abuse | Bound | Measured |", "| --- | --- | --- |"]
    for (abuse, bound), values in rows.items():
        measured = " / ".join(dict.fromkeys(values))
        lines.append(f"| {abuse} | {bound} | {measured} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
