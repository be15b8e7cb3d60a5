"""A published message, with its place in the order of its topic."""

from wsgate.ws.encoded import Encoded


class Publication:
    """One message of a topic, as all of its subscribers on this worker share it.

    Attributes:
        topic: The name of the topic.
        data: Text or bytes, as the message is delivered.
        id: Of a message that history keeps, else None.
        place: Its place in the order of the topic, 0 in a plain topic.
        kept_at: When history took it, in seconds of the history's clock.
        encoded: Its frames, each made when the first socket needs it.
    """

    __slots__ = ("data", "encoded", "id", "kept_at", "place", "topic")

    def __init__(
        self,
        topic: str,
        data: str | bytes,
        id: str | None = None,
        place: int = 0,
    ) -> None:
        self.topic = topic
        self.data = data
        self.id = id
        self.place = place
        self.kept_at = 0.0
        self.encoded = Encoded(data)

    def __repr__(self) -> str:
        return f"<Publication {self.topic!r} {self.data!r} id={self.id!r}>"
