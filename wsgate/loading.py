"""Loads the app: imports "module:attribute" and calls factories. Each error is one line."""

import asyncio
import importlib
import inspect
import os
import sys
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

from wsgate import loggers
from wsgate.diagnosis import error_summary, short_repr
from wsgate.errors import ConfigError
from wsgate.interfaces import adapt_asgi2, adapt_wsgi
from wsgate.types import App, Factory, Interface

# What the user's code may raise. An uncaught SystemExit would end the process without a message,
# that of `sys.exit()` with status 0. A CancelledError may come from one of the user's own tasks.
USER_FAILURES = (Exception, SystemExit, asyncio.CancelledError)
_ASGI_ARGUMENTS = ("scope", "receive", "send")
_WSGI_ARGUMENTS = ("environ", "start_response")


def load(
    app: App | Factory | str,
    *,
    factory: bool = False,
    app_dir: str | os.PathLike[str] | None = None,
    interface: Interface = "auto",
) -> App | Awaitable[App]:
    """Return the app, or an awaitable for `complete` if an async factory makes it.

    Args:
        app: the app, or "module:attribute" of it; both parts may contain dots.
        factory: call `app` to get the app. Without this, an object that can only be a factory is
            called too, and a warning is logged.
        app_dir: a folder to search for modules first.
        interface: how the app is called. Apps of other interfaces than ASGI 3 are adapted to it.

    Raises:
        ConfigError: its cause is the exception of the user's code.
    """
    if app_dir is not None:
        add_to_path(app_dir)
    candidate: object = find(app) if isinstance(app, str) else app
    subject = f'"{app}" is' if isinstance(app, str) else "the app is"
    if factory or (interface in _ASGI_3 and _is_factory(candidate)):
        if not factory:
            loggers.error.warning(
                "ASGI app factory detected: calling it to get the app. "
                "Set --factory (factory=True) to make this explicit."
            )
        return _make(_check_callable(candidate, subject), _package(app), interface)
    return _adapt(candidate, subject, interface)


async def complete(app: App | Awaitable[App]) -> App:
    """Return the app; await it if `load` returned an awaitable.

    Raises:
        ConfigError: the factory failed, or returned no app.
    """
    return app if callable(app) else await app


# -- modules and attributes ------------------------------------------------------------------------


def add_to_path(folder: str | os.PathLike[str]) -> None:
    """Let a folder be searched for modules first. Raises ConfigError if it does not exist."""
    try:
        sys.path.insert(0, os.path.realpath(folder, strict=True))
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"--app-dir {folder or '.'}: {reason}", setting="app_dir") from None


def _package(app: object) -> str:
    """Return the top-level package that the app's code belongs to."""
    module = app if isinstance(app, str) else str(getattr(app, "__module__", ""))
    return module.partition(":")[0].partition(".")[0]


def find(name: str) -> object:
    """Return the object that "module:attribute" names.

    Raises:
        ConfigError: there is none, or the module cannot be imported.
    """
    module_name, _, attributes = name.partition(":")
    if not (attributes and all(module_name.split("."))):
        fault = f'"{name}" is not of the form "module:attribute"'
        raise ConfigError(fault + _suggestion(module_name, attributes or "app"), setting="app")
    module = _import(module_name, attributes)
    value: object = module
    for attribute in attributes.split("."):
        try:
            value = getattr(value, attribute)
        except USER_FAILURES as error:
            if isinstance(error, AttributeError) and error.obj is value and error.name == attribute:
                missing = f'attribute "{attributes}" not found in "{module_name}"{_origin(module)}'
                raise ConfigError(missing, setting="app") from error
            reason = error_summary(error, _package(name))
            raise ConfigError(f'could not read "{name}": {reason}') from error
    return value


def _import(name: str, attributes: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except USER_FAILURES as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            missing = f'could not import module "{name}": no such module'
            raise ConfigError(missing + _suggestion(name, attributes), setting="app") from None
        raise ConfigError(
            f'could not import "{name}": {error_summary(error, _package(name))}'
        ) from error


def _suggestion(module: str, attributes: str) -> str:
    """Return the end of an error for a module that is named by its file, or nothing."""
    folder, _, file = module.rpartition("/")
    if not (folder or file.endswith(".py")):
        return ""
    before = f"--app-dir {folder} " if folder else ""
    return f"; did you mean {before}{file.removesuffix('.py')}:{attributes}?"


def _origin(module: ModuleType) -> str:
    """Return the path of a module: it may be another one than the user expects."""
    path = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    return f" ({path})" if path else ""


# -- factories and apps ----------------------------------------------------------------------------


def _make(
    factory: Callable[..., object], package: str, interface: Interface
) -> App | Awaitable[App]:
    try:
        made = factory()
    except USER_FAILURES as error:
        raise _factory_failure(error, package) from error
    if inspect.isawaitable(made) and not callable(made):
        return _await_app(made, package, interface)
    return _adapt(made, "the app's factory returned", interface)


async def _await_app(awaitable: Awaitable[object], package: str, interface: Interface) -> App:
    try:
        made = await awaitable
    except USER_FAILURES as error:
        if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
            raise
        raise _factory_failure(error, package) from error
    return _adapt(made, "the app's factory returned", interface)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _factory_failure(error: BaseException, package: str) -> ConfigError:
    return ConfigError(f"the app's factory failed: {error_summary(error, package)}")


def _check_callable(candidate: object, subject: str) -> Callable[..., Any]:
    if not callable(candidate):
        raise ConfigError(f"{subject} {short_repr(candidate)}, not an ASGI app", setting="app")
    return candidate


def _check_app(app: Callable[..., Any], subject: str) -> App:
    if _may_be_app(app):
        return app
    fault = f"it cannot be called with ({', '.join(_ASGI_ARGUMENTS)})"
    if isinstance(app, type):
        fault = "an instance of the class may be one"
    elif _fits(app, *_WSGI_ARGUMENTS, follow_wrapped=False):
        fault += "; a WSGI app needs --interface wsgi"
    elif _fits(app, "scope", follow_wrapped=False):
        fault += "; an ASGI 2 app needs --interface asgi2"
    raise ConfigError(f"{subject} {short_repr(app)}, not an ASGI app: {fault}", setting="app")


def _is_factory(candidate: object) -> bool:
    """Return whether an object can be called without arguments, but not as an app.

    For a decorated function both its own signature and that of the wrapped function must say so:
    the first may accept anything (*args), the second may differ from what a call accepts.
    """
    if not callable(candidate) or _fits(candidate, follow_wrapped=False) is False:
        return False
    if not _fits(candidate, follow_wrapped=True):
        return False
    return not (_may_be_app(candidate) and _fits(candidate, *_ASGI_ARGUMENTS, follow_wrapped=True))


def _may_be_app(candidate: Callable[..., Any]) -> bool:
    """Return whether an object can be called as an app; True if that cannot be determined."""
    if isinstance(candidate, type) and not hasattr(candidate, "__await__"):
        return False  # the call would return an instance, which cannot be awaited
    return _fits(candidate, *_ASGI_ARGUMENTS, follow_wrapped=False) is not False


def _fits(candidate: Callable[..., Any], *arguments: object, follow_wrapped: bool) -> bool | None:
    """Return whether a call with these arguments fits the signature; None if it cannot be read."""
    try:
        signature = inspect.signature(candidate, follow_wrapped=follow_wrapped)
    except Exception:  # noqa: BLE001  # `__signature__` may be a property of the user's
        return None
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


# -- interfaces ------------------------------------------------------------------------------------


def _adapt(candidate: object, subject: str, interface: Interface) -> App:
    """Return an app of any interface as an ASGI 3 app."""
    app = _check_callable(candidate, subject)
    if interface == "auto" and _is_asgi2(app):
        loggers.error.warning(
            "ASGI 2 app detected. Set --interface asgi2 (interface='asgi2') to make this explicit."
        )
        interface = "asgi2"
    if interface in _ASGI_3:
        return _check_app(app, subject)
    arguments, adapt = _ADAPTERS[interface]
    if _fits(app, *arguments, follow_wrapped=False) is False:
        fault = f"it cannot be called with ({', '.join(arguments)})"
        kind = f"{subject} {short_repr(app)}, not an app for --interface {interface}"
        raise ConfigError(f"{kind}: {fault}", setting="app")
    return adapt(app)


_ASGI_3 = ("auto", "asgi3")
_ADAPTERS: dict[str, tuple[tuple[str, ...], Callable[[Callable[..., Any]], App]]] = {
    "asgi2": (("scope",), adapt_asgi2),
    "wsgi": (_WSGI_ARGUMENTS, adapt_wsgi),
}


def _is_asgi2(candidate: Callable[..., Any]) -> bool:
    """Return whether an object can only be an ASGI 2 app: it takes a `scope` and nothing else.

    The name counts: a function with another argument is a factory that cannot be called. Of a
    class, the instances must take `receive` and `send`.
    """
    if _may_be_app(candidate) or not _fits(candidate, "scope", follow_wrapped=False):
        return False
    if next(iter(inspect.signature(candidate, follow_wrapped=False).parameters)) != "scope":
        return False
    call = inspect.getattr_static(candidate, "__call__", None)
    return not isinstance(candidate, type) or (
        callable(call) and _fits(call, candidate, "receive", "send", follow_wrapped=False) is True
    )
