"""An upload that breaks leaves nothing, though the server still stores its last chunks when it breaks."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client

from broker.object_store import CHUNK_BYTES, ObjectStore
from schemas.subjects import AUDIO_BUCKET

LAG_SECS = 0.3


class Broken(Exception):
    """The client is gone."""


async def breaking(chunks: int) -> AsyncIterator[bytes]:
    for _ in range(chunks):
        yield bytes(CHUNK_BYTES)
    raise Broken


async def test_chunks_that_are_stored_late_go_too(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault: chunks reach the stream late, as in a cluster whose leader is another node, and a purge overtakes them."""
    publish, late = client.publish, list[asyncio.Task[None]]()

    async def lagging(subject: str, payload: bytes = b"", **options: Any) -> None:
        async def send() -> None:
            await asyncio.sleep(LAG_SECS)
            await publish(subject, payload, **options)

        if subject.startswith(f"$O.{AUDIO_BUCKET}.C."):
            late.append(asyncio.create_task(send()))
        else:
            await publish(subject, payload, **options)

    monkeypatch.setattr(client, "publish", lagging)
    js = client.jetstream()
    with pytest.raises(Broken):
        await ObjectStore(js, AUDIO_BUCKET).put("a", breaking(5))
    assert len(late) == 5
    await asyncio.gather(*late)
    await client.flush()
    assert (await js.stream_info(f"OBJ_{AUDIO_BUCKET}")).state.messages == 0
