"""The command line: its options are made from the declarations of the settings."""

import importlib
import os
import platform
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import click
from click.core import ParameterSource

import wsgate
from wsgate import config_file, env_file, environment, publish
from wsgate.answers import ANSWERS
from wsgate.config import PROGRAM_SETTINGS, SETTINGS, Config
from wsgate.ctl import command as ctl
from wsgate.errors import ConfigError
from wsgate.foreign_options import INSTEAD
from wsgate.printing import write_stdout
from wsgate.process.run import run
from wsgate.settings import Kind, Setting, parse_pair
from wsgate.show_config import config_text
from wsgate.supervision import SUPERVISION_SETTINGS, Supervision

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
        try:
            return parse_pair(str(value))
        except ConfigError as error:
            self.fail(str(error), param, ctx)


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


class _SwitchType(click.types.BoolParamType):
    """`true` or `false`, as click takes them; the error does not list all their spellings."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        try:
            return bool(super().convert(value, param, ctx))
        except click.BadParameter:
            self.fail(f"{value!r} is neither true nor false", param, ctx)


class _ChoiceType(click.Choice):  # type: ignore[type-arg]  # not generic in older clicks
    """One of a setting's choices, also as Python programs may pass it: a level in any case."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting.choices)
        self._setting = setting

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(self._setting.convert(value), param, ctx)
        except click.BadParameter as error:
            self.fail(error.message.rstrip(".") + self._setting.hint(value), param, ctx)


_TYPES: dict[Kind, Any] = {
    Kind.WHOLE_NUMBER: int,
    Kind.PERMISSIONS: _OctalType(),
    Kind.NUMBER: float,
    Kind.SWITCH: _SwitchType(),
    Kind.TEXT: str,
    Kind.PATH: str,
    Kind.TEXTS: _ListType(),
    Kind.PAIRS: _HeaderType(),
}


_OTHERS: dict[str, click.Command] = {"ctl": ctl.main, "publish": publish.main}


class _Command(click.Command):
    """A command with settings from several sources, whose help has the headings of their groups."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        """Run the command, or one of the others: no app has their names, which lack a colon."""
        words = sys.argv[1:] if args is None else args
        other = _OTHERS.get(words[0]) if words else None
        if other is None:
            return super().main(args, *more, **options)
        options["prog_name"] = f"wsgate {words[0]}"
        return other.main(words[1:], **options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the files that the command line or a variable names, then process all options."""
        try:
            given, *_ = self.make_parser(ctx).parse_args(args=list(args))
        except click.NoSuchOption as error:
            raise _with_answer(error, ctx) from None
        help_option = self.get_help_option(ctx)
        only_prints = {"version", help_option.name if help_option else "help"}
        if not (ctx.resilient_parsing or given.keys() & only_prints):
            try:
                _read_sources(ctx, given)
            except ConfigError as error:
                raise click.ClickException(environment.message(error, ctx)) from None
        return super().parse_args(ctx, args)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return the option --help, which reports that stdout cannot be written."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _print_help
        return option

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


def _with_answer(error: click.NoSuchOption, context: click.Context) -> click.UsageError:
    """Return the error of an unknown option; one of another server names what to use instead."""
    instead = INSTEAD.get(error.option_name)
    if instead is None:
        return error
    return click.UsageError(f"No such option: {error.option_name}; {instead}", context)


def _read_sources(context: click.Context, given: Mapping[str, Any]) -> None:
    """Read the file of variables, and then the configuration file, which one of them may name.

    given: the options of the command line. If only the configuration file names a file of
    variables, they are set after it was read, and go before its other values.
    """
    sources = environment.sources_of(context)
    variables = _value_of("env_file", context, given)
    if variables:
        _load_env_file(variables, sources)
    path = _value_of("config", context, given)
    settings = (*SETTINGS, *SUPERVISION_SETTINGS, *PROGRAM_SETTINGS, *ANSWERS)
    sources.file = config_file.read(path, settings) if path else config_file.find(settings)
    if sources.file is None:
        return
    context.default_map = sources.file.values
    if not variables and "env_file" in sources.file.values:
        context.set_parameter_source("env_file", ParameterSource.DEFAULT_MAP)
        _load_env_file(sources.file.values["env_file"], sources)


def _value_of(name: str, context: click.Context, given: Mapping[str, Any]) -> str | None:
    """Return the value of an option on the command line, or else of its variable."""
    if isinstance(given.get(name), str):
        return str(given[name])
    (option,) = (one for one in context.command.params if one.name == name)
    context.set_parameter_source(name, ParameterSource.ENVIRONMENT)
    return option.resolve_envvar_value(context)


def _load_env_file(path: str, sources: environment.Sources) -> None:
    sources.env_file = path
    sources.from_env_file = env_file.load(path)


def _type(setting: Setting) -> Any:
    if setting.choices:
        return _ChoiceType(setting)
    return _RepeatedType() if setting.repeated else _TYPES[setting.kind]


def _option(setting: Setting, *, hidden: bool = False) -> environment.Option:
    """Return the option of a setting. hidden: the help does not list it."""
    names = setting.options
    if setting.is_switch:
        names = tuple(f"{name}/--no-{name[2:]}" for name in names)
    has_default = setting.default not in (None, (), "")
    return environment.Option(
        [*names, setting.name],
        group=setting.group,
        hidden=hidden,
        type=_type(setting),
        is_flag=setting.is_switch,
        multiple=setting.repeated or setting.kind is Kind.PAIRS,
        default=setting.default,
        show_default=setting.default_text or has_default,
        metavar=setting.unit.upper() if setting.unit.isalpha() else None,
        help=setting.plain_help,
    )


def _print_help(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        write_stdout(context.get_help() + "\n")
        context.exit()


_EXTENSIONS = ("wsgate.ws.frames._messages", "wsgate.server._fast_path")


def _extensions_text() -> str:
    """Return whether the C extensions are used, for people who wonder about the speed."""
    try:
        for name in _EXTENSIONS:
            importlib.import_module(name)
    except ImportError:
        return "without C extensions: no compiler was found at the installation, so it is slower"
    return "with C extensions"


def _print_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    write_stdout(
        f"Running wsgate {wsgate.__version__} with {platform.python_implementation()} "
        f"{platform.python_version()} on {platform.system()}\n{_extensions_text()}\n"
    )
    context.exit()


_WAYS_TO_NAME_THE_APP = (
    'Name it as in `wsgate main:app`, by `app = "main:app"` in wsgate.toml, or in WSGATE_APP'
)

_PARAMETERS = [
    environment.Argument(["app"], required=False),
    *map(_option, SETTINGS),
    *map(_option, SUPERVISION_SETTINGS),
    *(_option(one) for one in PROGRAM_SETTINGS if one.name != "app"),
    *(_option(one, hidden=True) for one in ANSWERS),
    environment.Option(
        ["--config"],
        group=_OTHER,
        metavar="FILE",
        show_default="wsgate.toml, else [tool.wsgate] of pyproject.toml, in the current folder",
        help="TOML file with settings, by the names of their options: port = 9000. Options and "
        "variables override it.",
    ),
    click.Option(
        ["--show-config"],
        is_flag=True,
        help="Print each setting with its value and where that is from, and exit.",
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
@click.pass_context
def main(context: click.Context, /, show_config: bool, **values: Any) -> None:
    """Serve the ASGI application APP, "module:attribute".

    An environment variable can set each option: WSGATE_WS_MAX_SIZE sets --ws-max-size. So can a
    file in TOML: see --config.

    To control a running server: wsgate ctl --help. To publish to its topics: wsgate publish --help.
    """
    try:
        if show_config:
            Config(**_server_options(context))
            Supervision(**_supervision_options(context))
            write_stdout(config_text(_settings_with_origins(context)))
        elif values["app"] is None:
            raise click.MissingParameter(
                _WAYS_TO_NAME_THE_APP, ctx=context, param_hint="'APP'", param_type="argument"
            )
        else:
            run(
                values["app"],
                **_program_options(context),
                **_supervision_options(context),
                **_server_options(context),
            )
    except ConfigError as error:
        click.echo(f"Error: {environment.message(error, context)}", err=True)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:  # before the server has installed its signal handlers
        sys.exit(INTERRUPTED)


def _server_options(context: click.Context) -> dict[str, Any]:
    """Return the options of `Config`, and those that are answered, if they are given."""
    given = {one.name for one in ANSWERS if _parameter(one, context).is_given(context)}
    names = [one.name for one in SETTINGS] + [one.name for one in ANSWERS if one.name in given]
    return {name: context.params[name] for name in names}


def _supervision_options(context: click.Context) -> dict[str, Any]:
    return {one.name: context.params[one.name] for one in SUPERVISION_SETTINGS}


def _program_options(context: click.Context) -> dict[str, Any]:
    """Return the options of `run` only. The file of variables has been read already."""
    names = {one.name for one in PROGRAM_SETTINGS} - {"app", "env_file"}
    options = {name: context.params[name] for name in names}
    if options["log_config"] is None:  # which has another meaning in Python
        del options["log_config"]
    return options


def _settings_with_origins(context: click.Context) -> Iterator[tuple[Setting, Any, str]]:
    for one in (*PROGRAM_SETTINGS, *SETTINGS, *SUPERVISION_SETTINGS):
        parameter = _parameter(one, context)
        if parameter.is_given(context):
            yield one, context.params[one.name], parameter.origin(context)
        else:
            yield one, *_default_with_origin(one, context)


def _default_with_origin(setting: Setting, context: click.Context) -> tuple[Any, str]:
    shared = setting.shared_value(os.environ)
    if shared is not None:
        name = environment.sources_of(context).text_of(setting.shared_variable)
        return shared, f"variable {name}"
    origin = f"default: {setting.default_text}" if setting.default_text else "default"
    return context.params[setting.name], origin


def _parameter(setting: Setting, context: click.Context) -> environment.Parameter:
    (found,) = (p for p in context.command.params if p.name == setting.name)
    assert isinstance(found, environment.Parameter)
    return found
