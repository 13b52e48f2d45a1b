"""broker/topology.py against real servers: nothing is changed that is there, and what cannot be made is told in a sentence."""

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from nats.js import JetStreamContext
from nats.js.errors import APIError

from broker import topology
from broker.connection import BrokerSettings, connect
from broker.errors import Refused
from schemas import subjects
from tests.support.nats_process import NatsProcess

MB = 2**20
SMALL_STORE = "jetstream { max_file_store: 60MB }"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[NatsProcess]:
    process = NatsProcess(tmp_path / "small", SMALL_STORE)
    process.start()
    yield process
    process.stop()


async def limit_of_audio(js: JetStreamContext) -> int:
    return int((await js.stream_info(topology.AUDIO_STREAM)).config.max_bytes or -1)


async def fill(js: JetStreamContext, subject: str, size: int) -> int:
    """Publish until the server refuses; how many bytes it took."""
    piece, sent = os.urandom(500_000), 0
    while sent < size:
        try:
            await js.publish(subject, piece)
        except APIError:
            break
        sent += len(piece)
    return sent


async def test_the_audio_bucket_leaves_room_for_everything_else(small: NatsProcess) -> None:
    settings = BrokerSettings(nats_url=small.url)
    async with connect(settings, "test") as (_, js):
        await topology.ensure(js, settings)
        limit = await limit_of_audio(js)
        assert 30 * MB < limit <= 45 * MB
        taken = await fill(js, f"$O.{subjects.AUDIO_BUCKET}.C.x", 90 * MB)
        assert limit - MB < taken <= limit
        for subject in (
            subjects.submit("one"),
            subjects.event("one", "done"),
            subjects.webhook("x"),
            subjects.dead(subjects.submit("one")),
            *(
                topology.KV_KEY.format(bucket, "one")
                for bucket in (subjects.RECORDS_BUCKET, subjects.WORKERS_BUCKET)
            ),
        ):
            assert await fill(js, subject, 1) > 0, subject


async def test_audio_max_bytes_is_the_limit_that_is_asked_for(small: NatsProcess) -> None:
    settings = BrokerSettings(nats_url=small.url, audio_max_bytes=7 * MB)
    async with connect(settings, "test") as (_, js):
        await topology.ensure(js, settings)
        assert await limit_of_audio(js) == 7 * MB


async def test_more_than_the_store_has_is_told(small: NatsProcess) -> None:
    settings = BrokerSettings(nats_url=small.url, audio_max_bytes=70 * MB)
    async with connect(settings, "test") as (_, js):
        with pytest.raises(Refused, match="AUDIO_MAX_BYTES"):
            await topology.ensure(js, settings)


async def test_it_is_made_by_whoever_comes_first_and_changed_by_nobody(
    broker_settings: BrokerSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with connect(broker_settings, "a") as (_, one), connect(broker_settings, "b") as (_, two):
        await asyncio.gather(topology.ensure(one, broker_settings), topology.ensure(two, broker_settings))
        assert await topology.ensure(one, broker_settings) == broker_settings
        assert caplog.messages == []
        others = msgspec.structs.replace(broker_settings, job_retention_secs=3600.0, job_ack_wait_secs=7.0)
        assert (await topology.ensure(two, others)).job_ack_wait_secs == broker_settings.job_ack_wait_secs
        assert (await one.stream_info(subjects.EVENTS_STREAM)).config.max_age == 7 * 24 * 3600
        info = await one.consumer_info(subjects.JOBS_STREAM, subjects.GPU_WORKER_CONSUMER)
        assert info.config.ack_wait == 2
    [warning] = caplog.messages
    assert "max_age is 7 days, not 3600 s (WHISPER_EVENTS, WHISPER_DEAD, " in warning.replace(
        "60 min", "3600 s"
    )
    assert "ack_wait is 2 s, not 7 s (WHISPER_JOBS gpu-worker)" in warning
    assert "whisper-jetstream topology apply" in warning
