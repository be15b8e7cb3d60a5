"""Makes the parts of the page about close codes from the table of causes."""

import textwrap

from wsgate.observe.causes import CAUSES, Cause, Explanation

WIDTH = 100  # columns of the page's source
_HEAD = """\
| Cause | Ended by | Close code | What happened |
| --- | --- | --- | --- |
"""


def causes_table() -> str:
    """Return a table of all causes."""
    return _HEAD + "\n".join(_row(cause, CAUSES[cause]) for cause in Cause)


def _row(cause: Cause, explained: Explanation) -> str:
    link = f"[`{cause.value}`](#{cause.value})"
    return f"| {link} | {explained.initiator} | {_codes(explained)} | {explained.sentence} |"


def _codes(explained: Explanation) -> str:
    """Return the close codes as text: `1006, 1011 or 1013`."""
    *others, last = map(str, explained.codes)
    text = f"{', '.join(others)} or {last}" if others else last
    who = explained.chosen_by
    return f"the {who}'s, {text} if none was named" if who else text


def advice() -> str:
    """Return a section for each cause."""
    return "\n\n".join(_section(cause, CAUSES[cause]) for cause in Cause)


def _section(cause: Cause, explained: Explanation) -> str:
    sentence = explained.sentence[0].upper() + explained.sentence[1:]
    text = textwrap.fill(explained.advice, WIDTH, break_on_hyphens=False)
    return f"### {cause.value}\n\n{sentence}.\n\n{text}"
