"""Following a stream while its consumer is lost or messages get lost on the way."""

import asyncio

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from broker import following
from broker.following import Follower
from schemas import subjects

STREAM, SUBJECT = subjects.EVENTS_STREAM, subjects.event("j1", "progress")


async def published(js: JetStreamContext, seen: "asyncio.Queue[Msg]", bodies: list[bytes]) -> list[bytes]:
    """Publish, and what arrives."""
    for body in bodies:
        await js.publish(SUBJECT, body)
    async with asyncio.timeout(10):
        return [(await seen.get()).data for _ in bodies]


async def the_consumer(js: JetStreamContext) -> tuple[str, str]:
    """Name and deliver subject of the one that follows; durable ones are others'."""
    [info] = [c for c in await js.consumers_info(STREAM) if c.config.durable_name is None]
    return info.name, str(info.config.deliver_subject)


async def test_a_consumer_that_is_deleted_is_made_again(
    js: JetStreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "CHECK_SECS", 0.1)
    seen = asyncio.Queue[Msg]()
    async with Follower(js, STREAM, subjects.ALL_EVENTS, seen.put).running():
        assert await published(js, seen, [b"1", b"2"]) == [b"1", b"2"]
        name, _ = await the_consumer(js)
        await js.delete_consumer(STREAM, name)
        assert await published(js, seen, [b"3", b"4"]) == [b"3", b"4"]
        assert (await the_consumer(js))[0] != name
    assert seen.empty()


async def test_what_got_lost_on_the_way_is_fetched_again(client: Client, js: JetStreamContext) -> None:
    """The fault: a message says that it is the consumer's ninth, and its third to eighth have not come."""
    seen = asyncio.Queue[Msg]()
    async with Follower(js, STREAM, subjects.ALL_EVENTS, seen.put).running():
        assert await published(js, seen, [b"1", b"2"]) == [b"1", b"2"]
        name, deliver_subject = await the_consumer(js)
        reply = f"$JS.ACK.{STREAM}.{name}.1.9.9.1700000000000000000.0"
        await client.publish(deliver_subject, b"forged", reply=reply)
        assert await published(js, seen, [b"3", b"4"]) == [b"3", b"4"]
    assert seen.empty()


async def test_nothing_stays_behind(js: JetStreamContext) -> None:
    before = len(await js.consumers_info(STREAM))
    tasks = asyncio.all_tasks()
    async with Follower(js, STREAM, subjects.ALL_EVENTS, asyncio.Queue[Msg]().put).running():
        assert len(await js.consumers_info(STREAM)) == before + 1
    assert asyncio.all_tasks() - tasks == set()
