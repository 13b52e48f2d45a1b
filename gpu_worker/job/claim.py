"""The claim of a job: this worker's right to change the job's record and to publish its events.

A claim is taken by raising the record's epoch, given back by a release, and lost when another worker raises the epoch.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

from broker.errors import BrokerError, Conflict
from broker.event_log import EventLog
from broker.job_records import JobRecords, has_ended
from broker.patience import patiently
from gpu_worker.audio.plan import Plan
from schemas.events import Started
from schemas.job_lifecycle import Change, Claimed, PreparationEnded, Released, Survived
from schemas.jobs import JobRecord, JobStatus, Segment

log = logging.getLogger(__name__)

FENCE_TRIES = 10
"""Somebody may publish an event of the job between our look at the log and our own event, but not ten times in a row."""
RENEWALS = 3
"""How often a record is renewed within the time after which it would expire."""


class Claim:
    """The claim of one worker on one job. It begins unclaimed."""

    def __init__(
        self, job_id: str, worker_id: str, records: JobRecords, events: EventLog, retention_secs: float
    ) -> None:
        """`retention_secs` is the time after which a record that nobody writes expires."""
        self._job_id, self._worker_id = job_id, worker_id
        self._records, self._events, self._retention_secs = records, events, retention_secs
        self.id = uuid.uuid4().hex
        self.record: JobRecord | None = None
        """The record as we have claimed it; None before that."""
        self.last_seq = 0
        """Stream sequence of our `started` event: the fence for the next event."""
        self.segments: list[Segment] = []
        """Segments that earlier workers have published."""
        self._has_started = False
        """Whether `started` is published."""

    async def take(self, plan: Plan | None) -> JobRecord:
        """Claim the job and publish `started`; return the record. A second call returns the same record.

        The log is read before the claim is written: an event that is published after that, such as `cancelled`, makes the
        fence refuse ours. Raises IllegalChange or Conflict where the job cannot be claimed.
        """
        change, started = self._change(plan), None
        for _ in range(FENCE_TRIES):
            if self._has_started and self.record is not None:
                return self.record
            self.last_seq, self.segments = await patiently(
                self._what("reading its log"), lambda: self._events.told_so_far(self._job_id)
            )
            # The first change claims the job; a repeated one with the same claim id only reads the record.
            record = self.record = await self.change(change)
            started = started or _started(record)
            try:
                publish = partial(self._events.append_next, started, self.last_seq)
                self.last_seq = await patiently(self._what("publishing its start"), publish)
                self._has_started = True
            except Conflict as error:
                log.info("job %s: somebody has published an event of it meanwhile: %s", self._job_id, error)
        raise Conflict(f"others keep publishing events of job {self._job_id}")

    @property
    def epoch(self) -> int:
        """Epoch of the claim. Raises RuntimeError before there is one."""
        if self.record is None:
            raise RuntimeError(f"job {self._job_id} is not claimed")
        return self.record.epoch

    async def change(self, change: Change) -> JobRecord:
        """Change the job's record, and wait while nats-server is away. Raises IllegalChange, Conflict."""
        return await patiently(
            self._what("changing its record"), lambda: self._records.change(self._job_id, change)
        )

    async def release(self) -> None:
        """Give the claim back; it does not count as an attempt. Raises IllegalChange, Conflict, Unavailable."""
        now, claimed = datetime.now(UTC), self.record
        change = Released(at=now, epoch=claimed.epoch) if claimed else PreparationEnded(at=now)
        await self._records.change(self._job_id, change)

    async def lost(self) -> JobRecord | None:
        """Return the record where the job has ended or is queued again by us; None where another worker has it.

        In that last case the record is told that this worker is alive, so that its claim does not count as an attempt.
        Raises IllegalChange, Conflict, Unavailable.
        """
        records = self._records
        record, claimed = await records.get(self._job_id), self.record
        if record is None or has_ended(record):
            return record
        if claimed is not None and record.epoch == claimed.epoch:
            # Where it is queued already, our release was carried out and only its answer was lost.
            if record.status is not JobStatus.QUEUED:
                record = await records.change(
                    self._job_id, Released(at=datetime.now(UTC), epoch=claimed.epoch)
                )
            return record
        if self.id in record.claims:
            await records.change(self._job_id, Survived(at=datetime.now(UTC), claim_id=self.id))
        return None

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Renew the record while the block runs: JOB_RETENTION_SECS may be shorter than the time between two changes of it."""
        # Not run_in_background: this is entered by one task of the worker and left by another.
        keeping = asyncio.create_task(self._keep(), name=f"keep record {self._job_id}")
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._retention_secs / RENEWALS)
            try:
                await self._records.renew(self._job_id)
            except BrokerError as error:
                # The next change of the record renews it as well.
                log.warning("job %s: its record could not be renewed: %s", self._job_id, error)

    def _change(self, plan: Plan | None) -> Claimed:
        return Claimed(
            at=datetime.now(UTC),
            worker_id=self._worker_id,
            claim_id=self.id,
            duration_secs=round(plan.findings.duration_secs, 3) if plan else None,
            stretches=len(plan.portions) if plan else None,
            source=plan.findings.source if plan else None,
            warnings=plan.findings.warnings if plan else (),
        )

    def _what(self, doing: str) -> str:
        return f"job {self._job_id}: {doing}"


def _started(record: JobRecord) -> Started:
    return Started(
        job_id=record.id,
        at=datetime.now(UTC),
        worker_id=record.worker_id or "",
        attempt=record.attempts,
        duration_secs=record.duration_secs,
        source=record.source,
        warnings=record.warnings,
    )
