"""The app of the abuse suite, whose clients may do with topics whatever they like.

The WebSocket `/topics` takes lists of calls in JSON: each the name of a method of `Topics`, a topic
and arguments. It carries them out, and answers with `{"re": ...}`: how often each error was raised.
A topic that is a number stands for a long name, and data that is a number for so many bytes.
"""

import json
from collections import Counter
from typing import Any

from tests.apps.abuse import Site
from wsgate import topics


def name_of(number: int) -> str:
    """Return a name of 255 bytes or few less, in another script for each number."""
    first = chr(0x100 + number * 131 % 0xD000)
    text = f"{number} {first}"
    return text + first * ((255 - len(text.encode())) // len(first.encode()))


class TopicsSite(Site):
    """The same app with one more path."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket" or scope["path"] != "/topics":
            await super().__call__(scope, receive, send)
            return
        self.websockets += 1
        try:
            await self._serve(topics.of(scope), receive, send)
        finally:
            self.websockets -= 1

    async def _serve(self, t: topics.Topics, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            errors: Counter[str] = Counter()
            for method, topic, options in json.loads(message["text"]):
                name = name_of(topic) if isinstance(topic, int) else topic
                if "data" in options:
                    options["data"] = "x" * options["data"]
                try:
                    await getattr(t, method)(name, **options)
                except topics.TopicsError as error:
                    errors[f"{type(error).__name__}: {error}"] += 1
            await send({"type": "websocket.send", "text": json.dumps({"re": errors})})


app = TopicsSite()
