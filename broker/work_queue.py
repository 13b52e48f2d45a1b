"""The work queue of jobs: submit, pull, and what a worker says about what it pulled."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import Header

from broker.connection import BrokerSettings, mapped_errors
from broker.errors import AlreadySubmitted, BrokerError
from broker.pulling import Puller
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


class WorkQueue:
    def __init__(self, js: JetStreamContext, settings: BrokerSettings) -> None:
        self._js, self._settings = js, settings
        self._puller = Puller(js, subjects.JOBS_STREAM, subjects.GPU_WORKER_CONSUMER)

    async def submit(self, job_id: str, request: JobRequest) -> None:
        """Publish the job: when this returns it is stored. Raises AlreadySubmitted, Unavailable."""
        with mapped_errors():
            ack = await self._js.publish(
                subjects.submit(job_id),
                msgspec.json.encode(request),
                headers={str(Header.MSG_ID.value): job_id},
            )
        if ack.duplicate:
            raise AlreadySubmitted(job_id)

    async def pull(self) -> Delivery:
        """Wait, without end, for a job. Raises Unavailable when the server is gone."""
        return Delivery(await self._puller.next(), self._settings.job_ack_wait_secs)

    async def leave(self) -> None:
        """Take no more jobs until the next `pull`. Raises Unavailable."""
        await self._puller.leave()
