"""Topics of several workers, as real processes, with the hub between them."""

from tests.harness.topics import topics_server


async def test_every_worker_has_what_one_publishes() -> None:
    async with topics_server(2) as server:
        first, second = await server.pair()
        for topic in ("plain", "room"):
            for client in (first, second):
                await client.subscribe(topic)
            for client in (first, second):
                await client.publish([topic, client is first], topic)
        for client in (first, second):
            assert len(await client.received(4)) == 4
        assert server.log[1:] == []
