"""Who may tell something of a job: only the worker that told of it last, and nobody after its end."""

import asyncio
from datetime import UTC, datetime

import pytest
from nats.js import JetStreamContext

from broker.errors import Conflict
from broker.event_log import EventLog
from broker.job_records import JobRecords
from broker.settings import BrokerSettings
from broker.work_queue import WorkQueue
from schemas.events import JobEvent, Progress, SegmentAdded, Started
from schemas.job_lifecycle import Cancelled, Change, Claimed
from schemas.jobs import JobRequest, Segment

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
PROGRESS = Progress(job_id="j1", at=NOW, percent=1)
SEGMENT = SegmentAdded(job_id="j1", at=NOW, segment=Segment(index=0, start=0, end=1, text=" x"))


def started(worker_id: str) -> Started:
    return Started(job_id="j1", at=NOW, worker_id=worker_id, attempt=1)


async def types(log: EventLog) -> list[str]:
    return [logged.type async for logged in log.replay("whisper.events.job.j1.*")]


@pytest.mark.parametrize("event", [PROGRESS, SEGMENT])
async def test_nobody_tells_of_a_job_behind_its_end(
    js: JetStreamContext, broker_settings: BrokerSettings, event: JobEvent
) -> None:
    log, records = EventLog(js), await JobRecords.open(js)
    await WorkQueue(js, broker_settings).submit("j1", JobRequest(created_at=NOW))
    last = await log.append(started("one"))
    changes: list[Change] = [Claimed(at=NOW, worker_id="one"), Cancelled(at=NOW)]
    for change in changes:
        record = await records.change("j1", change)
    last = await log.append_next(event, last)
    await log.append_terminal(record, NOW)
    with pytest.raises(Conflict):
        await log.append_next(event, last)
    assert (await types(log))[-1] == "cancelled"


@pytest.mark.parametrize("event", [PROGRESS, SEGMENT])
async def test_a_worker_whose_job_another_has_taken_is_silent(js: JetStreamContext, event: JobEvent) -> None:
    log = EventLog(js)
    mine = await log.append(started("one"))
    theirs = await log.append(started("two"))
    with pytest.raises(Conflict):
        await log.append_next(event, mine)
    await log.append_next(event, theirs)
    assert await types(log) == ["started", "started", type(event).__struct_config__.tag]


async def test_that_a_job_was_submitted_again_stops_nobody(
    js: JetStreamContext, broker_settings: BrokerSettings
) -> None:
    """As when a gateway puts back what nats-server had forgotten; or where `queued` comes late, from another server."""
    log = EventLog(js)
    last = await log.append(started("one"))
    await WorkQueue(js, broker_settings).submit("j1", JobRequest(created_at=NOW))
    while await log.last("j1", "queued") is None:
        await asyncio.sleep(0.01)
    last = await log.append_next(PROGRESS, last)
    await log.append_next(SEGMENT, last)
    assert await types(log) == ["started", "queued", "progress", "segment"]
