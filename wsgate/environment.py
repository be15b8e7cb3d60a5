"""Command-line options that environment variables can set; errors name the variable."""

import copy
import os
import re
from typing import Any

import click
from click.core import ParameterSource

from wsgate.errors import ConfigError
from wsgate.settings import variable_of

# Kubernetes and Docker links set <NAME>_PORT to such a value for each service. So a service named
# wsgate sets WSGATE_PORT in all containers of its namespace.
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://\S+:\d+")


class Parameter(click.Parameter):
    """A parameter that an environment variable can set: --ws-max-size is WSGATE_WS_MAX_SIZE."""

    @property
    def variables(self) -> list[str]:
        """The variables that can set it, one for each name of the parameter."""
        return list(dict.fromkeys(map(variable_of, (*self.opts, str(self.name)))))

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:  # noqa: ARG002  # click's
        """Return the value of the variable. Called by click if the command line has none."""
        for link in filter(_is_service_link, self.variables):
            click.echo(
                f"Warning: {link}={os.environ[link]} is ignored: it is the address of a service, "
                "set by Kubernetes (enableServiceLinks)",
                err=True,
            )
        variable = self._variable()
        return os.environ[variable] if variable else None

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return what an error message calls the parameter: the variable if it set the value."""
        if ctx is not None and _is_from_environment(ctx, str(self.name)):
            return str(self._variable())
        if isinstance(self, click.Option):
            return f"'{self.opts[0]}'"  # not its aliases
        return super().get_error_hint(ctx)

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
    """Return an error's text; the variable, if it set the value, replaces the option's name."""
    text = str(error)
    for parameter in context.command.params:
        if parameter.name == error.setting and _is_from_environment(context, error.setting):
            reason = text.removeprefix(parameter.opts[0]).lstrip(": ")
            return f"Invalid value for {parameter.get_error_hint(context)}: {reason}"
    return text


def _is_from_environment(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.ENVIRONMENT


def _is_service_link(variable: str) -> bool:
    return _SERVICE_LINK.fullmatch(os.environ.get(variable, "")) is not None
