"""The work queue as this gateway shows it to clients: positions and expected times, from one look for many clients."""

import asyncio
from datetime import UTC, datetime

import msgspec

from broker.job_records import JobRecords
from broker.worker_status import WorkerStatuses
from gateway.operations.queue_estimate import Place, place
from schemas.jobs import JobRecord, JobStatus
from schemas.model import WorkerStatus

MAX_AGE_SECS = 1.0
"""How old a look at the queue may be: a thousand clients that poll cost one look a second."""


class Look(msgspec.Struct, kw_only=True, frozen=True):
    """The queue at one moment."""

    seen_at: float
    """On the clock of the event loop, in seconds."""
    queue: list[str]
    """Ids of the jobs in the queue, in their order."""
    workers: list[WorkerStatus]


class QueueView:
    """Looks at the queue when it must, and remembers what it has seen."""

    def __init__(self, records: JobRecords, statuses: WorkerStatuses) -> None:
        self._records, self._statuses = records, statuses
        self._look = Look(seen_at=-MAX_AGE_SECS, queue=[], workers=[])
        self._looking = asyncio.Lock()

    async def place(self, record: JobRecord) -> Place:
        """Return where a job is in the queue, and when it will have ended. Raises Unavailable."""
        if record.status is not JobStatus.QUEUED:
            return Place(position=None, eta=None)
        look = await self._look_with(record.id)
        return place(record.id, look.queue, look.workers, datetime.now(UTC))

    async def _look_with(self, job_id: str) -> Look:
        """Return a look that is not older than MAX_AGE_SECS and has the job, or else a new one.

        However many ask at once, one of them looks, and the others wait for what it sees.
        """
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        async with self._looking:
            look, now = self._look, loop.time()
            is_fresh = now - look.seen_at < MAX_AGE_SECS and job_id in look.queue
            if not is_fresh and look.seen_at < asked_at:
                queue, workers = await self._records.queue(), await self._statuses.alive()
                self._look = Look(seen_at=now, queue=queue, workers=workers)
            return self._look
