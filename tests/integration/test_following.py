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
    """Name and deliver subject of the one that follows, the newest; durable ones are others'."""
    infos = [c for c in await js.consumers_info(STREAM) if c.config.durable_name is None]
    info = max(infos, key=lambda info: str(info.created))
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


def lose(client: Client, monkeypatch: pytest.MonkeyPatch, bodies: set[bytes]) -> None:
    """The fault: a message reaches the client and is lost in it, once, as where nats-py drops what a consumer is too slow
    for. Nobody is told."""
    real = client._process_msg

    async def losing(sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        if data in bodies and subject.decode() == SUBJECT:
            bodies.remove(data)
        else:
            await real(sid, subject, reply, data, headers)

    monkeypatch.setattr(client, "_process_msg", losing)


async def test_what_got_lost_on_the_way_is_fetched_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    js, seen, lost = client.jetstream(), asyncio.Queue[Msg](), {b"3", b"4"}
    lose(client, monkeypatch, lost)
    async with Follower(js, STREAM, subjects.ALL_EVENTS, seen.put).running():
        assert await published(js, seen, [b"1", b"2"]) == [b"1", b"2"]
        assert await published(js, seen, [b"3", b"4", b"5"]) == [b"3", b"4", b"5"]
        assert lost == set()
        assert await published(js, seen, [b"6"]) == [b"6"]
    assert seen.empty()


async def test_the_last_message_that_got_lost_is_missed(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No later one tells of the gap."""
    monkeypatch.setattr(following, "CHECK_SECS", 0.1)
    js, seen, lost = client.jetstream(), asyncio.Queue[Msg](), {b"2"}
    lose(client, monkeypatch, lost)
    async with Follower(js, STREAM, subjects.ALL_EVENTS, seen.put).running():
        assert await published(js, seen, [b"1", b"2"]) == [b"1", b"2"]
        assert lost == set()
        name, _ = await the_consumer(js)
        await asyncio.sleep(0.5)  # and where nothing is missing, nothing is done
        assert (await the_consumer(js))[0] == name
    assert seen.empty()


async def test_a_message_that_is_none_of_the_consumers_ends_nothing(client: Client) -> None:
    """Whoever may publish on its inbox can say anything."""
    js, seen = client.jetstream(), asyncio.Queue[Msg]()
    async with Follower(js, STREAM, subjects.ALL_EVENTS, seen.put).running():
        assert await published(js, seen, [b"1"]) == [b"1"]
        _, inbox = await the_consumer(js)
        for reply in ("", "x", "$JS.ACK.a.b.c.d.e.f.g"):
            await client.publish(inbox, b"forged", reply=reply)
        assert await published(js, seen, [b"2"]) == [b"2"]
    assert seen.empty()


async def test_nothing_stays_behind(js: JetStreamContext) -> None:
    before = len(await js.consumers_info(STREAM))
    tasks = asyncio.all_tasks()
    async with Follower(js, STREAM, subjects.ALL_EVENTS, asyncio.Queue[Msg]().put).running():
        assert len(await js.consumers_info(STREAM)) == before + 1
    assert asyncio.all_tasks() - tasks == set()
