"""Claims: nothing is told of a job behind its end, answers that were lost count once, and deliveries are kept apart."""

import asyncio
from datetime import UTC, datetime

import pytest
from nats.js import JetStreamContext

from broker.errors import BrokerError, Conflict, Unavailable
from broker.event_log import EventLog
from broker.job_records import JobRecords
from broker.settings import BrokerSettings
from broker.work_queue import Delivery, WorkQueue
from gpu_worker.job.claim import Claim
from gpu_worker.job.settling import Settling
from gpu_worker.job.storage import JobStorage
from gpu_worker.machine import Machine
from gpu_worker.model.gpu import Gpu
from gpu_worker.model.model import Model
from gpu_worker.settings import WorkerSettings
from schemas.events import JobEvent, SegmentAdded
from schemas.job_lifecycle import Cancelled, Change, Claimed, IllegalChange
from schemas.jobs import JobRecord, JobRequest, JobStatus, Segment
from schemas.model import GpuStatus

NOW = datetime(2026, 11, 26, tzinfo=UTC)


class NoGpu(Gpu):
    def status(self) -> GpuStatus | None:
        return None

    def used_by(self, pid: int) -> int | None:
        return None


async def no_probe() -> None:
    return


@pytest.fixture
async def storage(js: JetStreamContext) -> JobStorage:
    return await JobStorage.open(js)


def claim_on(storage: JobStorage) -> Claim:
    return Claim("j1", "w", storage.records, storage.events, retention_secs=3600)


def settling_of(delivery: Delivery, storage: JobStorage) -> Settling:
    machine = Machine(no_probe, lambda: None)
    return Settling(delivery, claim_on(storage), storage, machine, audio_retention_secs=0)


async def submit(js: JetStreamContext, settings: BrokerSettings) -> None:
    await WorkQueue(js, settings).submit("j1", JobRequest(created_at=NOW))
    while await EventLog(js).last("j1", "queued") is None:
        await asyncio.sleep(0.01)


async def cancel(storage: JobStorage) -> None:
    """As a gateway does it."""
    record = await storage.records.change("j1", Cancelled(at=NOW))
    await storage.events.append_terminal(record, NOW)


async def told(js: JetStreamContext) -> list[str]:
    return [logged.type async for logged in EventLog(js).replay("whisper.events.job.j1.*")]


class CancelledMeanwhile(EventLog):
    """The job is cancelled right before something is told of it."""

    storage: JobStorage

    async def append_next(self, event: JobEvent, last: int) -> int:
        await cancel(self.storage)
        return await super().append_next(event, last)


async def test_nothing_is_told_of_a_job_that_is_cancelled_right_after_it_is_claimed(
    js: JetStreamContext, broker_settings: BrokerSettings, storage: JobStorage
) -> None:
    await submit(js, broker_settings)
    storage.events = log = CancelledMeanwhile(js)
    log.storage = storage
    with pytest.raises((IllegalChange, Conflict)):
        await claim_on(storage).take(None)
    assert await told(js) == ["queued", "cancelled"]


class CancelledOnceClaimed(JobRecords):
    """The job is cancelled, and that is told, right after it is claimed."""

    storage: JobStorage

    async def change(self, job_id: str, change: Change) -> JobRecord:
        record = await super().change(job_id, change)
        if isinstance(change, Claimed):
            await cancel(self.storage)
        return record


async def test_the_fence_begins_before_the_claim(
    js: JetStreamContext, broker_settings: BrokerSettings, storage: JobStorage
) -> None:
    await submit(js, broker_settings)
    storage.records = records = await CancelledOnceClaimed.open(js)
    records.storage = storage
    with pytest.raises((IllegalChange, Conflict)):
        await claim_on(storage).take(None)
    assert await told(js) == ["queued", "cancelled"]


async def test_what_another_worker_tells_meanwhile_is_taken_over(
    js: JetStreamContext, broker_settings: BrokerSettings, storage: JobStorage
) -> None:
    """The one before us was slow, and publishes one more segment between our look and our word."""
    await submit(js, broker_settings)
    await claim_on(storage).take(None)
    log = EventLog(js)

    class OneMore(EventLog):
        is_first = True

        async def append_next(self, event: JobEvent, last: int) -> int:
            if self.is_first:
                self.is_first = False
                segment = Segment(index=0, start=0, end=1, text=" late")
                await log.append(SegmentAdded(job_id="j1", at=NOW, segment=segment))
            return await super().append_next(event, last)

    storage.events = OneMore(js)
    claim = claim_on(storage)
    record = await claim.take(None)
    assert (record.epoch, record.attempts) == (2, 2)
    assert [segment.text for segment in claim.segments] == [" late"]
    assert await told(js) == ["queued", "started", "segment", "started"]


class AnswersAreLost(JobRecords):
    """Every change is stored, and its answer is lost the first time."""

    lost = 0

    async def change(self, job_id: str, change: Change) -> JobRecord:
        record = await super().change(job_id, change)
        self.lost += 1
        if self.lost % 2:
            raise Unavailable("the answer is lost")
        return record


async def test_a_claim_and_a_release_whose_answers_are_lost_count_once(
    js: JetStreamContext,
    broker_settings: BrokerSettings,
    storage: JobStorage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("process.retry.RETRY_SECS", 0.01)
    await submit(js, broker_settings)
    queue = WorkQueue(js, broker_settings)
    storage.records = await AnswersAreLost.open(js)
    settling = settling_of(await queue.pull(), storage)
    record = await settling.claim.take(None)
    assert (record.epoch, record.attempts) == (1, 1)
    with pytest.raises(BrokerError):
        await settling.release()
    await settling.release()
    record_now = await (await JobRecords.open(js)).get("j1")
    assert record_now is not None
    assert (record_now.status, record_now.attempts, record_now.claims) == (JobStatus.QUEUED, 0, ())
    async with asyncio.timeout(10):  # and it is in the queue again
        assert (await queue.pull()).job_id == "j1"


async def test_a_delivery_of_a_job_that_is_in_hand_is_adopted(
    js: JetStreamContext, broker_settings: BrokerSettings, storage: JobStorage
) -> None:
    await submit(js, broker_settings)
    queue = WorkQueue(js, broker_settings)
    first = await queue.pull()
    settling = settling_of(first, storage)
    async with asyncio.timeout(20):
        again = await queue.pull()  # after the ack wait
    assert (again.key != first.key, again.seq, again.deliveries) == (True, first.seq, 2)
    assert settling.adopt(again)
    await settling.put_back()
    assert (again.is_settled, first.is_settled) == (True, False)
    async with asyncio.timeout(20):
        assert not settling.adopt(await queue.pull())  # this one is on its way out


async def test_two_deliveries_of_one_job_have_two_seats() -> None:
    model = Model(WorkerSettings(worker_id="w"), NoGpu(), lambda _: None, lambda _: None)
    stops = {key: asyncio.Event() for key in ("a", "b", "c")}
    for key, job_id in {"a": "j1", "b": "j1", "c": "j2"}.items():
        model.job_arrived(key, job_id, stops[key])
    model.job_left("a")
    model.job_arrived("a", "j1", stops["a"])
    model.stop_job("j1")
    assert [stop.is_set() for stop in stops.values()] == [True, True, False]
    assert not model.is_evicted("a")
