"""An upload into a bucket that is full: refused while the client is still being waited for."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.js import JetStreamContext

from broker.error_mapping import refused_lately
from broker.errors import Refused, StorageFull, TooLarge, Unavailable
from broker.object_store import ObjectStore
from schemas.subjects import AUDIO_BUCKET

STREAM = f"OBJ_{AUDIO_BUCKET}"
PROMPTLY_SECS = 2.0


async def limit(js: JetStreamContext, **changes: object) -> None:
    config = (await js.stream_info(STREAM)).config
    await js.update_stream(config.evolve(**changes))


async def one_piece_and_then_nothing() -> AsyncIterator[bytes]:
    yield b"x" * 2_000_000
    await asyncio.Event().wait()


async def test_the_refusal_interrupts_the_wait_for_the_client(js: JetStreamContext) -> None:
    await limit(js, max_bytes=1_000_000)
    store = ObjectStore(js, AUDIO_BUCKET)
    async with asyncio.timeout(PROMPTLY_SECS):
        with pytest.raises(StorageFull, match="maximum bytes"):
            await store.put("a", one_piece_and_then_nothing())
    assert (await js.stream_info(STREAM)).state.messages == 0
    assert refused_lately(PROMPTLY_SECS)
    await limit(js, max_bytes=-1)

    async def whole() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000

    assert (await store.put("a", whole())).size == 2_000_000


async def test_a_chunk_that_is_too_large_for_its_stream_is_no_lack_of_room(js: JetStreamContext) -> None:
    await limit(js, max_msg_size=1000)
    with pytest.raises(TooLarge):
        await ObjectStore(js, AUDIO_BUCKET).put("a", one_piece_and_then_nothing())
    assert issubclass(TooLarge, Refused)
    assert not issubclass(TooLarge, Unavailable)
