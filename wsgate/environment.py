"""The environment as a source of options; what is wrong with a value there names the variable."""

import os
import re

import click
from click.core import ParameterSource

from wsgate.errors import ConfigError

# Kubernetes (and links of Docker) set <NAME>_PORT to this in the containers beside a service, so a
# service named wsgate sets WSGATE_PORT.
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://\S+:\d+")


class Parameter(click.Parameter):
    """A parameter that a variable may set: --ws-max-size as WSGATE_WS_MAX_SIZE."""

    @property
    def variables(self) -> list[str]:
        """The variables that may set it, one for each of its names."""
        names = [name.lstrip("-").replace("-", "_") for name in (*self.opts, str(self.name))]
        return [f"WSGATE_{name.upper()}" for name in dict.fromkeys(names)]

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:  # noqa: ARG002  # click's
        """Return the variable's value; click asks for it if the command line gives none."""
        for link in filter(_is_service_link, self.variables):
            click.echo(
                f"Warning: {link}={os.environ[link]} is ignored: it is the address of a service, "
                "set by Kubernetes (enableServiceLinks)",
                err=True,
            )
        variable = self._variable()
        return os.environ[variable] if variable else None

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return what an error in the value names: the option, or the variable if it set it."""
        if ctx is not None and _is_from_environment(ctx, str(self.name)):
            return str(self._variable())
        return super().get_error_hint(ctx)

    def _variable(self) -> str | None:
        """Return the variable that sets it."""
        usable = (v for v in self.variables if os.environ.get(v) and not _is_service_link(v))
        return next(usable, None)


class Option(Parameter, click.Option):
    """An option that a variable may set."""


class Argument(Parameter, click.Argument):
    """An argument that a variable may set."""


def message(error: ConfigError, context: click.Context) -> str:
    """Return an error's text, with the variable in place of the option if it set the value."""
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
