"""What can be done with a job that was submitted: read, list, cancel, erase. Behind both doors, HTTP and NATS."""

import asyncio
from datetime import UTC, datetime
from functools import partial

import msgspec

from broker.audio_use import AudioUse
from broker.event_log import EventLog
from broker.job_records import JobRecords, has_ended
from broker.object_store import ObjectStore
from broker.reading import usable
from broker.worker_status import WorkerStatuses
from gateway.operations.listing import ListQuery, page
from gateway.operations.queue_estimate import Place, place
from schemas import events, inputs, subjects
from schemas.errors import ErrorCode, RequestError
from schemas.job_lifecycle import Cancelled, IllegalChange
from schemas.jobs import Job, JobList, JobRecord, JobStatus, to_job
from schemas.model import WorkerStatus

QUEUE_VIEW_SECS = 1.0
"""How old the queue may be that positions are counted in: a thousand clients that poll cost one look a second."""
LEAVE_QUEUE_SECS = 2.0
"""How long erasing waits for the worker's last word on a job that has ended just now."""
POLL_SECS = 0.05


class QueueView(msgspec.Struct, kw_only=True, frozen=True):
    seen_at: float
    queue: list[str]
    workers: list[WorkerStatus]


class JobService:
    def __init__(
        self,
        records: JobRecords,
        log: EventLog,
        audio: AudioUse,
        results: ObjectStore,
        statuses: WorkerStatuses,
        audio_retention_secs: float,
    ) -> None:
        self.records, self._log, self._audio, self._results = records, log, audio, results
        self._statuses, self._audio_retention_secs = statuses, audio_retention_secs
        self._view = QueueView(seen_at=-QUEUE_VIEW_SECS, queue=[], workers=[])
        self._looking = asyncio.Lock()

    async def record(self, job_id: str) -> JobRecord:
        """Raises RequestError `not_found`, Unavailable."""
        record = await self.records.get(job_id) if subjects.is_job_id(job_id) else None
        if record is None:
            raise RequestError(ErrorCode.NOT_FOUND, f"There is no job {job_id}.")
        return record

    async def job(self, record: JobRecord) -> Job:
        """The job with its transcript so far, and its place where it is queued."""
        segments = await self._log.segments(record.id)
        percent = 0
        if not has_ended(record) and (last := await self._log.last(record.id, "progress")):
            progress = usable(partial(inputs.job_event, last.subject), last.subject, last.seq, last.body)
            percent = progress.percent if isinstance(progress, events.Progress) else 0
        found = await self._place(record)
        return to_job(record, segments, percent, queue_position=found.position, eta=found.eta)

    async def list(self, query: ListQuery) -> JobList:
        """Raises Unavailable."""
        shown, cursor = page(await self.records.all(), query)
        return JobList(jobs=[await self._listed(record) for record in shown], next_cursor=cursor)

    async def cancel(self, job_id: str) -> JobRecord:
        """End the job now: the record decides, the worker follows. Raises RequestError `not_found`, `job_finished`."""
        await self.record(job_id)
        try:
            record = await self.records.change(job_id, Cancelled(at=datetime.now(UTC)))
        except IllegalChange as error:
            raise RequestError(ErrorCode.JOB_FINISHED, f"The job {job_id} has already ended.") from error
        await self._log.append_terminal(record, datetime.now(UTC))
        await self.records.unqueue(job_id)
        if self._audio_retention_secs == 0:
            await self._audio.release(record)
        return record

    async def erase(self, job_id: str) -> None:
        """Remove everything that is known of a job that has ended. Raises RequestError `not_found`, `job_running`."""
        record = await self.record(job_id)
        if not has_ended(record) or not await self._has_left_the_queue(job_id):
            raise RequestError(
                ErrorCode.JOB_RUNNING, "Only a job that has ended can be erased: cancel it first."
            )
        await self._audio.release(record)
        await self._results.delete(job_id)
        await self._log.erase(job_id)
        await self.records.erase(job_id)

    async def _listed(self, record: JobRecord) -> Job:
        found = await self._place(record)
        return to_job(record, [], queue_position=found.position, eta=found.eta)

    async def _place(self, record: JobRecord) -> Place:
        if record.status is not JobStatus.QUEUED:
            return Place(position=None, eta=None)
        view = await self._queue_with(record.id)
        return place(record.id, view.queue, view.workers, datetime.now(UTC))

    async def _queue_with(self, job_id: str) -> QueueView:
        """The queue as it was a second ago at the most, or, for a job that was not there then, as it is now.

        However many ask at once, one looks and the others wait for what it sees.
        """
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        async with self._looking:
            view, now = self._view, loop.time()
            is_fresh = now - view.seen_at < QUEUE_VIEW_SECS and job_id in view.queue
            if not is_fresh and view.seen_at < asked_at:
                queue, workers = await self.records.queue(), await self._statuses.alive()
                self._view = QueueView(seen_at=now, queue=queue, workers=workers)
            return self._view

    async def _has_left_the_queue(self, job_id: str) -> bool:
        """A worker writes the end, tells it, and then acknowledges; in between nothing may be taken from under it."""
        deadline = asyncio.get_running_loop().time() + LEAVE_QUEUE_SECS
        while await self.records.is_queued(job_id):
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(POLL_SECS)
        return True
