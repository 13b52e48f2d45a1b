"""Event streams over the log as it is: late ends, events that nobody can read, places that are none, a log made anew."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from broker import following
from broker.event_log import EventLog, Logged
from broker.job_records import JobRecords
from broker.settings import BrokerSettings
from broker.topology.ensure import ensure
from broker.work_queue import WorkQueue
from broker.worker_status import WorkerStatuses
from gateway.assembly import Stores, job_operations
from gateway.operations.jobs import JobOperations
from gateway.operations.model import ModelOperations
from gateway.settings import GatewaySettings
from gateway.streaming import sse
from gateway.streaming.fanout import Fanout, StreamOver
from gateway.streaming.job_streams import JobStreams
from gateway.streaming.model_stream import ModelStream
from schemas import subjects
from schemas.events import Done, Progress, SegmentAdded, Started
from schemas.job_lifecycle import Cancelled, Claimed, Completed
from schemas.jobs import JobRecord, JobRequest, Segment
from schemas.model import ModelEvent, ModelState, ModelStatus

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
HEARTBEAT_SECS = 0.3
PATIENCE_SECS = 10.0
DEEP = b'{"x":' + b"[" * 100_000
GARBAGE = [b"", b"{}", b"not json", b"\xff\xfe", DEEP, b'{"type":"started","job_id":"j\xff"}', b"[]", b"null"]


@dataclass
class Services:
    """The parts of a gateway that event streams are made of."""

    queue: WorkQueue
    events: EventLog
    jobs: JobOperations
    fanout: Fanout
    streams: JobStreams
    models: ModelStream


@pytest.fixture
async def services(
    broker_settings: BrokerSettings, client: Client, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Services]:
    """A gateway without its HTTP, that looks often whether its consumer is there."""
    monkeypatch.setattr(following, "CHECK_SECS", 0.2)
    settings = GatewaySettings(nats_url=broker_settings.nats_url, sse_heartbeat_secs=HEARTBEAT_SECS)
    js = client.jetstream()
    stores, statuses = Stores(js, await JobRecords.open(js)), await WorkerStatuses.open(js)
    jobs, fanout = job_operations(settings, stores, statuses), Fanout(stores.events, settings.sse_buffer)
    services = Services(
        queue=WorkQueue(js, settings),
        events=stores.events,
        jobs=jobs,
        fanout=fanout,
        streams=JobStreams(jobs, stores.events, fanout, HEARTBEAT_SECS),
        models=ModelStream(ModelOperations(client, statuses), stores.events, fanout, HEARTBEAT_SECS),
    )
    async with fanout.running():
        yield services


def parsed(frame: bytes) -> tuple[int | None, str, Any]:
    fields = dict(line.split(": ", 1) for line in frame.decode().strip().split("\n"))
    return int(fields["id"]) if "id" in fields else None, fields["event"], json.loads(fields["data"])


async def told(frames: AsyncIterator[bytes], until: str | None = None) -> list[tuple[int | None, str, Any]]:
    """What a stream tells but for its heartbeats: to its end, or up to an event of a type."""
    found: list[tuple[int | None, str, Any]] = []
    async with asyncio.timeout(PATIENCE_SECS), aclosing(frames) as open_frames:  # type: ignore[type-var] # a generator
        async for frame in open_frames:
            if frame != sse.HEARTBEAT:
                found.append(parsed(frame))
                if found[-1][1] == until:
                    return found
    return found


def kinds(found: list[tuple[int | None, str, Any]]) -> list[str]:
    return [event for _, event, _ in found]


async def queued(services: Services, job_id: str = "j1") -> JobRecord:
    await services.queue.submit(job_id, JobRequest(created_at=NOW))
    while await services.events.last(job_id, subjects.QUEUED) is None:
        await asyncio.sleep(0.01)
    return await services.jobs.record(job_id)


async def running(services: Services, job_id: str = "j1") -> JobRecord:
    await queued(services, job_id)
    record = await services.jobs.records.change(job_id, Claimed(at=NOW, worker_id="w"))
    await services.events.append(Started(job_id=job_id, at=NOW, worker_id="w", attempt=1))
    return record


async def progress(services: Services, percent: int, job_id: str = "j1") -> int:
    return await services.events.append(Progress(job_id=job_id, at=NOW, percent=percent))


async def completed(services: Services, job_id: str = "j1") -> JobRecord:
    """By its record alone, as where the worker dies before it can tell."""
    return await services.jobs.records.change(job_id, Completed(at=NOW, epoch=1))


async def publish(client: Client, job_id: str, event_type: str, body: bytes) -> int:
    return (await client.jetstream().publish(subjects.event(job_id, event_type), body)).seq


# The end.


async def test_a_late_end_is_told_to_who_comes_back(services: Services) -> None:
    record, seen = await running(services), await progress(services, 10)
    ended = await completed(services)
    assert not await services.streams.is_over(ended, seen)
    [(seq, kind, data)] = await told(services.streams.frames(ended, seen))
    assert (seq, kind, data["job"]["status"]) == (None, "done", "done")
    await services.events.append_terminal(ended, NOW)
    [(seq, kind, _)] = await told(services.streams.frames(record, seen))
    assert kind == "done"
    assert seq is not None
    assert await services.streams.is_over(ended, seq)
    assert not await services.streams.is_over(ended, seq - 1)


async def test_a_stream_ends_though_the_end_is_never_stored(services: Services) -> None:
    stream = asyncio.create_task(told(services.streams.frames(await running(services), 0)))
    await progress(services, 10)
    await asyncio.sleep(HEARTBEAT_SECS)
    await completed(services)
    assert kinds(await stream) == ["queued", "started", "progress", "done"]


async def test_a_stream_ends_where_its_job_is_erased(services: Services) -> None:
    stream = asyncio.create_task(told(services.streams.frames(await running(services), 0)))
    await asyncio.sleep(HEARTBEAT_SECS)
    await services.jobs.records.unqueue("j1")
    await services.jobs.records.erase("j1")
    assert kinds(await stream) == ["queued", "started"]


async def test_the_end_comes_once_where_it_is_stored_in_time(services: Services) -> None:
    record = await running(services)
    stream = asyncio.create_task(told(services.streams.frames(record, 0)))
    await progress(services, 10)
    await services.events.append_terminal(await completed(services), NOW)
    assert kinds(await stream) == ["queued", "started", "progress", "done"]


# Nothing is told twice.


class Racing(EventLog):
    """The real log, in which an event is stored and heard between a client's listening and its reading of what is stored."""

    def __init__(self, services: Services, js: JetStreamContext) -> None:
        super().__init__(js)
        self._services, self._waits = services, True

    async def replay(self, pattern: str, after: int = 0) -> AsyncIterator[Logged]:
        if self._waits:
            self._waits = False
            async with self._services.fanout.listening(subjects.job_topic("j1")) as listener:
                await progress(self._services, 10)
                await progress(self._services, 20)
                for _ in range(2):
                    assert await listener.next(PATIENCE_SECS) is not None
        async for logged in super().replay(pattern, after):
            yield logged


async def test_what_was_stored_and_heard_is_told_once(services: Services, client: Client) -> None:
    record = await running(services)
    racing = Racing(services, client.jetstream())
    frames = JobStreams(services.jobs, racing, services.fanout, HEARTBEAT_SECS).frames(record, 0)
    stream = asyncio.create_task(told(frames))
    await asyncio.sleep(2 * HEARTBEAT_SECS)
    await progress(services, 30)
    await services.events.append_terminal(await completed(services), NOW)
    found = await stream
    assert [d.get("percent") for _, kind, d in found if kind == "progress"] == [10, 20, 30]
    ids = [seq for seq, _, _ in found]
    assert ids == sorted(set(ids), key=lambda seq: seq or 0)


# Events that nobody can read.


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("kind", ["started", "progress", "segment", "invalid", "done", "failed", "sparkle"])
async def test_what_cannot_be_read_is_passed_over(
    services: Services, client: Client, kind: str, live: bool
) -> None:
    record = await running(services)
    for body in () if live else GARBAGE:
        await publish(client, "j1", kind, body)
    stream = asyncio.create_task(told(services.streams.frames(record, 0), until="segment"))
    await asyncio.sleep(HEARTBEAT_SECS)
    for body in GARBAGE if live else ():
        await publish(client, "j1", kind, body)
    segment = SegmentAdded(job_id="j1", at=NOW, segment=Segment(index=0, start=0, end=1, text=" x"))
    await services.events.append(segment)
    assert kinds(await stream) == ["queued", "started", "segment"]


@pytest.mark.parametrize("body", GARBAGE[:4])
async def test_an_end_that_cannot_be_read_is_told_by_the_record(
    services: Services, client: Client, body: bytes
) -> None:
    record = await running(services)
    ended = await services.jobs.records.change("j1", Cancelled(at=NOW))
    seq = await publish(client, "j1", "cancelled", body)
    found = await told(services.streams.frames(record, 0))
    assert [(s, k) for s, k, _ in found][-1] == (seq, "cancelled")
    assert found[-1][2]["job"]["status"] == "cancelled"
    assert await services.streams.is_over(ended, seq)


async def test_an_end_of_another_job_is_none(services: Services, client: Client) -> None:
    record = await running(services)
    other = await running(services, "secret")
    event = Done(job_id="j1", at=NOW, record=await completed(services, other.id))
    await publish(client, "j1", "done", msgspec.json.encode(event))
    stream = asyncio.create_task(told(services.streams.frames(record, 0), until="progress"))
    await progress(services, 5)
    assert kinds(await stream) == ["queued", "started", "progress"]


async def test_one_bad_event_takes_nothing_from_other_jobs(
    services: Services, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    records = [await running(services, job_id) for job_id in ("j1", "j2")]
    streams = [asyncio.create_task(told(services.streams.frames(r, 0), until="progress")) for r in records]
    await asyncio.sleep(HEARTBEAT_SECS)
    for subject in (
        "whisper.events.x",
        "whisper.events.job.j1",
        "whisper.events.job.j1.done.x",
        "whisper.events.a.b.c.d",
    ):
        await client.jetstream().publish(subject, b"{}")
    bad = await publish(client, "j1", "started", b"{}")
    for job_id in ("j1", "j2"):
        await progress(services, 7, job_id)
    assert [kinds(await f) for f in streams] == [["queued", "started", "progress"]] * 2
    assert f"event {bad} on whisper.events.job.j1.started cannot be read" in caplog.text


# Places in the log.


async def test_a_place_is_the_jobs_own_or_pruned(services: Services, client: Client) -> None:
    one, other = await running(services), await running(services, "j2")
    mine, theirs = await progress(services, 1), await progress(services, 1, "j2")
    last = await progress(services, 2)

    async def places(record: JobRecord) -> list[int]:
        return [
            await services.streams.resume_point(record, seq)
            for seq in (0, mine, theirs, last, last + 1, 10**18)
        ]

    assert await places(one) == [0, mine, 0, last, 0, 0]
    assert await places(other) == [0, 0, theirs, 0, 0, 0]
    await client.jetstream().purge_stream(subjects.EVENTS_STREAM, seq=theirs + 1)
    assert await places(one) == [0, mine, theirs, last, 0, 0]


async def test_who_was_further_than_the_log_begins_at_its_beginning(services: Services) -> None:
    record = await running(services)
    after = await services.streams.resume_point(record, 1_000_000)
    await services.events.append_terminal(ended := await completed(services), NOW)
    assert not await services.streams.is_over(ended, after)
    assert kinds(await told(services.streams.frames(record, after))) == ["queued", "started", "done"]


async def made_anew(client: Client, settings: BrokerSettings) -> None:
    """As an operator may do it under a running gateway."""
    js = client.jetstream()
    await js.delete_stream(subjects.EVENTS_STREAM)
    await ensure(js, settings)


@pytest.mark.parametrize("has_grown", [False, True])
async def test_a_log_that_is_made_anew_is_followed_from_its_beginning(
    services: Services,
    client: Client,
    broker_settings: BrokerSettings,
    monkeypatch: pytest.MonkeyPatch,
    has_grown: bool,
) -> None:
    looks, is_made = following.Follower._is_whole, asyncio.Event()

    async def looks_late(follower: following.Follower) -> bool:
        await is_made.wait()
        return await looks(follower)

    monkeypatch.setattr(following.Follower, "_is_whole", looks_late)
    record = await running(services)
    before = asyncio.create_task(told(services.streams.frames(record, 0)))
    seen = await progress(services, 1)
    await asyncio.sleep(HEARTBEAT_SECS)
    await made_anew(client, broker_settings)
    for percent in range(2, 12 if has_grown else 3):
        await progress(services, percent)
    is_made.set()
    assert kinds(await before) == ["queued", "started", "progress"]  # it is cut, and comes back
    after = await services.streams.resume_point(record, seen)
    stream = asyncio.create_task(told(services.streams.frames(record, after)))
    await asyncio.sleep(HEARTBEAT_SECS)
    await services.events.append_terminal(await completed(services), NOW)
    assert kinds(await stream)[-1] == "done"


async def test_the_end_of_a_job_of_an_older_log_is_not_anothers(
    services: Services, client: Client, broker_settings: BrokerSettings
) -> None:
    """Last frames are kept: by what they are of, not by a number that comes again."""
    first = await completed(services, (await running(services, "j1")).id)
    await services.events.append_terminal(first, NOW)
    assert (await told(services.streams.frames(first, 0)))[-1][2]["job"]["id"] == "j1"
    await made_anew(client, broker_settings)
    second = await completed(services, (await running(services, "j2")).id)
    await services.events.append_terminal(second, NOW)
    assert (await told(services.streams.frames(second, 0)))[-1][2]["job"]["id"] == "j2"


async def test_where_the_gateway_stops_no_stream_begins(services: Services) -> None:
    services.fanout.end()
    async with services.fanout.listening("x") as listener:
        with pytest.raises(StreamOver):
            await listener.next(PATIENCE_SECS)


# The models' events.


async def model_event(client: Client, kind: str) -> int:
    event = ModelEvent(type=kind, worker_id="w", at=NOW, model=ModelStatus(state=ModelState.READY))
    subject = subjects.model_event("w", "x")  # where it is told does not say what it is
    return (await client.jetstream().publish(subject, msgspec.json.encode(event))).seq


async def test_model_events_that_cannot_be_read_or_are_unknown_are_passed_over(
    services: Services, client: Client
) -> None:
    async with services.fanout.listening(subjects.MODEL_EVENTS_PREFIX) as listener:
        first = await model_event(client, "model_loading")
        assert (
            await listener.next(PATIENCE_SECS) is not None
        )  # else a stream that begins now may still see it
    for after in (0, first):
        stream = asyncio.create_task(told(services.models.frames(after), until="model_ready"))
        await asyncio.sleep(HEARTBEAT_SECS)
        for body in GARBAGE:
            await client.jetstream().publish(subjects.model_event("w", "model_ready"), body)
        for kind in ("model_sparkle", "model_x\ndata: y", "model_ready"):
            await model_event(client, kind)
        assert kinds(await stream) == (["model_ready"] if after else ["model_status", "model_ready"])


async def test_a_place_beyond_the_log_is_the_beginning_of_model_events(
    services: Services, client: Client
) -> None:
    await queued(services)
    for after in (1_000_000, await services.events.last_sequence()):
        stream = asyncio.create_task(told(services.models.frames(after), until="model_ready"))
        await asyncio.sleep(HEARTBEAT_SECS)
        await model_event(client, "model_ready")
        assert kinds(await stream) == ["model_status", "model_ready"]
