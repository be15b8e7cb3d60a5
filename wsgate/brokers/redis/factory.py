"""Makes the broker or a publisher of a Redis URL; imports redis-py only when it is needed."""

from typing import TYPE_CHECKING

from wsgate.brokers.redis.url import RedisUrl, parse_redis_url
from wsgate.errors import ConfigError
from wsgate.topics.errors import TopicsError

if TYPE_CHECKING:
    from wsgate.brokers.redis.broker import RedisBroker
    from wsgate.brokers.redis.publisher import RedisPublisher

PUBLISH_TIMEOUT = 5.0  # seconds that a call waits for Redis by default


def make_redis_broker(
    text: str, *, publish_timeout: float = PUBLISH_TIMEOUT, max_bytes: int
) -> "RedisBroker":
    """Return the broker of a Redis URL.

    Args:
        text: The URL.
        publish_timeout: Seconds that a call may wait for Redis.
        max_bytes: Bytes of the kept messages of one topic.

    Raises:
        ConfigError: The URL is malformed, or redis-py is not installed.
    """
    url = checked_url(text)
    check_installed()
    from wsgate.brokers.redis.broker import RedisBroker  # noqa: PLC0415  # redis-py is optional

    return RedisBroker(url, publish_timeout=publish_timeout, max_bytes=max_bytes)


def checked_url(text: str) -> RedisUrl:
    """Return the parts of a URL.

    Raises:
        ConfigError: It is malformed.
    """
    try:
        return parse_redis_url(text)
    except ValueError as error:
        raise ConfigError(f"--topics: {error}", setting="topics") from None


def check_installed() -> None:
    """Raise ConfigError if redis-py is missing."""
    try:
        import redis  # noqa: F401, PLC0415  # it is optional
    except ImportError:
        raise ConfigError(
            "--topics with Redis needs redis-py: pip install 'wsgate[redis]'", setting="topics"
        ) from None


def make_redis_publisher(text: str, timeout: float) -> "RedisPublisher":
    """Return a publisher of a Redis URL.

    Raises:
        ValueError: The URL is malformed.
        TopicsError: redis-py is not installed.
    """
    url = parse_redis_url(text)
    try:
        from wsgate.brokers.redis.publisher import RedisPublisher  # noqa: PLC0415  # optional
    except ImportError:
        raise TopicsError(
            "publishing over Redis needs redis-py: pip install 'wsgate[redis]'"
        ) from None
    return RedisPublisher(url, timeout)
