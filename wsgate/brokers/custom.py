"""Makes a broker of the user's own: what "module:function" returns."""

from wsgate.brokers.broker import Broker, BrokerSettings
from wsgate.diagnosis import error_summary, short_repr
from wsgate.errors import ConfigError
from wsgate.loading import USER_FAILURES, find

_METHODS = [
    name for name in vars(Broker) if not name.startswith("_") and callable(vars(Broker)[name])
]


def make_custom_broker(name: str, settings: BrokerSettings) -> Broker:
    """Return the broker that a function makes, which is called with the settings.

    Args:
        name: "module:function"; a class is one, too.
        settings: The settings of brokers.

    Raises:
        ConfigError: There is no such function, it fails, or what it returns is no broker.
    """
    try:
        function = find(name)
    except ConfigError as error:
        raise ConfigError(f"--topics: {error}", setting="topics") from error.__cause__
    if not callable(function):
        raise _error(f'"{name}" is {short_repr(function)}, not a function that makes a broker')
    try:
        broker = function(settings)
    except USER_FAILURES as error:
        package = name.partition(":")[0].partition(".")[0]
        raise _error(f'"{name}" failed: {error_summary(error, package)}') from error
    return _check(broker, name)


def _check(broker: Broker, name: str) -> Broker:
    missing = [method for method in _METHODS if not callable(getattr(broker, method, None))]
    if missing:
        fault = f"not a broker: it has no {', no '.join(missing)}"
        raise _error(f'"{name}" has returned {short_repr(broker)}, {fault}')
    return broker


def _error(text: str) -> ConfigError:
    return ConfigError(f"--topics: {text}", setting="topics")
