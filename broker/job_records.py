"""Job records in key-value, changed only by compare-and-set through schemas.job_lifecycle."""

import logging
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Self

import msgspec
from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, NotFoundError
from nats.js.kv import KeyValue

from broker.connection import mapped_errors
from broker.deleting import delete_subject
from broker.errors import Conflict
from broker.reading import usable
from broker.scanning import scan
from broker.topology.declared import KV_KEY, KV_STREAM
from schemas import inputs, subjects
from schemas.errors import RequestError
from schemas.job_lifecycle import TERMINAL, Change, IllegalChange, advance
from schemas.jobs import JobRecord, JobRequest, JobStatus
from schemas.submission import parse_request

log = logging.getLogger(__name__)

KNOWN_RECORDS = 1000
CAS_ATTEMPTS = 10
"""Two writers meet now and then; ten lost races in a row mean that something else is wrong."""


class JobRecords:
    """Records of jobs. A job that no worker has touched has no record yet: it is read from its submission."""

    def __init__(self, js: JetStreamContext, bucket: KeyValue) -> None:
        self._js, self._bucket = js, bucket
        self._known: dict[str, tuple[JobRecord, int]] = {}
        """Records as we wrote them last, with their revisions: a change then costs one round trip and not two."""

    @classmethod
    async def open(cls, js: JetStreamContext) -> Self:
        with mapped_errors():
            return cls(js, await js.key_value(subjects.RECORDS_BUCKET))

    async def get(self, job_id: str) -> JobRecord | None:
        """The job, or None where there is none. Raises Unavailable."""
        record, _ = await self._read(job_id)
        return record

    async def change(self, job_id: str, change: Change) -> JobRecord:
        """Apply a change and store it; the new record.

        Raises IllegalChange where the job's status or epoch forbids it, or there is no such job; Conflict, Unavailable.
        """
        known = self._known.pop(job_id, None)
        if known is not None:
            # What we wrote last is mostly what is there; if not, the revision says so and it is read after all.
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
        with mapped_errors():
            stored = await self._bucket.update(record.id, msgspec.json.encode(record), last=revision)
        if not has_ended(record):
            if len(self._known) >= KNOWN_RECORDS:
                del self._known[next(iter(self._known))]
            self._known[record.id] = record, stored
        return record

    async def renew(self, job_id: str) -> None:
        """Keep the record of a job that has not ended from expiring. Raises Unavailable."""
        record, revision = await self._read(job_id)
        if record is not None and revision and not has_ended(record):
            with suppress(Conflict):  # then somebody else has just written it
                await self._store(record, revision)

    async def all(self) -> list[JobRecord]:
        """Every job that is known, in no order: those with a record, and the queued ones without. Raises Unavailable."""
        bucket = subjects.RECORDS_BUCKET
        found: dict[str, JobRecord] = {}
        async for stored in scan(self._js, KV_STREAM.format(bucket), KV_KEY.format(bucket, ">")):
            read = partial(inputs.record, subjects.last_token(stored.subject))
            if (record := usable(read, stored.subject, stored.seq, stored.body)) is not None:
                found[record.id] = record
        async for stored in scan(self._js, subjects.JOBS_STREAM, subjects.ALL_SUBMITS):
            job_id = subjects.last_token(stored.subject)
            queued = None if job_id in found else _from_submission(job_id, stored.body, stored.time)
            if queued is not None:
                found[job_id] = queued
        return list(found.values())

    async def queue(self) -> list[str]:
        """Ids of the jobs in the work queue, the running ones included, in their order. Raises Unavailable."""
        submits = scan(self._js, subjects.JOBS_STREAM, subjects.ALL_SUBMITS)
        return [subjects.last_token(stored.subject) async for stored in submits]

    async def erase(self, job_id: str) -> None:
        """Forget a job. Raises Unavailable."""
        bucket = subjects.RECORDS_BUCKET
        with mapped_errors():
            await self._js.purge_stream(KV_STREAM.format(bucket), subject=KV_KEY.format(bucket, job_id))

    async def is_queued(self, job_id: str) -> bool:
        """Its submission is in the work queue: nobody has acknowledged it. Raises Unavailable."""
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
        with mapped_errors():
            info = await self._js.stream_info(subjects.JOBS_STREAM)
        return int(info.state.messages)

    async def _read(self, job_id: str) -> tuple[JobRecord | None, int]:
        with mapped_errors():
            try:
                entry = await self._bucket.get(job_id)
            except KeyNotFoundError as error:
                # A record that was deleted has left a marker, and the next is written over that.
                marker = error.entry.revision if error.entry is not None else None
                return await self._queued(job_id), marker or 0
            revision, place = entry.revision or 0, KV_KEY.format(subjects.RECORDS_BUCKET, job_id)
            record = usable(partial(inputs.record, job_id), place, revision, entry.value or b"")
            # Where the record cannot be used the submission counts, and the next change is written over the record.
            return (record, revision) if record is not None else (await self._queued(job_id), revision)

    async def _queued(self, job_id: str) -> JobRecord | None:
        """What the submission alone says of the job."""
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
    """The record of a job that nobody has touched. `stored_at` is when the submission was stored."""
    created_at = request.created_at or stored_at
    return JobRecord(id=job_id, status=JobStatus.QUEUED, request=request, created_at=created_at)


def has_ended(record: JobRecord) -> bool:
    return record.status in TERMINAL
