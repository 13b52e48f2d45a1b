"""Job records in key-value. They are changed through schemas.job_lifecycle alone, by compare-and-set."""

import logging
from contextlib import suppress
from datetime import UTC, datetime
from typing import Self

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from broker.bucket import Bucket
from broker.deleting import delete_subject
from broker.error_mapping import mapped_errors
from broker.errors import Conflict
from broker.scanning import scan
from schemas import inputs, subjects
from schemas.errors import RequestError
from schemas.job_lifecycle import TERMINAL, Change, IllegalChange, advance
from schemas.jobs import JobRecord, JobRequest, JobStatus
from schemas.submission import parse_request

log = logging.getLogger(__name__)

KNOWN_RECORDS = 1000
"""How many records that we have written are remembered."""
CAS_ATTEMPTS = 10
"""Attempts of one change. Two writers meet now and then; ten lost races in a row mean that something else is wrong."""


class JobRecords:
    """The bucket WHISPER_RECORDS. A job that no worker has touched has no record yet: it is read from its submission."""

    def __init__(self, js: JetStreamContext, bucket: Bucket[JobRecord]) -> None:
        self._js, self._bucket = js, bucket
        self._known: dict[str, tuple[JobRecord, int]] = {}
        """Records as we have written them last, with their revisions: a change then costs one round trip and not two."""

    @classmethod
    async def open(cls, js: JetStreamContext) -> Self:
        """Raises Unavailable."""
        return cls(js, await Bucket.open(js, subjects.RECORDS_BUCKET, inputs.record))

    async def get(self, job_id: str) -> JobRecord | None:
        """Return the record of a job, or None where there is no such job. Raises Unavailable."""
        record, _ = await self._read(job_id)
        return record

    async def change(self, job_id: str, change: Change) -> JobRecord:
        """Apply a change, store the new record and return it.

        Raises IllegalChange where the job's status or epoch forbids it, or where there is no such job; Conflict, Unavailable.
        """
        known = self._known.pop(job_id, None)
        if known is not None:
            # Mostly nobody else has written since. Where somebody has, the revision says so, and the record is read.
            with suppress(Conflict, IllegalChange):
                return await self._advance(*known, change)
        for _ in range(CAS_ATTEMPTS):
            record, revision = await self._read(job_id)
            if record is None:
                raise IllegalChange(f"there is no job {job_id} any more")
            with suppress(Conflict):
                return await self._advance(record, revision, change)
        raise Conflict(f"job {job_id} is changing too fast")

    async def _advance(self, record: JobRecord, revision: int, change: Change) -> JobRecord:
        """Raises IllegalChange, Conflict, Unavailable."""
        return await self._store(advance(record, change), revision)

    async def _store(self, record: JobRecord, revision: int) -> JobRecord:
        """Raises Conflict, Unavailable."""
        stored = await self._bucket.update(record.id, record, revision)
        if not has_ended(record):
            if len(self._known) >= KNOWN_RECORDS:
                del self._known[next(iter(self._known))]
            self._known[record.id] = record, stored
        return record

    async def renew(self, job_id: str) -> None:
        """Write the record of a job that has not ended again, so that it does not expire. Raises Unavailable."""
        record, revision = await self._read(job_id)
        if record is not None and revision and not has_ended(record):
            # On a conflict somebody else has just written it, which renews it as well.
            with suppress(Conflict):
                await self._store(record, revision)

    async def all(self) -> list[JobRecord]:
        """Return every job in no order: those with a record, and the queued ones without. Raises Unavailable."""
        found = {record.id: record async for record in self._bucket.values()}
        async for stored in scan(self._js, subjects.JOBS_STREAM, subjects.ALL_SUBMITS):
            job_id = subjects.last_token(stored.subject)
            queued = None if job_id in found else _from_submission(job_id, stored.body, stored.time)
            if queued is not None:
                found[job_id] = queued
        return list(found.values())

    async def queue(self) -> list[str]:
        """Return the ids of the jobs in the work queue in their order, running jobs included. Raises Unavailable."""
        submits = scan(self._js, subjects.JOBS_STREAM, subjects.ALL_SUBMITS)
        return [subjects.last_token(stored.subject) async for stored in submits]

    async def erase(self, job_id: str) -> None:
        """Remove the record of a job. Raises Unavailable."""
        await self._bucket.purge(job_id)

    async def is_queued(self, job_id: str) -> bool:
        """Whether the submission is in the work queue: no worker has acknowledged it yet. Raises Unavailable."""
        with mapped_errors():
            subject = subjects.submit(job_id)
            try:
                await self._js.get_msg(subjects.JOBS_STREAM, subject=subject, direct=True)
            except NotFoundError:
                return False
        return True

    async def unqueue(self, job_id: str) -> None:
        """Take the submission of an ended job out of the work queue. Raises Unavailable."""
        await delete_subject(self._js, subjects.JOBS_STREAM, subjects.submit(job_id))

    async def queue_depth(self) -> int:
        """Return how many jobs are in the work queue, running jobs included. Raises Unavailable."""
        with mapped_errors():
            info = await self._js.stream_info(subjects.JOBS_STREAM)
        return int(info.state.messages)

    async def _read(self, job_id: str) -> tuple[JobRecord | None, int]:
        """Return the record, and the revision that the next write must replace.

        Where there is no record that can be read, the submission counts, and the next change replaces what is there.
        """
        entry = await self._bucket.get(job_id)
        record = entry.value if entry.value is not None else await self._queued(job_id)
        return record, entry.revision

    async def _queued(self, job_id: str) -> JobRecord | None:
        """Return the record that follows from the submission alone; None where there is none."""
        try:
            message = await self._js.get_msg(
                subjects.JOBS_STREAM, subject=subjects.submit(job_id), direct=True
            )
        except NotFoundError:
            return None
        return _from_submission(job_id, message.data or b"", message.time or datetime.now(UTC))


def _from_submission(job_id: str, body: bytes, stored_at: datetime) -> JobRecord | None:
    try:
        return queued_record(job_id, parse_request(body), stored_at)
    except RequestError as error:
        log.debug("job %s has an unusable request: %s", job_id, error)
        return None


def queued_record(job_id: str, request: JobRequest, stored_at: datetime) -> JobRecord:
    """Return the record of a job that no worker has touched. `stored_at` is when its submission was stored."""
    created_at = request.created_at or stored_at
    return JobRecord(id=job_id, status=JobStatus.QUEUED, request=request, created_at=created_at)


def has_ended(record: JobRecord) -> bool:
    """Whether the job is done, failed or cancelled. False for a status of a later version."""
    return record.status in TERMINAL
