"""How a job leaves this worker's hands: what each way does to its record, its events, its audio and its delivery.

Each step is safe to repeat: a crash or an outage in between brings the job here, or to another worker, again.
"""

import logging
from datetime import UTC, datetime

from broker.errors import Conflict
from broker.job_records import has_ended
from broker.work_queue import Delivery
from gpu_worker.blame import in_words, job_delay_secs
from gpu_worker.job.burying import bury
from gpu_worker.job.claim import Claim
from gpu_worker.services import Services
from schemas.errors import ErrorCode, JobError, RequestError
from schemas.job_lifecycle import Abandoned, Completed, Failed, IllegalChange
from schemas.jobs import JobRecord, JobStatus, Timings

log = logging.getLogger(__name__)

RETRY_SECS = 1.0
"""A job that comes back after trouble comes so much later, so that other jobs go first."""


class Settling:
    def __init__(self, delivery: Delivery, services: Services) -> None:
        self._delivery, self._services = delivery, services
        self._job_id = delivery.job_id
        self._is_leaving = False
        self.claim = Claim(delivery.job_id, services)

    def adopt(self, again: Delivery) -> bool:
        """Take over a delivery of the very job that is in hand, which came because nothing was heard of us for a while.

        False where it is another submission, or this one is on its way out.
        """
        if again.seq != self._delivery.seq or self._is_leaving:
            return False
        self._delivery = again
        return True

    async def complete(self, timings: Timings | None) -> None:
        """All is transcribed and the job is claimed. Raises IllegalChange, Conflict, Unavailable."""
        await self.finish(
            await self.claim.change(Completed(at=datetime.now(UTC), epoch=self.claim.epoch, timings=timings))
        )

    async def fail(self, error: JobError) -> None:
        """Of a job that is claimed. Raises IllegalChange, Conflict, Unavailable."""
        await self.finish(
            await self.claim.change(Failed(at=datetime.now(UTC), epoch=self.claim.epoch, error=error))
        )

    async def abandon(self, error: JobError) -> None:
        """Nobody is to try it again, whoever has claimed it. Raises Unavailable."""
        try:
            await self.finish(await self.claim.change(Abandoned(at=datetime.now(UTC), error=error)))
        except (IllegalChange, Conflict) as why:
            await self.leave(why)

    async def bury(self, error: Exception) -> None:
        """Not even its end can be told: keep the message with the reason, and never see it again. Raises BrokerError."""
        detail = f"Nothing can be done with this job: {type(error).__name__}: {in_words(error)}."
        await self.refuse(RequestError(ErrorCode.INTERNAL, detail))

    async def refuse(self, error: RequestError) -> None:
        """The message is no job. Raises BrokerError."""
        self._is_leaving = True
        await bury(self._delivery, self._services, error)

    async def release(self, delay_secs: float = 0.0) -> None:
        """Give the job back unharmed: it resumes at its first uncommitted stretch. Raises Unavailable."""
        if self._delivery.is_settled:
            return
        try:
            await self.claim.release()
        except (IllegalChange, Conflict) as why:
            await self.leave(why)
        else:
            await self.put_back(delay_secs)

    async def release_from_trouble(self) -> None:
        """Of this machine: to another worker at once, and to us later from time to time. Raises Unavailable."""
        self._services.machine.gave_back(self._delivery.seq)
        await self.release(job_delay_secs(self._delivery.deliveries))

    async def put_back(self, delay_secs: float = RETRY_SECS) -> None:
        """A claim that is open stays open, which counts as an attempt. Raises Unavailable."""
        self._is_leaving = True
        await self._delivery.put_back(delay_secs)
        log.info("job %s: given back", self._job_id)

    async def finish(self, record: JobRecord) -> None:
        """Everything that follows an end. Raises Unavailable."""
        services = self._services
        await services.events.append_terminal(record, record.completed_at or datetime.now(UTC))
        if services.settings.audio_retention_secs == 0:
            await services.audio.release(record)
        self._is_leaving = True
        await self._delivery.ack()
        services.machine.proved()
        log.info("job %s: %s", self._job_id, record.status)

    async def leave(self, why: object) -> None:
        """The job is not ours any more: it has ended, or another worker has it and will end it. Raises Unavailable."""
        record = await self.claim.lost()
        if record is not None and has_ended(record):
            await self.finish(record)
        elif record is not None and record.status is JobStatus.QUEUED:
            await self.put_back()
        else:
            self._is_leaving = True
            log.warning("job %s: left to its new owner (%s)", self._job_id, why)
