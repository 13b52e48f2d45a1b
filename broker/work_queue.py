"""The work queue of jobs: submit, pull, and what a worker says about what it pulled."""

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

log = logging.getLogger(__name__)

BEATS_PER_ACK_WAIT = 3


class Delivery:
    """One job handed to this worker. Exactly one of ack, put_back and discard ends it."""

    def __init__(self, message: Msg, ack_wait: float) -> None:
        self._message, self._ack_wait = message, ack_wait
        self.job_id = subjects.last_token(message.subject)
        self.body = message.data
        self.subject, self.seq = message.subject, message.metadata.sequence.stream
        self.stored_at = message.metadata.timestamp or datetime.now(UTC)
        self.key = message.reply
        """Of this delivery alone: a job may be delivered again while it is in hand."""
        self.deliveries = message.metadata.num_delivered or 1
        """How often the job was delivered, this time included."""

    @property
    def is_settled(self) -> bool:
        """One of ack, put_back and discard was sent."""
        return self._message.is_acked

    async def ack(self) -> None:
        """The job has ended. Waits for the server's answer, so that an ended job is not run again."""
        with mapped_errors():
            await self._message.ack_sync(timeout=10)

    async def put_back(self, delay_secs: float = 0) -> None:
        """Give the job to whoever pulls next."""
        with mapped_errors():
            await self._message.nak(delay=delay_secs or None)

    async def discard(self) -> None:
        """The message is no job at all: never deliver it again."""
        with mapped_errors():
            await self._message.term()

    @asynccontextmanager
    async def kept_alive(self) -> AsyncIterator[None]:
        """Tell the server again and again that the job is being worked on."""
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
            except BrokerError as error:  # it is being made again; the epoch guards the job meanwhile
                log.warning("job %s: no sign of life could be sent: %s", self.job_id, error)


async def publish_once(js: JetStreamContext, stream: str, subject: str, body: bytes) -> None:
    """Store a message on a subject that holds one at the most.

    nats-server has one error code for all its reasons not to store, so what is there decides what a refusal means.
    Raises AlreadySubmitted where the subject has its message, else StorageFull; Refused, Unavailable.
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
    """That no worker has in hand."""
    idle_workers: int
    """Workers that wait for a job; never more than 0 together with waiting jobs, but for a moment."""


class WorkQueue:
    def __init__(self, js: JetStreamContext, settings: BrokerSettings) -> None:
        self._js, self._settings = js, settings
        self._puller = Puller(js, subjects.JOBS_STREAM, subjects.GPU_WORKER_CONSUMER)

    async def submit(self, job_id: str, request: JobRequest) -> None:
        """Publish the job: when this returns it is stored. Raises AlreadySubmitted, StorageFull, Refused, Unavailable.

        The message has no id: nats-server would say of one that it has seen lately that it is a duplicate, also where the job
        was erased meanwhile. That a job is there once at the most is what the limit of one message per subject is for.
        """
        await publish_once(
            self._js, subjects.JOBS_STREAM, subjects.submit(job_id), msgspec.json.encode(request)
        )

    async def pull(self) -> Delivery:
        """Wait, without end, for a job. Raises Unavailable when the server is gone."""
        return self._delivery(await self._puller.next())

    async def look(self) -> QueueLook:
        """Raises Unavailable."""
        with mapped_errors():
            info = await self._js.consumer_info(subjects.JOBS_STREAM, subjects.GPU_WORKER_CONSUMER)
        return QueueLook(waiting_jobs=info.num_pending or 0, idle_workers=info.num_waiting or 0)

    async def leave(self) -> list[Delivery]:
        """Take no more jobs until the next `pull`: the server has forgotten that there was one when this returns.

        What was on its way meanwhile: the caller must settle it. Raises Unavailable.
        """
        await self._puller.leave()
        return [self._delivery(message) for message in self._puller.take_late()]

    def _delivery(self, message: Msg) -> Delivery:
        return Delivery(message, self._settings.job_ack_wait_secs)
