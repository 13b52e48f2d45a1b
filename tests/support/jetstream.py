"""What a test sees and does in JetStream itself, as an operator with the `nats` CLI: one connection for each call."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import nats
from nats.aio.client import Client
from nats.js import JetStreamContext

T = TypeVar("T")


def with_client(url: str, work: Callable[[Client], Awaitable[T]]) -> T:
    """What `work` makes of a connection."""

    async def main() -> T:
        client = await nats.connect(url, connect_timeout=5)
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(main())


def with_jetstream(url: str, work: Callable[[JetStreamContext], Awaitable[T]]) -> T:
    async def main(client: Client) -> T:
        return await work(client.jetstream())

    return with_client(url, main)


def messages(url: str, stream: str) -> int:
    """How many a stream holds."""

    async def look(js: JetStreamContext) -> int:
        return int((await js.stream_info(stream)).state.messages)

    return with_jetstream(url, look)


def change_stream(url: str, stream: str, **changes: Any) -> None:
    async def change(js: JetStreamContext) -> None:
        config = (await js.stream_info(stream)).config
        await js.update_stream(config.evolve(**changes))

    with_jetstream(url, change)


def object_names(url: str, bucket: str) -> list[str]:
    async def look(js: JetStreamContext) -> list[str]:
        store = await js.object_store(bucket)
        try:
            return sorted(str(info.name) for info in await store.list())
        except nats.js.errors.NotFoundError:
            return []

    return with_jetstream(url, look)


def publish(url: str, *said: tuple[str, bytes]) -> None:
    """As anybody with a client may: no acknowledgement is waited for."""

    async def say(client: Client) -> None:
        for subject, body in said:
            await client.publish(subject, body)
        await client.flush()

    with_client(url, say)


def object_bytes(url: str, bucket: str, name: str) -> bytes:
    async def read(js: JetStreamContext) -> bytes:
        return (await (await js.object_store(bucket)).get(name)).data or b""

    return with_jetstream(url, read)


def key_entries(url: str, bucket: str) -> list[str]:
    """The keys of a bucket."""

    async def look(js: JetStreamContext) -> list[str]:
        try:
            return list(await (await js.key_value(bucket)).keys())
        except nats.js.errors.NoKeysError:
            return []

    return with_jetstream(url, look)


def put_entry(url: str, bucket: str, key: str, value: bytes) -> None:
    async def put(js: JetStreamContext) -> None:
        await (await js.key_value(bucket)).put(key, value)

    with_jetstream(url, put)
