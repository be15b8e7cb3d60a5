"""Makes the broker that a URL names."""

from collections.abc import Callable

from wsgate.brokers.broker import Broker, BrokerSettings
from wsgate.brokers.custom import make_custom_broker
from wsgate.brokers.local.broker import LocalBroker
from wsgate.brokers.memory import MemoryBroker, Scheduler
from wsgate.brokers.redis.factory import make_redis_broker
from wsgate.brokers.urls import is_custom, is_local, is_redis


def make_broker(
    url: str,
    settings: BrokerSettings,
    clock: Callable[[], float],
    scheduler: Scheduler,
    find_hub: Callable[[], str | None],
) -> Broker:
    """Return the broker that a URL names.

    Args:
        url: Of --topics, which was checked.
        settings: The settings of brokers.
        clock: Returns a monotonic time in seconds.
        scheduler: Calls a broker when something is due.
        find_hub: Returns the path of the hub's socket; None if it is not known.

    Raises:
        ConfigError: A Redis URL is malformed, or redis-py is not installed; or the user's own
            broker cannot be made.
    """
    timeout, max_bytes = settings.topics_publish_timeout, settings.topics_history_max_bytes
    if is_redis(url):
        return make_redis_broker(url, publish_timeout=timeout, max_bytes=max_bytes)
    if is_local(url):
        return LocalBroker(find_hub, timeout, max_bytes)
    if is_custom(url):
        return make_custom_broker(url, settings)
    return MemoryBroker(clock, scheduler, max_bytes)
