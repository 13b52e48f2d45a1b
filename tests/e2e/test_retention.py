"""What is kept goes when its time has come: audio, records, results, events, and what broken uploads left."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import nats
import pytest
from nats.js import JetStreamContext

from broker.connection import connect
from broker.dead_letters import DeadLetters
from broker.job_records import JobRecords
from broker.object_store import ObjectStore
from broker.rescue import Rescue
from broker.settings import BrokerSettings
from broker.work_queue import WorkQueue
from gateway.sweep import ORPHAN_AGE, Sweep
from schemas.jobs import JobRequest
from schemas.subjects import AUDIO_BUCKET, RESULTS_BUCKET
from tests.support.http import AUDIO, events, finish, submit
from tests.support.system import System

TELEPHONE = (AUDIO / "telephone.wav").read_bytes()


async def names(url: str, bucket: str) -> list[str]:
    """Objects in a bucket, and chunks as one entry each."""
    client = await nats.connect(url)
    info = await client.jetstream().stream_info(f"OBJ_{bucket}", subjects_filter=">")
    await client.close()
    return list(info.state.subjects or {})


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_audio_goes_with_the_end_of_its_job(system: System) -> None:
    gateway = system.gateway()
    system.scripted_worker(system.script())
    finish(gateway.http, submit(gateway.http, "t.wav", TELEPHONE))
    eventually(lambda: asyncio.run(names(system.nats.url, AUDIO_BUCKET)) == [])


def test_audio_is_kept_as_long_as_it_is_asked_for(system: System) -> None:
    keep = {"AUDIO_RETENTION_SECS": "3", "SWEEP_INTERVAL_SECS": "0.2"}
    gateway = system.gateway(**keep)
    system.scripted_worker(system.script(), **keep)
    job = finish(gateway.http, submit(gateway.http, "t.wav", TELEPHONE))
    cancelled = gateway.http.delete(f"/jobs/{submit(gateway.http, 'u.wav', TELEPHONE)}")
    assert len(asyncio.run(names(system.nats.url, AUDIO_BUCKET))) >= 2
    eventually(lambda: asyncio.run(names(system.nats.url, AUDIO_BUCKET)) == [])
    ended = datetime.fromisoformat(job["completed_at"])
    assert datetime.now(UTC) - ended > timedelta(seconds=3)
    assert cancelled.status_code in (200, 409)


@pytest.mark.timeout(60)
def test_records_results_and_events_go_after_their_time(system: System) -> None:
    keep = {"JOB_RETENTION_SECS": "4"}
    gateway = system.gateway(**keep)
    script = system.script()
    script.plan(job="flood")
    system.scripted_worker(script, **keep)
    job_id = submit(gateway.http, "t.wav", TELEPHONE)
    last = list(events(gateway.http, job_id))[-1]
    assert last.event == "done"

    async def ask() -> str | None:
        client = await nats.connect(system.nats.url)
        reply = await client.request(f"whisper.jobs.get.{job_id}", b"", timeout=10)
        await client.close()
        return None if b'"result":null' in reply.data else job_id

    assert asyncio.run(ask()) == job_id
    assert asyncio.run(names(system.nats.url, "WHISPER_RESULTS")) != []

    async def left() -> int:
        client = await nats.connect(system.nats.url)
        js = client.jetstream()
        streams = ("KV_WHISPER_RECORDS", "OBJ_WHISPER_RESULTS")
        found = [(await js.stream_info(stream)).state.messages for stream in streams]
        info = await js.stream_info("WHISPER_EVENTS", subjects_filter=f"whisper.events.job.{job_id}.>")
        await client.close()
        return sum(found) + sum((info.state.subjects or {}).values())

    eventually(lambda: asyncio.run(left()) == 0)
    assert gateway.http.get(f"/jobs/{job_id}").status_code == 404
    assert gateway.http.get("/jobs").json()["jobs"] == []


async def test_orphans_are_swept_after_an_hour_and_nothing_else(
    js: JetStreamContext, broker_settings: BrokerSettings
) -> None:
    async def pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 200_000

    broken = 30  # so that the gateways get in each other's way
    store, records = ObjectStore(js, AUDIO_BUCKET), await JobRecords.open(js)
    await store.put("orphan", pieces(2))
    await store.put("queued", pieces(2))
    await WorkQueue(js, broker_settings).submit("queued", JobRequest())
    for number in range(broken):
        await js.publish(f"$O.{AUDIO_BUCKET}.C.brokenupload{number}", b"a chunk whose gateway was killed")
    async with connect(broker_settings, "other") as (_, other):
        sweeps = [
            Sweep(
                ObjectStore(j, AUDIO_BUCKET),
                ObjectStore(j, RESULTS_BUCKET),
                records,
                Rescue(j, DeadLetters(j)),
                0,
                60,
            )
            for j in (js, other)
        ]
        young = datetime.now(UTC) + ORPHAN_AGE - timedelta(minutes=1)
        await asyncio.gather(*(sweep.once(young) for sweep in sweeps))
        assert {info.name for info, _ in await store.objects()} == {"orphan", "queued"}
        assert (await js.stream_info(f"OBJ_{AUDIO_BUCKET}")).state.messages == 4 + 4 + 2 + broken
        old = datetime.now(UTC) + ORPHAN_AGE + timedelta(minutes=1)
        await asyncio.gather(*(sweep.once(old) for sweep in sweeps))
    assert {info.name for info, _ in await store.objects()} == {"queued"}
    assert (await js.stream_info(f"OBJ_{AUDIO_BUCKET}")).state.messages == 4 + 1
