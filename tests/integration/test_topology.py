"""broker/topology/declarations.py against real servers: nothing is changed that is there, and what cannot be made is told in a sentence."""

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from nats.js import JetStreamContext
from nats.js.api import StorageType, StreamConfig
from nats.js.errors import APIError

from broker.connection import connect
from broker.errors import Refused
from broker.settings import BrokerSettings
from broker.topology import declarations
from broker.topology.apply import apply
from broker.topology.ensure import compare, ensure, is_made
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
    return int((await js.stream_info(declarations.AUDIO_STREAM)).config.max_bytes or -1)


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
        await ensure(js, settings)
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
                subjects.kv_key(bucket, "one")
                for bucket in (subjects.RECORDS_BUCKET, subjects.WORKERS_BUCKET)
            ),
        ):
            assert await fill(js, subject, 1) > 0, subject


async def test_audio_max_bytes_is_the_limit_that_is_asked_for(small: NatsProcess) -> None:
    settings = BrokerSettings(nats_url=small.url, audio_max_bytes=7 * MB)
    async with connect(settings, "test") as (_, js):
        await ensure(js, settings)
        assert await limit_of_audio(js) == 7 * MB


async def test_more_than_the_store_has_is_told(small: NatsProcess) -> None:
    settings = BrokerSettings(nats_url=small.url, audio_max_bytes=70 * MB)
    async with connect(settings, "test") as (_, js):
        with pytest.raises(Refused, match="AUDIO_MAX_BYTES"):
            await ensure(js, settings)


async def test_it_is_made_by_whoever_comes_first_and_changed_by_nobody(
    broker_settings: BrokerSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with connect(broker_settings, "a") as (_, one), connect(broker_settings, "b") as (_, two):
        await asyncio.gather(ensure(one, broker_settings), ensure(two, broker_settings))
        assert await ensure(one, broker_settings) == broker_settings
        assert caplog.messages == []
        others = msgspec.structs.replace(broker_settings, job_retention_secs=3600.0, job_ack_wait_secs=7.0)
        assert (await ensure(two, others)).job_ack_wait_secs == broker_settings.job_ack_wait_secs
        assert (await one.stream_info(subjects.EVENTS_STREAM)).config.max_age == 7 * 24 * 3600
        info = await one.consumer_info(subjects.JOBS_STREAM, subjects.GPU_WORKER_CONSUMER)
        assert info.config.ack_wait == 2
    [warning] = caplog.messages
    assert "max_age is 7 d, not 1 h (WHISPER_EVENTS, WHISPER_DEAD, " in warning
    assert "ack_wait is 2 s, not 7 s (WHISPER_JOBS gpu-worker)" in warning
    assert "whisper-jetstream topology apply" in warning


async def test_apply_changes_what_differs_and_nothing_else(broker_settings: BrokerSettings) -> None:
    """The limit and the description are the operator's own; a queue in memory cannot be moved to disk."""
    async with connect(broker_settings, "test") as (_, js):
        jobs = declarations.streams(broker_settings)[0].evolve(storage=StorageType.MEMORY, max_msgs=5000)
        await js.add_stream(jobs.evolve(description="ours, says the operator"))
        await ensure(js, broker_settings)
        others = msgspec.structs.replace(
            broker_settings, job_retention_secs=60.0, job_ack_wait_secs=7.0, audio_max_bytes=5 * MB
        )
        before = [d for d in await compare(js, others) if not d.can_be_changed]
        assert [(d.name, d.field) for d in before] == [(subjects.JOBS_STREAM, "storage")]
        outcome = await apply(js, others)
        [problem] = [applied for applied in outcome if applied.problem]
        assert problem.difference == before[0]
        assert "never changes it" in problem.problem
        assert await compare(js, others) == before
        kept = (await js.stream_info(subjects.JOBS_STREAM)).config
        assert (kept.max_msgs, kept.description) == (5000, "ours, says the operator")
        assert (await js.stream_info(subjects.EVENTS_STREAM)).config.duplicate_window == 60
        assert await limit_of_audio(js) == 5 * MB
        assert [a for a in await apply(js, others) if not a.problem] == []


async def test_what_is_refused_keeps_nothing_else_from_being_changed(broker_settings: BrokerSettings) -> None:
    async with connect(broker_settings, "test") as (_, js):
        await ensure(js, broker_settings)
        others = msgspec.structs.replace(broker_settings, nats_replicas=3, job_retention_secs=60.0)
        outcome = await apply(js, others)
        assert {a.difference.field for a in outcome if a.problem} == {"num_replicas"}
        assert {d.field for d in await compare(js, others)} == {"num_replicas"}


async def test_an_unlimited_audio_bucket_is_told_and_gets_its_share(small: NatsProcess) -> None:
    """As older versions have made it; what is stored beyond the new limit stays."""
    settings = BrokerSettings(nats_url=small.url)
    async with connect(settings, "test") as (_, js):
        await js.create_object_store(subjects.AUDIO_BUCKET, storage=StorageType.FILE)
        stored = await fill(js, f"$O.{subjects.AUDIO_BUCKET}.C.x", 50 * MB)
        await ensure(js, settings)
        [difference] = await compare(js, settings)
        assert difference.change == "max_bytes is unlimited, not a share of the store"
        assert [a.problem for a in await apply(js, settings)] == [""]
        assert 30 * MB < await limit_of_audio(js) <= 45 * MB < stored
        assert (await js.stream_info(declarations.AUDIO_STREAM)).state.bytes >= stored
        assert await compare(js, settings) == []


async def test_looking_makes_nothing(broker_settings: BrokerSettings) -> None:
    async with connect(broker_settings, "test") as (_, js):
        found = await compare(js, broker_settings)
        assert {d.change for d in found} == {"missing"}
        assert len(found) == 13
        assert not await is_made(js, broker_settings)
        assert await js.streams_info() == []
        assert {a.difference.done for a in await apply(js, broker_settings)} == {"made"}
        assert await compare(js, broker_settings) == []
        assert await is_made(js, broker_settings)


NO_JETSTREAM_FOR_US = """
accounts {
  OURS { users: [{ user: ours, password: secret }] }
  SYS { users: [{ user: sys, password: secret }] }
}
system_account: SYS
"""
NO_PERMISSION = """
authorization { users: [
  { user: ours, password: secret, permissions: { publish: "whisper.>", subscribe: "_INBOX.>" } }
] }
"""


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (NO_JETSTREAM_FOR_US, "JetStream"),
        (NO_PERMISSION, "permissions violation for publish"),
    ],
)
async def test_a_server_that_cannot_be_used_is_told_in_a_sentence(
    tmp_path: Path, config: str, sentence: str
) -> None:
    server = NatsProcess(tmp_path / "server", config)
    server.start()
    try:
        url = server.url.replace("nats://", "nats://ours:secret@")
        settings = BrokerSettings(nats_url=url)
        async with asyncio.timeout(7), connect(settings, "test") as (_, js):
            with pytest.raises(Refused, match=sentence):
                await ensure(js, settings)
    finally:
        server.stop()


async def test_replicas_without_a_cluster_are_told(broker_settings: BrokerSettings) -> None:
    settings = msgspec.structs.replace(broker_settings, nats_replicas=3)
    async with connect(settings, "test") as (_, js):
        with pytest.raises(Refused, match="NATS_REPLICAS=3, but this nats-server is in no cluster"):
            await ensure(js, settings)


async def test_subjects_of_another_stream_are_told_with_its_name(broker_settings: BrokerSettings) -> None:
    async with connect(broker_settings, "test") as (_, js):
        await js.add_stream(StreamConfig(name="THEIRS", subjects=["whisper.>"]))
        with pytest.raises(Refused, match="WHISPER_JOBS cannot be made: THEIRS has its subjects"):
            await ensure(js, broker_settings)
