"""Write docs/reliability.md from what the abuse suite has measured.

    python -m conformance.reliability RESULTS.jsonl PAGE.md

The results are what `pytest tests/abuse` leaves where WSGATE_ABUSE_RESULTS points to: one JSON
object a line, with test, abuse, bound and measured.
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
}
PAGE = """# What was tried on it

`make test` runs the abuse suite, `tests/abuse/`: servers as users start them, and clients that do
what no client should. Behind each test a fresh client has to have its echo within a second, tasks,
file descriptors and connections have to be back where they were, and the log may hold no
traceback. Below is what was measured, with the bound that the test asserts; where two values stand,
the first is asyncio's loop and the second uvloop's. Deadlines are swept four times a second, and a
Ping's is counted from when it is seen to have left, up to a second later. `make reliability` makes
this page.

{tables}
## Answers

What has nothing to measure has an answer to be right. Each of these is a test.

| Abuse | Answer |
| --- | --- |
| Key missing, twice, short, not base64 | 400 |
| Version missing, 8, twice | 426, with `Sec-WebSocket-Version: 13` |
| POST; a body; Transfer-Encoding | 400, never upgraded |
| HTTP/1.0 with Upgrade | served as HTTP |
| No Host, two, an invalid one | 400 |
| A byte above 0x7f in Host, Connection, Upgrade, Sec-WebSocket-* | 400; in other fields it is legal |
| Malformed Sec-WebSocket-Extensions; an empty Sec-WebSocket-Protocol | 400 |
| Extension parameters that do not fit | the offer is declined, the handshake goes on |
| 101 headers; 64 KiB and a byte of head | 431 |
| A target over 8 KiB | 414 |
| Both lengths; a chunk line or trailer that is malformed, or a trailer that would frame the message | 400, and the connection closes |
| Unmasked, reserved bits, reserved opcodes, long or fragmented control frames, stray continuation, interleaved data, lengths that are not minimal, bit 63, bad close codes, one-byte closes | 1002 |
| Invalid UTF-8 split at every byte, at its first bad byte; bad deflate data; bad UTF-8 in a reason | 1007 |
| One byte over the limit: declared, in fragments, inflated | 1009 before it is kept; the limit itself passes |
| Slow consumer | 1013, then aborted |
| No sign of life behind a Ping | 1011 |
| Too many messages a second | 1008 |
| App raises; returns; before it accepts | 1011; 1000; 500 |
| SIGTERM | 1012 |

## Worst things found on the way

1. A request pipelined behind a body could pass unjudged: h11 was given slices that reached into the
   next request, and parsed what it held back without our limits and checks. It is now never given a
   byte of the next request.
2. A chunk line with a few dozen quoted extensions took exponential time in our own pattern. It is
   possessive now: 8,000 extensions take a millisecond.
3. On asyncio's loop, a client that sent a Close, read ours and reset the connection left its app
   waiting for ever: closing our half raised, and what should have woken the app was skipped.
"""


def main() -> None:
    """Write the page."""
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
