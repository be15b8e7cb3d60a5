"""Write what is made from the code: settings, close codes, metrics, state diagrams, a dashboard.

Run it with `make docs`. With --check it writes nothing and fails if a page is stale.
"""

import sys
import textwrap
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from docs import close_codes, grafana_dashboard, metrics_table
from docs.uvicorn_options import DIFFERENCES
from wsgate import cli
from wsgate.answers import ANSWERS
from wsgate.asgi import lifespan, websocket as conversation
from wsgate.config import KIB, MIB, PROGRAM_SETTINGS, SETTINGS
from wsgate.settings import Kind, Setting
from wsgate.supervision import SUPERVISION_SETTINGS
from wsgate.ws import session

DOCS = Path(__file__).parent
COMMAND = "make docs"
WIDTH = 100  # columns of a page's source

# -- the settings ----------------------------------------------------------------------------------


def _with_value() -> str:
    """Return the sentence about the switches that uvicorn gives a value."""
    named = [_code(f"{one.option} true") for one in SETTINGS if one.takes_value]
    options = " and ".join(named)
    return f"The options\n  {options} take the value\n  on the command line, too, as in uvicorn."


def _code(text: str) -> str:
    return f"`{text}`"


_INTRODUCTION = f"""\
# Settings

<!-- Made from wsgate/config.py by `{COMMAND}`: edit the declarations there. -->

Each setting has four names: an option of the command line, an environment variable, a key of the
configuration file, and a keyword of `wsgate.run()`, `wsgate.serve()` and `wsgate.Config`. The key
is the option without the hyphens in front. An option overrides its variable, a variable overrides
the file, and the file overrides the default; an empty variable counts as not set.
[Configuration](../configuration.md) explains the sources. `wsgate --help` lists the options with
the same texts, and `wsgate --show-config` the values with their sources. Where uvicorn has an
option for the same thing, the name is uvicorn's.

- A switch such as `--access-log` has the form `--no-access-log` as well. Its variable and its key
  take `true` or `false`: `WSGATE_ACCESS_LOG=false` is `--no-access-log`. {_with_value()}
- A list is written `--ws-origins same,none` or, where the option is given once for each member,
  `--host 127.0.0.1 --host ::1`. The variable has commas in both cases: `WSGATE_HOST=127.0.0.1,::1`
  (headers: one on each line). The file and Python have a list, `host = ["127.0.0.1", "::1"]`, or a
  string for one member; of options that have commas on the command line, also a string with commas.
- A value that cannot be used is reported in one line that names the option, the variable, or the
  file and line. The exit status is 1, or 2 if the text of an option or a variable cannot be parsed.
  In Python the error is a `wsgate.ConfigError`, also for a keyword that is no setting.
- `--version` prints the versions, `--help` the options, `--show-config` the settings; they have no
  variable, no key and no keyword. `--config` has the variable `WSGATE_CONFIG`.
- Those under Workers and Reload are keywords of `wsgate.run()` only
  ([workers](../deploy/workers.md)).
- `ssl_context_factory` is only a keyword: [a context of your own](../tls.md#a-context-of-your-own).

## The app

"""


def settings_page() -> str:
    """Return the reference of all settings."""
    parts = [_INTRODUCTION, *map(_program_entry, PROGRAM_SETTINGS)]
    everything = (*SETTINGS, *SUPERVISION_SETTINGS)
    for group, settings in groupby(everything, lambda setting: setting.group):
        parts += [f"## {group}\n\n", *map(_setting_entry, settings)]
    return "".join(parts).rstrip() + "\n"


def _program_entry(setting: Setting) -> str:
    """Return the entry of a setting that is an argument of `run`."""
    if setting.name != "app":
        return _setting_entry(setting, f"{_code(setting.name)} of `wsgate.run()`")
    return _setting_entry(setting, "the first argument of `wsgate.run()`", title="`APP`")


def _setting_entry(setting: Setting, keyword: str = "", title: str = "") -> str:
    title = title or _code(setting.option)
    if setting.is_switch:
        title += f", `--no-{setting.option[2:]}`"
    variable, *more_variables = setting.variables
    aliases = [*setting.options[1:], *more_variables, *setting.aliases]
    facts = [
        ("Variable", _code(variable) + _VARIABLE_FORMS.get(setting.kind, "")),
        ("Keyword", keyword or _code(setting.name)),
        ("Value", value_text(setting)),
        ("Default", default_text(setting)),
        ("Also accepted", ", ".join(map(_code, aliases))),
    ]
    return _entry(title, setting.help, facts)


_VARIABLE_FORMS = {Kind.PAIRS: ", with one header on each line"}


def _entry(title: str, text: str, facts: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"- {name}: {fact}\n" for name, fact in facts if fact)
    return f"### {title}\n\n{textwrap.fill(text, WIDTH, break_on_hyphens=False)}\n\n{lines}\n"


def value_text(setting: Setting) -> str:
    """Return what values a setting takes: type, unit and bounds."""
    if setting.choices:
        return "one of " + ", ".join(map(_code, setting.choices))
    number = {Kind.WHOLE_NUMBER: "whole number", Kind.NUMBER: "number"}.get(setting.kind)
    kind = f"{number} of {setting.unit}" if number and setting.unit else _KINDS[setting.kind]
    if setting.repeated:
        kind = _REPEATED
    return ", ".join([kind, *(bound.wanted for bound in setting.bounds)])


_KINDS = {
    Kind.WHOLE_NUMBER: "whole number",
    Kind.PERMISSIONS: "file permissions (in Python a number such as `0o660`)",
    Kind.NUMBER: "number",
    Kind.SWITCH: "`true` or `false`",
    Kind.TEXT: "string",
    Kind.PATH: "path (in Python a string or a path object)",
    Kind.TEXTS: "strings with commas between them (in the file and in Python also a list)",
    Kind.PAIRS: "`NAME:VALUE` (in the file a list of these, in Python of `(name, value)` pairs)",
}


_REPEATED = (
    "string; several of them by giving the option several times (in the variable with commas "
    "between them, in the file and in Python as a list)"
)


def default_text(setting: Setting) -> str:
    """Return a setting's default for a reader."""
    if setting.default_text:
        return setting.default_text
    default = setting.default
    if default in (None, (), ""):
        return "none"
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, str):
        return _code(default)
    return f"{_number(default)}{_size(default) if setting.unit == 'bytes' else ''}"


def _number(value: float) -> str:
    # A port is a name, not a quantity: 8000.
    return f"{value:,.15g}" if abs(value) >= 10 * 1000 else f"{value:g}"


def _size(value: int) -> str:
    for size, unit in ((MIB, "MiB"), (KIB, "KiB")):
        if value >= size and value % size == 0:
            return f" ({value // size} {unit})"
    return ""


# -- the options of uvicorn -----------------------------------------------------------------------


def uvicorn_table() -> str:
    """Return the table of uvicorn's options: the same, different, or answered."""
    answers = {one.option: one for one in ANSWERS if one.check is not None}
    known = {name for parameter in cli.main.params for name in parameter.opts}
    rows = [
        f"| `{option}` | {_verdict(option, difference, answers, known)} |"
        for option, difference in DIFFERENCES.items()
    ]
    return "\n".join(["| uvicorn | wsgate |", "| --- | --- |", *rows])


def _verdict(
    option: str, difference: str, answers: Mapping[str, Setting], known: Container[str]
) -> str:
    if option in answers:
        return f"answered: {answers[option].help}"
    if option not in known:
        return "not yet"
    return f"differs: {difference}" if difference else "same"


# -- the states ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Diagram:
    """One state machine.

    table: the next state for a state and a cause. moves: those that its owner makes without the
    table, with the reason. initial: the state it starts in.
    """

    table: Mapping[tuple[Any, Any], Enum]
    initial: Enum
    moves: Mapping[tuple[Any, Any], Enum]


# The tables of the code, by the name of the region in architecture.md that shows each.
DIAGRAMS = {
    "the session": Diagram(session.TRANSITIONS, session.State.OPEN, {}),
    "the app's WebSocket conversation": Diagram(
        conversation.TRANSITIONS, conversation.State.CONNECTING, {}
    ),
    "the lifespan": Diagram(
        lifespan._NEXT,
        lifespan.State.STARTING,
        {(lifespan.State.RUNNING, "the server shuts down"): lifespan.State.STOPPING},
    ),
}


def diagram(machine: Diagram) -> str:
    """Return a state machine as a Mermaid diagram."""
    arrows = {**machine.table, **machine.moves}
    lines = [f"    [*] --> {machine.initial.name}"]
    for (state, cause), following in arrows.items():
        label = cause.value if isinstance(cause, Enum) else cause
        lines.append(f"    {state.name} --> {following.name}: {label}")
    left = {state for state, _ in arrows}
    final = dict.fromkeys(state for state in arrows.values() if state not in left)
    lines += [f"    {state.name} --> [*]" for state in final]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


# -- the pages -------------------------------------------------------------------------------------


def fill_region(page: str, name: str, content: str) -> str:
    """Return a page with a marked region's content replaced. Raises ClickException without one."""
    mark, end = f"<!-- generated: {name} -->\n", "\n<!-- end -->"
    before, found, rest = page.partition(mark)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise click.ClickException(f"there is no region {mark.strip()} ... {end.strip()}")
    return f"{before}{mark}{content}{end}{after}"


def architecture_page() -> str:
    """Return docs/architecture.md with its diagrams made anew."""
    page = (DOCS / "architecture.md").read_text()
    for name, machine in DIAGRAMS.items():
        page = fill_region(page, f"states of {name}", diagram(machine))
    return page


def migration_page() -> str:
    """Return docs/migrate-from-uvicorn.md with its table made anew."""
    page = (DOCS / "migrate-from-uvicorn.md").read_text()
    return fill_region(page, "options of uvicorn", uvicorn_table())


def close_codes_page() -> str:
    """Return docs/reference/close-codes.md with its tables made anew."""
    page = (DOCS / "reference" / "close-codes.md").read_text()
    page = fill_region(page, "the causes", close_codes.causes_table())
    return fill_region(page, "what to do about each cause", close_codes.advice())


def metrics_page() -> str:
    """Return docs/reference/metrics.md with its tables made anew."""
    page = (DOCS / "reference" / "metrics.md").read_text()
    page = fill_region(page, "the metrics", metrics_table.metrics_tables())
    page = fill_region(page, "the metrics of processes", metrics_table.process_table())
    page = fill_region(page, "the metrics by worker", metrics_table.by_worker_list())
    return fill_region(page, "the buckets", metrics_table.bucket_table())


PAGES: dict[str, Callable[[], str]] = {
    "reference/settings.md": settings_page,
    "reference/close-codes.md": close_codes_page,
    "reference/metrics.md": metrics_page,
    "deploy/examples/monitoring/grafana-dashboard.json": grafana_dashboard.dashboard_json,
    "migrate-from-uvicorn.md": migration_page,
    "architecture.md": architecture_page,
}


def stale_pages() -> dict[Path, str]:
    """Return the pages that differ from what the code makes, with what they should be."""
    pages = {DOCS / name: make() for name, make in PAGES.items()}
    return {
        path: text for path, text in pages.items() if not path.exists() or path.read_text() != text
    }


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if a page is stale.")
def main(check: bool) -> None:
    """Write the pages that are made from the code."""
    stale = stale_pages()
    for path, text in stale.items():
        name = path.relative_to(DOCS.parent)
        if check:
            click.echo(f"{name} is stale: run `{COMMAND}` and commit it", err=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            click.echo(f"{name} is written")
    sys.exit(bool(check and stale))


if __name__ == "__main__":
    main()
