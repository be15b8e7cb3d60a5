"""Command-line options that variables and a file can set; errors name the source of the value."""

import copy
import os
import re
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from wsgate.errors import ConfigError
from wsgate.settings import variable_of

if TYPE_CHECKING:
    from wsgate.config_file import ConfigFile

# Kubernetes and Docker links set <NAME>_PORT to such a value for each service. So a service named
# wsgate sets WSGATE_PORT in all containers of its namespace.
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://\S+:\d+")


class Sources:
    """What a command reads besides its command line.

    Attributes:
        file: the configuration file, None without one.
        env_file: the path of the file of variables, None without one.
        from_env_file: the names of the variables that it has set.
        ignored: the variables that are ignored, with a warning.
    """

    def __init__(self) -> None:
        self.file: ConfigFile | None = None
        self.env_file: str | None = None
        self.from_env_file: frozenset[str] = frozenset()
        self.ignored: set[str] = set()

    def text_of(self, variable: str) -> str:
        """Return what a message calls a variable."""
        return f"{variable} of {self.env_file}" if variable in self.from_env_file else variable


def sources_of(context: click.Context) -> Sources:
    """Return the sources of a command that is being run."""
    return context.ensure_object(Sources)


class Parameter(click.Parameter):
    """A parameter that an environment variable can set: --ws-max-size is WSGATE_WS_MAX_SIZE."""

    @property
    def variables(self) -> list[str]:
        """The variables that can set it, one for each name of the parameter."""
        return list(dict.fromkeys(map(variable_of, (*self.opts, str(self.name)))))

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return the value of the variable. Called by click if the command line has none."""
        for link in filter(_is_service_link, self.variables):
            _warn_of_service_link(link, sources_of(ctx))
        variable = self._variable()
        return os.environ[variable] if variable else None

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Return a value of the command line or a variable as what its text means."""
        if _source(ctx, self) is ParameterSource.DEFAULT_MAP:
            return value  # of the file, where it has its type
        return super().type_cast_value(ctx, value)

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return what an error message calls the parameter: the variable if it set the value."""
        if ctx is not None and _source(ctx, self) is ParameterSource.ENVIRONMENT:
            return sources_of(ctx).text_of(str(self._variable()))
        if isinstance(self, click.Option):
            return f"'{self.opts[0]}'"  # not its aliases
        return super().get_error_hint(ctx)

    def origin(self, ctx: click.Context) -> str:
        """Return where the value is from: the command line, a variable, a line, or the default."""
        source, sources = _source(ctx, self), sources_of(ctx)
        if source is ParameterSource.COMMANDLINE:
            return "command line"
        if source is ParameterSource.ENVIRONMENT:
            return f"variable {sources.text_of(str(self._variable()))}"
        if source is ParameterSource.DEFAULT_MAP and sources.file is not None:
            return sources.file.place(str(self.name))
        return "default"

    def is_given(self, ctx: click.Context) -> bool:
        """Return whether the value is not the default."""
        return _source(ctx, self) is not ParameterSource.DEFAULT

    def _variable(self) -> str | None:
        """Return the first variable that has a usable value."""
        usable = (v for v in self.variables if os.environ.get(v) and not _is_service_link(v))
        return next(usable, None)


class Option(Parameter, click.Option):
    """An option that an environment variable can set.

    group: its heading in the help. The help shows only the first name; the others are aliases.
    """

    def __init__(self, *args: Any, group: str, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.group = group

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option's line of the help, without aliases."""
        shown = copy.copy(self)
        shown.opts, shown.secondary_opts = self.opts[:1], self.secondary_opts[:1]
        return super(Option, shown).get_help_record(ctx)


class Argument(Parameter, click.Argument):
    """An argument that an environment variable can set."""


def message(error: ConfigError, context: click.Context) -> str:
    """Return an error's text; a variable or a line, if it set the value, replaces the option."""
    text = str(error)
    for parameter in context.command.params:
        if parameter.name == error.setting and isinstance(parameter, Parameter):
            return _message(error, parameter, context)
    return text


def _message(error: ConfigError, parameter: Parameter, context: click.Context) -> str:
    text, source, file = str(error), _source(context, parameter), sources_of(context).file
    if source is ParameterSource.ENVIRONMENT:
        reason = text.removeprefix(parameter.opts[0]).lstrip(": ")
        return f"Invalid value for {parameter.get_error_hint(context)}: {reason}"
    if source is ParameterSource.DEFAULT_MAP and file is not None:
        return file.error_text(error, str(parameter.name))
    return text


def _source(context: click.Context, parameter: click.Parameter) -> ParameterSource | None:
    return context.get_parameter_source(str(parameter.name))


def _warn_of_service_link(variable: str, sources: Sources) -> None:
    if variable not in sources.ignored:
        sources.ignored.add(variable)
        click.echo(
            f"Warning: {variable}={os.environ[variable]} is ignored: it is the address of a "
            "service, set by Kubernetes (enableServiceLinks)",
            err=True,
        )


def _is_service_link(variable: str) -> bool:
    return _SERVICE_LINK.fullmatch(os.environ.get(variable, "")) is not None
