"""broker/ against a real nats-server."""

import asyncio
import hashlib
import io
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from broker.audio_use import AudioUse
from broker.connection import connect, reconnected
from broker.dead_letters import DeadLetters
from broker.errors import AlreadySubmitted, Conflict, ObjectCorrupt, ObjectMissing, Unavailable
from broker.event_log import EventLog, Logged
from broker.job_records import JobRecords
from broker.object_store import CHUNK_BYTES, ObjectStore
from broker.scanning import BATCH, scan
from broker.settings import BrokerSettings
from broker.work_queue import WorkQueue
from schemas import subjects
from schemas.errors import ErrorCode, JobError
from schemas.events import Done, Progress, SegmentAdded, Started
from schemas.job_lifecycle import Cancelled, Claimed, Committed, Completed, Failed, IllegalChange, Released
from schemas.jobs import JobRequest, JobStatus, Segment
from tests.support.nats_process import NatsProcess

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def stored_messages(js: JetStreamContext) -> int:
    return int((await js.stream_info(f"OBJ_{subjects.AUDIO_BUCKET}")).state.messages)


async def test_connect_gives_up_in_words() -> None:
    settings = BrokerSettings(nats_url="nats://127.0.0.1:1", nats_connect_timeout_secs=0.5)
    with pytest.raises(Unavailable):
        async with connect(settings, "nobody"):
            pass


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 7, 20 * 1024 * 1024])
async def test_audio_round_trip_both_ways_with_nats_py(
    js: JetStreamContext, tmp_path: Path, size: int
) -> None:
    data, store = os.urandom(size), ObjectStore(js, subjects.AUDIO_BUCKET)
    theirs = await js.object_store(subjects.AUDIO_BUCKET)

    stored = await store.put("ours", pieces(data, 70_001))
    assert stored.size == size
    result = await theirs.get("ours")
    assert hashlib.sha256(result.data or b"").digest() == hashlib.sha256(data).digest()

    await theirs.put("theirs", io.BytesIO(data))
    assert await store.get_to_file("theirs", tmp_path / "out") == size
    assert (tmp_path / "out").read_bytes() == data


async def test_a_broken_upload_leaves_no_chunk(js: JetStreamContext) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield os.urandom(CHUNK_BYTES)
        raise ConnectionResetError("the client went away")

    with pytest.raises(ConnectionResetError):
        await ObjectStore(js, subjects.AUDIO_BUCKET).put("broken", breaks())
    assert await stored_messages(js) == 0


async def test_a_cancelled_upload_leaves_no_chunk(js: JetStreamContext) -> None:
    arrived = asyncio.Event()

    async def hangs() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield os.urandom(CHUNK_BYTES)
        arrived.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(ObjectStore(js, subjects.AUDIO_BUCKET).put("hung", hangs()))
    await arrived.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert await stored_messages(js) == 0


async def test_delete_leaves_nothing_and_forgives(js: JetStreamContext, tmp_path: Path) -> None:
    store = ObjectStore(js, subjects.AUDIO_BUCKET)
    await store.put("gone", pieces(os.urandom(500_000), 100_000))
    await store.delete("gone")
    await store.delete("never was")
    assert await stored_messages(js) == 0
    with pytest.raises(ObjectMissing):
        await store.get_to_file("gone", tmp_path / "out")


async def test_damaged_audio_is_found(js: JetStreamContext, tmp_path: Path) -> None:
    store = ObjectStore(js, subjects.AUDIO_BUCKET)
    await store.put("damaged", pieces(os.urandom(3 * CHUNK_BYTES), CHUNK_BYTES))
    theirs = await js.object_store(subjects.AUDIO_BUCKET)
    nuid = (await theirs.get_info("damaged")).nuid
    await js.delete_msg(f"OBJ_{subjects.AUDIO_BUCKET}", 1)
    await js.publish(f"$O.{subjects.AUDIO_BUCKET}.C.{nuid}", os.urandom(CHUNK_BYTES))
    with pytest.raises(ObjectCorrupt):
        await store.get_to_file("damaged", tmp_path / "out")


async def test_a_submission_is_a_queued_job_and_a_queued_event(
    client: Client, js: JetStreamContext, broker_settings: BrokerSettings
) -> None:
    queue, records, log = WorkQueue(js, broker_settings), await JobRecords.open(js), EventLog(js)
    await queue.submit("j1", JobRequest(filename="a.wav", created_at=NOW))
    with pytest.raises(AlreadySubmitted):
        await queue.submit("j1", JobRequest())
    record = await records.get("j1")
    assert record is not None
    assert (record.status, record.request.filename, record.created_at) == (JobStatus.QUEUED, "a.wav", NOW)
    assert await records.get("nobody") is None
    events = [logged async for logged in log.replay(subjects.all_events_of("j1"))]
    assert [e.type for e in events] == ["queued"]
    assert msgspec.json.decode(events[0].body)["filename"] == "a.wav"
    assert [r.id for r in await records.all()] == ["j1"]
    assert await records.queue_depth() == 1


async def test_a_second_submission_is_refused_after_the_duplicate_window_too(
    js: JetStreamContext, broker_settings: BrokerSettings
) -> None:
    await js.publish(subjects.submit("j1"), b"{}")
    with pytest.raises(AlreadySubmitted):
        await WorkQueue(js, broker_settings).submit("j1", JobRequest())


async def test_a_silent_worker_loses_the_job_and_its_writes_are_refused(
    js: JetStreamContext, broker_settings: BrokerSettings
) -> None:
    records = await JobRecords.open(js)
    queue, other = WorkQueue(js, broker_settings), WorkQueue(js, broker_settings)
    await queue.submit("j1", JobRequest(created_at=NOW))
    lost = await queue.pull()
    old = await records.change(lost.job_id, Claimed(at=NOW, worker_id="one"))
    again = await asyncio.wait_for(other.pull(), 10)  # the ack deadline of 2 s passes
    new = await records.change(again.job_id, Claimed(at=NOW, worker_id="two"))
    assert (old.epoch, new.epoch, new.attempts) == (1, 2, 2)
    commit = Committed(at=NOW, epoch=1, committed=1, progress=50, language=None, language_probability=None)
    with pytest.raises(IllegalChange):
        await records.change("j1", commit)
    await records.change("j1", msgspec.structs.replace(commit, epoch=2))
    done = await records.change("j1", Completed(at=NOW, epoch=2))
    assert (done.status, done.progress, done.committed) == (JobStatus.DONE, 100, 1)
    await again.ack()
    assert await records.queue_depth() == 0


async def test_kept_alive_keeps_the_job(js: JetStreamContext, broker_settings: BrokerSettings) -> None:
    queue, other = WorkQueue(js, broker_settings), WorkQueue(js, broker_settings)
    await queue.submit("j1", JobRequest())
    delivery = await queue.pull()
    async with delivery.kept_alive():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(other.pull(), 2 * broker_settings.job_ack_wait_secs)
    await delivery.put_back()
    assert (await asyncio.wait_for(other.pull(), 10)).job_id == "j1"


async def test_terminal_records_are_final_under_a_race(
    js: JetStreamContext, broker_settings: BrokerSettings
) -> None:
    queue, records = WorkQueue(js, broker_settings), await JobRecords.open(js)
    await queue.submit("j1", JobRequest(created_at=NOW))
    await records.change("j1", Claimed(at=NOW, worker_id="one"))
    error = JobError(code=ErrorCode.AUDIO_EMPTY, message="empty")
    changes = [Completed(at=NOW, epoch=1), Cancelled(at=NOW), Failed(at=NOW, epoch=1, error=error)] * 3
    results = await asyncio.gather(*(records.change("j1", c) for c in changes), return_exceptions=True)
    winners = [r for r in results if not isinstance(r, BaseException)]
    assert len(winners) == 1
    assert all(isinstance(r, IllegalChange) for r in results if r is not winners[0])
    assert await records.get("j1") == winners[0]


async def test_released_jobs_are_queued_again(js: JetStreamContext, broker_settings: BrokerSettings) -> None:
    records = await JobRecords.open(js)
    await WorkQueue(js, broker_settings).submit("j1", JobRequest(created_at=NOW))
    await records.change("j1", Claimed(at=NOW, worker_id="one"))
    record = await records.change("j1", Released(at=NOW, epoch=1))
    assert record.status is JobStatus.QUEUED
    assert (await records.change("j1", Claimed(at=NOW, worker_id="two"))).epoch == 2
    with pytest.raises(IllegalChange):
        await records.change("nobody", Cancelled(at=NOW))


async def test_the_event_log_is_fenced_and_replays_in_batches(client: Client, js: JetStreamContext) -> None:
    log, count = EventLog(js), 2 * BATCH + 3
    last = await log.append(Started(job_id="j1", at=NOW, worker_id="w", attempt=1))
    for index in range(count):
        segment = Segment(index=index, start=index, end=index + 1, text=f" {index}")
        last = await log.append_next(SegmentAdded(job_id="j1", at=NOW, segment=segment), last)
    await log.append(Progress(job_id="other", at=NOW, percent=1))
    again = SegmentAdded(job_id="j1", at=NOW, segment=segment)
    assert await log.append_next(again, last - 1) == last  # sent again, because its answer was lost
    with pytest.raises(Conflict):
        await log.append_next(msgspec.structs.replace(again, at=NOW + timedelta(seconds=1)), last - 1)
    assert [s.index for s in await log.segments("j1")] == list(range(count))
    everything = [logged async for logged in log.replay(subjects.all_events_of("j1"))]
    assert len(everything) == count + 1
    assert [
        logged.seq async for logged in log.replay(subjects.all_events_of("j1"), after=everything[9].seq)
    ] == [e.seq for e in everything[10:]]
    assert [logged async for logged in log.replay(subjects.all_events_of("nobody"))] == []
    newest = await log.last("j1", "segment")
    assert newest is not None
    assert newest.seq == last
    assert await log.last("j1", "done") is None


async def test_one_terminal_event_however_often_it_is_told(
    client: Client, js: JetStreamContext, broker_settings: BrokerSettings
) -> None:
    log, records = EventLog(js), await JobRecords.open(js)
    await WorkQueue(js, broker_settings).submit("j1", JobRequest(created_at=NOW))
    await records.change("j1", Claimed(at=NOW, worker_id="one"))
    record = await records.change("j1", Completed(at=NOW, epoch=1))
    await asyncio.gather(*(log.append_terminal(record, NOW) for _ in range(5)))
    kinds = [logged.type async for logged in log.replay(subjects.all_events_of("j1"))]
    assert kinds == ["queued", "done"]
    found = await log.last("j1", "done")
    assert found is not None
    assert msgspec.json.decode(found.body, type=Done).record == record


async def test_following_delivers_live_events_in_order(client: Client, js: JetStreamContext) -> None:
    log, seen = EventLog(js), asyncio.Queue[Logged]()
    await log.append(Progress(job_id="before", at=NOW, percent=1))
    async with log.following(seen.put):
        for percent in range(50):
            await log.append(Progress(job_id="j1", at=NOW, percent=percent))
        got = [await asyncio.wait_for(seen.get(), 5) for _ in range(50)]
    assert [msgspec.json.decode(g.body)["percent"] for g in got] == list(range(50))
    assert {g.topic for g in got} == {subjects.job_topic("j1")}


@pytest.mark.parametrize("heard_before", [True, False])
async def test_following_and_pulling_go_on_at_once_after_a_restart_of_the_server(
    nats_process: NatsProcess,
    broker_settings: BrokerSettings,
    client: Client,
    js: JetStreamContext,
    heard_before: bool,
) -> None:
    """Within the 5 s of each wait: nats-py alone takes up to 20 s, and 30 s for a pull request that is lost."""
    log, seen, queue = EventLog(js), asyncio.Queue[Logged](), WorkQueue(js, broker_settings)
    await log.append(Progress(job_id="before", at=NOW, percent=1))
    pulling = asyncio.create_task(queue.pull())
    async with log.following(seen.put), connect(broker_settings, "other") as (_, other_js):
        if heard_before:
            await log.append(Progress(job_id="j1", at=NOW, percent=1))
            assert (await asyncio.wait_for(seen.get(), 5)).topic == subjects.job_topic("j1")
        nats_process.stop(signal.SIGKILL)
        nats_process.start()
        await asyncio.wait_for(reconnected(other_js), 5)
        await EventLog(other_js).append(Progress(job_id="j1", at=NOW, percent=2))
        found = await asyncio.wait_for(seen.get(), 5)
        assert msgspec.json.decode(found.body)["percent"] == 2
        await WorkQueue(other_js, broker_settings).submit("j2", JobRequest())
        assert (await asyncio.wait_for(pulling, 5)).job_id == "j2"
        assert (await asyncio.wait_for(seen.get(), 5)).type == subjects.QUEUED
        assert seen.empty()


async def test_an_unusable_submission_is_no_job(js: JetStreamContext) -> None:
    await js.publish(subjects.submit("bad"), b"not json")
    assert await (await JobRecords.open(js)).get("bad") is None
    with pytest.raises(NotFoundError):
        await js.get_msg(subjects.EVENTS_STREAM, subject=subjects.event("nobody", "queued"), direct=True)


async def test_a_scan_goes_on_where_the_server_ends_a_batch_by_its_bytes(js: JetStreamContext) -> None:
    """nats-server ends a batch of direct gets also at a size of its own: 75 messages of 900 kB instead of 256."""
    count = 90
    for number in range(count):
        await js.publish(f"whisper.dead.submit.large-{number}", b"x" * 900_000)
    found = [stored.subject async for stored in scan(js, subjects.DEAD_STREAM, subjects.ALL_DEAD)]
    assert found == [f"whisper.dead.submit.large-{number}" for number in range(count)]


async def test_an_object_goes_with_the_last_job_that_names_it(
    js: JetStreamContext, broker_settings: BrokerSettings
) -> None:
    store, records = ObjectStore(js, subjects.AUDIO_BUCKET), await JobRecords.open(js)
    queue, use = WorkQueue(js, broker_settings), AudioUse(js, records, store)
    await store.put("shared", pieces(b"x" * 10, 10))
    for job_id in ("one", "two", "three"):
        await queue.submit(job_id, JobRequest(audio="shared"))
    for job_id in ("two", "one", "three"):
        assert await store.digest("shared") is not None
        await use.release(await records.change(job_id, Cancelled(at=NOW)))
        await records.unqueue(job_id)
    assert await store.digest("shared") is None


async def test_an_object_of_a_job_that_another_names_too_waits_for_that(
    js: JetStreamContext, broker_settings: BrokerSettings
) -> None:
    store, records = ObjectStore(js, subjects.AUDIO_BUCKET), await JobRecords.open(js)
    queue, use = WorkQueue(js, broker_settings), AudioUse(js, records, store)
    await store.put("first", pieces(b"x" * 10, 10))
    await queue.submit("first", JobRequest())
    await queue.submit("second", JobRequest(audio="first"))
    await use.release(await records.change("first", Cancelled(at=NOW)))
    assert await store.digest("first") is not None
    await use.release(await records.change("second", Cancelled(at=NOW)))
    assert await store.digest("first") is None


async def test_a_dead_letter_is_kept_also_where_its_headers_make_it_too_large(
    client: Client, js: JetStreamContext
) -> None:
    dead = DeadLetters(js)
    await dead.add("whisper.jobs.submit.x", b"y" * (client.max_payload - 10), "r" * 100_000, "id")
    [letter] = await dead.all()
    assert letter.body == b"y" * ((client.max_payload - 10) // 2)
    assert "only its first" in letter.reason


async def test_a_job_that_is_in_the_queue_again_is_not_requeued_twice(
    js: JetStreamContext, broker_settings: BrokerSettings
) -> None:
    dead, queue = DeadLetters(js), WorkQueue(js, broker_settings)
    await dead.add(subjects.submit("j"), b"{}", "r", "id")
    [letter] = await dead.all()
    await queue.submit("j", JobRequest())
    with pytest.raises(AlreadySubmitted):
        await dead.requeue(letter.seq)


async def test_a_record_that_somebody_has_deleted_is_written_again(
    js: JetStreamContext, broker_settings: BrokerSettings
) -> None:
    """`nats kv del` leaves a marker, over which the next record must be written."""
    records = await JobRecords.open(js)
    await WorkQueue(js, broker_settings).submit("j", JobRequest())
    bucket = await js.key_value(subjects.RECORDS_BUCKET)
    await bucket.put("j", b"not a record")
    await bucket.delete("j")
    assert (await records.change("j", Cancelled(at=NOW))).status is JobStatus.CANCELLED
