"""The work queue of jobs: submit, pull, and what a worker does with a delivery."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from broker.error_mapping import mapped_errors
from broker.errors import AlreadySubmitted, BrokerError, StorageFull
from broker.pulling import Puller
from broker.settings import BrokerSettings
from schemas import subjects
from schemas.jobs import JobRequest
from schemas.submission import submitted

log = logging.getLogger(__name__)

BEATS_PER_ACK_WAIT = 3
"""Keep-alives within one ack deadline: two of them may be lost."""


class Delivery:
    """One job that was delivered to this worker. Exactly one of ack, put_back and discard ends it."""

    def __init__(self, message: Msg, ack_wait: float) -> None:
        self._message, self._ack_wait = message, ack_wait
        self.job_id = subjects.last_token(message.subject)
        self.body = message.data
        self.subject, self.seq = message.subject, message.metadata.sequence.stream
        self.stored_at = message.metadata.timestamp or datetime.now(UTC)
        self.key = message.reply
        """Names this delivery: a job may be delivered again while it is in hand."""
        self.deliveries = message.metadata.num_delivered or 1
        """How often the job was delivered, this delivery included."""

    @property
    def is_settled(self) -> bool:
        """Whether one of ack, put_back and discard was sent."""
        return self._message.is_acked

    async def ack(self) -> None:
        """Remove the job from the queue, because it has ended. Waits for the server's answer. Raises Unavailable."""
        with mapped_errors():
            await self._message.ack_sync(timeout=10)

    async def put_back(self, delay_secs: float = 0) -> None:
        """Have the job delivered again after `delay_secs`, to any worker. Raises Unavailable."""
        with mapped_errors():
            await self._message.nak(delay=delay_secs or None)

    async def discard(self) -> None:
        """Never deliver the message again, because it is no job. Raises Unavailable."""
        with mapped_errors():
            await self._message.term()

    @asynccontextmanager
    async def kept_alive(self) -> AsyncIterator[None]:
        """Send keep-alives while the block runs, each of which moves the ack deadline."""
        beating = asyncio.create_task(self._beat(), name=f"keep-alive {self.job_id}")
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.wait([beating])

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._ack_wait / BEATS_PER_ACK_WAIT)
            try:
                with mapped_errors():
                    await self._message.in_progress()
            except BrokerError as error:
                # nats-py reconnects by itself. If the ack deadline passes first, the next claim raises the epoch and our
                # writes are refused.
                log.warning("job %s: no sign of life could be sent: %s", self.job_id, error)


async def publish_once(js: JetStreamContext, stream: str, subject: str, body: bytes) -> None:
    """Store a message on a subject that may have one at the most.

    nats-server has one error code for all its reasons not to store a message, so that a look at the subject decides. Raises
    AlreadySubmitted where the subject has a message, and else StorageFull; Refused, Unavailable.
    """
    try:
        with mapped_errors():
            await js.publish(subject, body)
    except StorageFull:
        with mapped_errors():
            try:
                await js.get_msg(stream, subject=subject, direct=True)
            except NotFoundError:
                found = False
            else:
                found = True
        if found:
            raise AlreadySubmitted(subject) from None
        raise


class QueueLook(msgspec.Struct, kw_only=True, frozen=True):
    """The queue at one moment."""

    waiting_jobs: int
    """Jobs that no worker has in hand."""
    idle_workers: int
    """Workers that wait for a job. Except for moments, there are none while jobs wait."""


class WorkQueue:
    """The stream WHISPER_JOBS and its consumer, for one process."""

    def __init__(self, js: JetStreamContext, settings: BrokerSettings) -> None:
        self._js, self._settings = js, settings
        self._puller = Puller(js, subjects.JOBS_STREAM, subjects.GPU_WORKER_CONSUMER)

    async def submit(self, job_id: str, request: JobRequest) -> None:
        """Store the submission of a job. Raises AlreadySubmitted, StorageFull, Refused, Unavailable.

        The message has no id, because nats-server would take one that it has seen lately for a duplicate, also where the job was
        erased meanwhile. The limit of one message per subject keeps a job from being there twice.
        """
        await publish_once(self._js, subjects.JOBS_STREAM, subjects.submit(job_id), submitted(request))

    async def pull(self) -> Delivery:
        """Wait for a job, without a limit. Raises Unavailable when the server is gone."""
        return self._delivery(await self._puller.next())

    async def look(self) -> QueueLook:
        """Return how the queue is now. Raises Unavailable."""
        with mapped_errors():
            info = await self._js.consumer_info(subjects.JOBS_STREAM, subjects.GPU_WORKER_CONSUMER)
        return QueueLook(waiting_jobs=info.num_pending or 0, idle_workers=info.num_waiting or 0)

    async def leave(self) -> list[Delivery]:
        """End the open pull. Returns the deliveries that were on their way, which the caller must settle.

        Raises Unavailable.
        """
        await self._puller.leave()
        return [self._delivery(message) for message in self._puller.take_late()]

    def _delivery(self, message: Msg) -> Delivery:
        return Delivery(message, self._settings.job_ack_wait_secs)
