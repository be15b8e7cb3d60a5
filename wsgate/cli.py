"""The command line: its options are made from the declarations of the settings."""

import platform
import signal
import sys
from typing import Any, ClassVar

import click

import wsgate
from wsgate import environment
from wsgate.config import APPLICATION, SETTINGS
from wsgate.errors import ConfigError
from wsgate.process.run import run
from wsgate.settings import Kind, Setting

INTERRUPTED = 128 + signal.SIGINT  # the exit status, by the convention of shells

_OTHER = "Other options"


class _HeaderType(click.ParamType):  # type: ignore[type-arg]  # not generic in older clicks
    """`Name:value`, as in uvicorn; an environment variable has one on each line."""

    name = "NAME:VALUE"
    envvar_list_splitter: ClassVar[str] = "\n"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, colon, content = str(value).partition(":")
        if not colon:
            self.fail(f"{value!r} is not of the form NAME:VALUE", param, ctx)
        return name.strip(), content.strip()


class _ListType(click.ParamType):  # type: ignore[type-arg]  # not generic in older clicks
    """Strings with commas between them."""

    name = "TEXT,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        del param, ctx
        if isinstance(value, tuple):
            return value
        return tuple(member.strip() for member in str(value).split(",") if member.strip())


class _RepeatedType(click.ParamType):  # type: ignore[type-arg]  # not generic in older clicks
    """One string; an environment variable has commas between them."""

    name = "TEXT"
    envvar_list_splitter: ClassVar[str] = ","

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        del param, ctx
        return str(value).strip()


class _OctalType(click.ParamType):  # type: ignore[type-arg]  # not generic in older clicks
    """File permissions as chmod takes them: `660`."""

    name = "OCTAL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return int(str(value), 8)
        except ValueError:
            self.fail(f"{value!r} is not an octal number such as 660", param, ctx)


_TYPES: dict[Kind, Any] = {
    Kind.WHOLE_NUMBER: int,
    Kind.PERMISSIONS: _OctalType(),
    Kind.NUMBER: float,
    Kind.SWITCH: bool,
    Kind.TEXT: str,
    Kind.PATH: str,
    Kind.TEXTS: _ListType(),
    Kind.PAIRS: _HeaderType(),
}


class _Command(click.Command):
    """A command whose help lists the options under the headings of their groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each group of options under its heading, those without a group last."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "group", _OTHER), []).append(record)
        for group, records in groups.items():
            with formatter.section(group):
                formatter.write_dl(records)


def _type(setting: Setting) -> Any:
    if setting.choices:
        return click.Choice(setting.choices)
    return _RepeatedType() if setting.repeated else _TYPES[setting.kind]


def _option(setting: Setting) -> environment.Option:
    """Return the option of a setting."""
    names = setting.options
    if setting.is_switch:
        names = tuple(f"{name}/--no-{name[2:]}" for name in names)
    has_default = setting.default not in (None, (), "")
    return environment.Option(
        [*names, setting.name],
        group=setting.group,
        type=_type(setting),
        is_flag=setting.is_switch,
        multiple=setting.repeated or setting.kind is Kind.PAIRS,
        default=setting.default,
        show_default=setting.default_text or has_default,
        metavar=setting.unit.upper() if setting.unit.isalpha() else None,
        help=setting.plain_help,
    )


def _print_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    click.echo(
        f"Running wsgate {wsgate.__version__} with {platform.python_implementation()} "
        f"{platform.python_version()} on {platform.system()}"
    )
    context.exit()


_PARAMETERS = [
    environment.Argument(["app"]),
    *map(_option, SETTINGS),
    environment.Option(
        ["--factory"],
        group=APPLICATION,
        is_flag=True,
        help="Call APP to get the app. An async factory is awaited.",
    ),
    environment.Option(
        ["--app-dir"],
        group=APPLICATION,
        default="",
        show_default="here",
        help="Folder that is searched first for modules.",
    ),
    click.Option(
        ["--version"],  # not in the environment: images use WSGATE_VERSION for their own version
        is_flag=True,
        callback=_print_version,
        expose_value=False,
        is_eager=True,
        help="Print the versions and exit.",
    ),
]


@click.command(cls=_Command, params=_PARAMETERS, context_settings={"max_content_width": 100})
def main(app: str, factory: bool, app_dir: str, **options: Any) -> None:
    """Serve the ASGI application APP, "module:attribute".

    An environment variable can set each option: WSGATE_WS_MAX_SIZE sets --ws-max-size.
    """
    try:
        run(app, factory=factory, app_dir=app_dir, **options)
    except ConfigError as error:
        click.echo(f"Error: {environment.message(error, click.get_current_context())}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:  # before the server has installed its signal handlers
        sys.exit(INTERRUPTED)
