"""What can be done with a job that is submitted: read, list, cancel, erase. Both doors, HTTP and NATS, call this."""

import asyncio
from datetime import UTC, datetime
from functools import partial

from broker.audio_use import AudioUse
from broker.event_log import EventLog
from broker.job_records import JobRecords, has_ended
from broker.object_store import ObjectStore
from broker.reading import usable
from gateway.operations.listing import ListQuery, page
from gateway.operations.queue_view import QueueView
from schemas import events, inputs, subjects
from schemas.errors import ErrorCode, RequestError
from schemas.job_lifecycle import Cancelled, IllegalChange
from schemas.jobs import Job, JobList, JobRecord, to_job

LEAVE_QUEUE_SECS = 2.0
"""How long erasing waits until the worker has acknowledged a job that has ended just now."""
POLL_SECS = 0.05


class JobOperations:
    """The operations on submitted jobs. Each raises Unavailable where nats-server does not answer."""

    def __init__(
        self,
        records: JobRecords,
        log: EventLog,
        audio: AudioUse,
        results: ObjectStore,
        queue: QueueView,
        audio_retention_secs: float,
    ) -> None:
        """`audio_retention_secs` is how long audio is kept after a job's end; 0 deletes it at once."""
        self.records, self._log, self._audio, self._results = records, log, audio, results
        self._queue, self._audio_retention_secs = queue, audio_retention_secs

    async def record(self, job_id: str) -> JobRecord:
        """Return the record of a job. Raises RequestError `not_found`."""
        record = await self.records.get(job_id) if subjects.is_job_id(job_id) else None
        if record is None:
            raise RequestError(ErrorCode.NOT_FOUND, f"There is no job {job_id}.")
        return record

    async def read(self, job_id: str) -> Job:
        """Return the job with its transcript so far. Raises RequestError `not_found`."""
        return await self.view(await self.record(job_id))

    async def view(self, record: JobRecord) -> Job:
        """Return what clients see of a record: with its transcript so far, and its place where it is queued."""
        segments = await self._log.segments(record.id)
        percent = 0
        if not has_ended(record) and (last := await self._log.last(record.id, "progress")):
            progress = usable(partial(inputs.job_event, last.subject), last.subject, last.seq, last.body)
            percent = progress.percent if isinstance(progress, events.Progress) else 0
        found = await self._queue.place(record)
        return to_job(record, segments, percent, queue_position=found.position, eta=found.eta)

    async def list(self, query: ListQuery) -> JobList:
        """Return one page of jobs, newest first, without their segments."""
        shown, cursor = page(await self.records.all(), query)
        return JobList(jobs=[await self._listed(record) for record in shown], next_cursor=cursor)

    async def cancel(self, job_id: str) -> Job:
        """End the job now: the record decides, and the worker follows. Raises RequestError `not_found`, `job_finished`."""
        await self.record(job_id)
        try:
            record = await self.records.change(job_id, Cancelled(at=datetime.now(UTC)))
        except IllegalChange as error:
            raise RequestError(ErrorCode.JOB_FINISHED, f"The job {job_id} has already ended.") from error
        await self._log.append_terminal(record, datetime.now(UTC))
        await self.records.unqueue(job_id)
        if self._audio_retention_secs == 0:
            await self._audio.release(record)
        return await self.view(record)

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
        found = await self._queue.place(record)
        return to_job(record, [], queue_position=found.position, eta=found.eta)

    async def _has_left_the_queue(self, job_id: str) -> bool:
        """Wait until the worker has acknowledged the job: it writes the end, publishes it, and only then acknowledges.

        Nothing may be deleted before that. Returns False where it takes longer than LEAVE_QUEUE_SECS.
        """
        deadline = asyncio.get_running_loop().time() + LEAVE_QUEUE_SECS
        while await self.records.is_queued(job_id):
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(POLL_SECS)
        return True
