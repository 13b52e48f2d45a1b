"""A job's claim: this worker's right to write what becomes of the job, and how it is taken, given back and lost."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

from broker.errors import BrokerError, Conflict
from broker.job_records import has_ended
from broker.patience import patiently
from gpu_worker.job.preparing import Plan
from gpu_worker.services import Services
from schemas.events import Started
from schemas.job_lifecycle import Change, Claimed, PreparationEnded, Released, Survived
from schemas.jobs import JobRecord, JobStatus, Segment

log = logging.getLogger(__name__)

FENCE_TRIES = 10
"""Others tell of the job between our look at the log and our word now and then, but not without end."""


RENEWALS = 3
"""So often is a record renewed within the time after which it would expire."""


class Claim:
    def __init__(self, job_id: str, services: Services) -> None:
        self._job_id, self._services = job_id, services
        self.id = uuid.uuid4().hex
        self.record: JobRecord | None = None
        """As it was claimed; None before."""
        self.last_seq = 0
        """Of the event that told of the claim: what is told next must follow it (the fence)."""
        self.segments: list[Segment] = []
        """What workers before this one have published."""
        self._is_told = False

    async def take(self, plan: Plan | None) -> JobRecord:
        """The record as claimed, once. Raises IllegalChange or Conflict where the job is not to be had.

        The log is looked at before the claim is written: whatever is told of the job from then on, such as that it is
        cancelled, makes the fence refuse our word.
        """
        change, started = self._change(plan), None
        for _ in range(FENCE_TRIES):
            if self._is_told and self.record is not None:
                return self.record
            self.last_seq, self.segments = await patiently(
                self._what("reading its log"), lambda: self._services.events.told_so_far(self._job_id)
            )
            # The first time this claims the job; later it says that we have it still.
            record = self.record = await self.change(change)
            started = started or _started(record)
            try:
                tell = partial(self._services.events.append_next, started, self.last_seq)
                self.last_seq = await patiently(self._what("telling of its start"), tell)
                self._is_told = True
            except Conflict as error:
                log.info("job %s: somebody has told of it meanwhile: %s", self._job_id, error)
        raise Conflict(f"others tell of job {self._job_id} all the time")

    @property
    def epoch(self) -> int:
        """Of the claim. Raises RuntimeError before there is one."""
        if self.record is None:
            raise RuntimeError(f"job {self._job_id} is not claimed")
        return self.record.epoch

    async def change(self, change: Change) -> JobRecord:
        """Raises IllegalChange, Conflict."""
        return await patiently(
            self._what("changing its record"), lambda: self._services.records.change(self._job_id, change)
        )

    async def release(self) -> None:
        """It was no attempt. Raises IllegalChange, Conflict, Unavailable."""
        now, claimed = datetime.now(UTC), self.record
        change = Released(at=now, epoch=claimed.epoch) if claimed else PreparationEnded(at=now)
        await self._services.records.change(self._job_id, change)

    async def lost(self) -> "JobRecord | None":
        """See what has become of the job: its record where it has ended or is queued again by us, else None.

        A job that another worker has taken meanwhile is told that this one lives: its claim was no attempt. Raises
        IllegalChange, Conflict, Unavailable.
        """
        records = self._services.records
        record, claimed = await records.get(self._job_id), self.record
        if record is None or has_ended(record):
            return record
        if claimed is not None and record.epoch == claimed.epoch:
            if record.status is not JobStatus.QUEUED:  # else the answer to our release was lost
                record = await records.change(
                    self._job_id, Released(at=datetime.now(UTC), epoch=claimed.epoch)
                )
            return record
        if self.id in record.claims:
            await records.change(self._job_id, Survived(at=datetime.now(UTC), claim_id=self.id))
        return None

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """JOB_RETENTION_SECS may be shorter than what is done between two changes of the record: it must not expire."""
        keeping = asyncio.create_task(self._keep(), name=f"keep record {self._job_id}")
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._services.settings.job_retention_secs / RENEWALS)
            try:
                await self._services.records.renew(self._job_id)
            except BrokerError as error:  # what is written next renews it as well
                log.warning("job %s: its record could not be renewed: %s", self._job_id, error)

    def _change(self, plan: Plan | None) -> Claimed:
        return Claimed(
            at=datetime.now(UTC),
            worker_id=self._services.settings.name(),
            claim_id=self.id,
            duration_secs=plan.duration_secs if plan else None,
            stretches=len(plan.stretches) if plan else None,
        )

    def _what(self, doing: str) -> str:
        return f"job {self._job_id}: {doing}"


def _started(record: JobRecord) -> Started:
    return Started(
        job_id=record.id, at=datetime.now(UTC), worker_id=record.worker_id or "", attempt=record.attempts
    )
