"""The one publish that makes a job of an upload."""

from contextlib import suppress
from datetime import UTC, datetime

from broker.errors import AlreadySubmitted, Refused, StorageFull
from broker.object_store import ObjectStore
from broker.webhooks import WebhookUrls
from broker.work_queue import WorkQueue
from schemas.jobs import JobRequest
from schemas.webhooks import discreet, webhook_of


class Publisher:
    """Submits jobs whose audio is in the store."""

    def __init__(self, queue: WorkQueue, urls: WebhookUrls, audio: ObjectStore) -> None:
        self._queue, self._urls, self._audio = queue, urls, audio

    async def publish(self, job_id: str, job: JobRequest) -> None:
        """Register the job's webhook URL and submit the job.

        Raises StorageFull or Refused: then there is no job, and no audio stays. Raises Unavailable: then nobody knows whether
        there is one, and its audio is left to the sweep.
        """
        try:
            if (webhook := webhook_of(job, job.created_at or datetime.now(UTC))) is not None:
                await self._urls.register(webhook)
            # A gateway that died before it could answer has submitted the job already.
            with suppress(AlreadySubmitted):
                await self._queue.submit(job_id, discreet(job))
        except (StorageFull, Refused):
            await self._audio.delete(job_id)
            raise
