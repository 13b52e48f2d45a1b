"""How a job leaves this worker's hands: what each way of leaving does to its record, events, audio and delivery.

Each step is safe to repeat: after a crash or an outage in between, the job is delivered again, here or elsewhere.
"""

import logging
from datetime import UTC, datetime

from broker.errors import Conflict
from broker.job_records import has_ended
from broker.work_queue import Delivery
from gpu_worker.blame import in_words, job_delay_secs
from gpu_worker.job.burying import bury
from gpu_worker.job.claim import Claim
from gpu_worker.job.storage import JobStorage
from gpu_worker.machine import Machine
from schemas.errors import ErrorCode, JobError, RequestError
from schemas.job_lifecycle import Abandoned, Completed, Failed, IllegalChange
from schemas.jobs import JobRecord, JobStatus, Timings

log = logging.getLogger(__name__)

RETRY_SECS = 1.0
"""Delay before a job that was put back after trouble is delivered again, so that other jobs go first."""


class Settling:
    """The ways out for one delivered job."""

    def __init__(
        self,
        delivery: Delivery,
        claim: Claim,
        storage: JobStorage,
        machine: Machine,
        audio_retention_secs: float,
    ) -> None:
        """`audio_retention_secs` is how long audio is kept after a job's end; 0 deletes it at once."""
        self._delivery, self._storage, self._machine = delivery, storage, machine
        self._audio_retention_secs = audio_retention_secs
        self._job_id = delivery.job_id
        self._is_leaving = False
        self.claim = claim

    def adopt(self, again: Delivery) -> bool:
        """Take over a second delivery of the job in hand, which came because our keep-alives did not reach nats-server.

        Returns False where it is another submission, or where this job is on its way out.
        """
        if again.seq != self._delivery.seq or self._is_leaving:
            return False
        self._delivery = again
        return True

    async def complete(self, timings: Timings | None) -> None:
        """End a claimed job that is transcribed. Raises IllegalChange, Conflict, Unavailable."""
        await self.finish(
            await self.claim.change(Completed(at=datetime.now(UTC), epoch=self.claim.epoch, timings=timings))
        )

    async def fail(self, error: JobError) -> None:
        """End a claimed job with an error. Raises IllegalChange, Conflict, Unavailable."""
        await self.finish(
            await self.claim.change(Failed(at=datetime.now(UTC), epoch=self.claim.epoch, error=error))
        )

    async def abandon(self, error: JobError) -> None:
        """End a job with an error whoever has claimed it, so that nobody tries it again. Raises Unavailable."""
        try:
            await self.finish(await self.claim.change(Abandoned(at=datetime.now(UTC), error=error)))
        except (IllegalChange, Conflict) as why:
            await self.leave(why)

    async def bury(self, error: Exception) -> None:
        """Make a dead letter of a job that cannot be ended in any other way. Raises BrokerError."""
        detail = f"Nothing can be done with this job: {type(error).__name__}: {in_words(error)}."
        await self.refuse(RequestError(ErrorCode.INTERNAL, detail))

    async def refuse(self, error: RequestError) -> None:
        """Make a dead letter of a message that is no usable job. Raises BrokerError."""
        self._is_leaving = True
        await bury(self._delivery, self._storage.dead, self._storage.events, error)

    async def release(self, delay_secs: float = 0.0) -> None:
        """Give the job back to the queue without spending an attempt: it resumes at its first uncommitted stretch.

        Raises Unavailable.
        """
        if self._delivery.is_settled:
            return
        try:
            await self.claim.release()
        except (IllegalChange, Conflict) as why:
            await self.leave(why)
        else:
            await self.put_back(delay_secs)

    async def release_from_trouble(self) -> None:
        """Give the job back because of trouble on this machine: another worker may have it at once, we get it later.

        Raises Unavailable.
        """
        self._machine.gave_back(self._delivery.seq)
        await self.release(job_delay_secs(self._delivery.deliveries))

    async def put_back(self, delay_secs: float = RETRY_SECS) -> None:
        """Put the message back. The claim stays open, which counts as an attempt. Raises Unavailable."""
        self._is_leaving = True
        await self._delivery.put_back(delay_secs)
        log.info("job %s: given back", self._job_id)

    async def finish(self, record: JobRecord) -> None:
        """Do all that follows the end of a job: event, audio, acknowledgement. Raises Unavailable."""
        await self._storage.events.append_terminal(record, record.completed_at or datetime.now(UTC))
        if self._audio_retention_secs == 0:
            await self._storage.audio.release(record)
        self._is_leaving = True
        await self._delivery.ack()
        self._machine.proved()
        log.info("job %s: %s", self._job_id, record.status)

    async def leave(self, why: object) -> None:
        """Let go of a job that is not ours any more: it has ended, or another worker has it. Raises Unavailable."""
        record = await self.claim.lost()
        if record is not None and has_ended(record):
            await self.finish(record)
        elif record is not None and record.status is JobStatus.QUEUED:
            await self.put_back()
        else:
            self._is_leaving = True
            log.warning("job %s: left to its new owner (%s)", self._job_id, why)
