"""Events become deliveries: which URLs are told of what. One event at a time over all gateways, strictly in order."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import msgspec
from nats.aio.msg import Msg

from broker.connection import mapped_errors
from broker.errors import BrokerError
from broker.job_records import JobRecords
from broker.webhooks import WebhookDeliveries, WebhookUrls
from gateway.webhooks.guard import Guard
from schemas import events, inputs, subjects
from schemas.errors import RequestError
from schemas.jobs import JobRecord
from schemas.model import ModelEvent
from schemas.submission import parse_request
from schemas.webhooks import job_delivery, model_delivery, webhook_of

log = logging.getLogger(__name__)

BROKER_RETRY_SECS = 1.0
JOBS_REMEMBERED = 10_000
"""Jobs whose events need no look at the record, to see whether anybody wants them."""


class EventTurner:
    def __init__(
        self, urls: WebhookUrls, deliveries: WebhookDeliveries, records: JobRecords, guard: Guard
    ) -> None:
        self._urls, self._deliveries, self._records, self._guard = urls, deliveries, records, guard
        self._silent: dict[str, None] = {}
        """Jobs that bring no webhook, oldest first."""

    async def run(self) -> None:
        while True:
            message = await patiently(self._deliveries.next_event)
            try:
                await self._turn(message)
                with mapped_errors():
                    await message.ack()
            except BrokerError as error:
                log.warning("webhooks: %s is not through, it will come again: %s", message.subject, error)

    async def _turn(self, message: Msg) -> None:
        kind, seq = subjects.last_token(message.subject), message.metadata.sequence.stream
        if subjects.topic(message.subject) == subjects.MODEL_EVENTS_PREFIX:
            event = msgspec.json.decode(message.data, type=ModelEvent)
            for webhook in await self._urls.registered():
                await self._deliveries.add(model_delivery(event, webhook, seq))
        elif kind == subjects.QUEUED:
            await self._register(subjects.job_of(message.subject), message.data)
        else:
            await self._tell(subjects.job_of(message.subject), kind, message.data, seq)

    async def _register(self, job_id: str, body: bytes) -> None:
        """Every URL that was ever given is told of the model, whichever door the job came through."""
        try:
            request = parse_request(body)
            webhook = webhook_of(request, request.created_at or datetime.now(UTC))
            if webhook is None:
                self._remember_silent(job_id)
            elif not await self._urls.is_registered(webhook.id):
                await self._guard.check(webhook.url)
                await self._urls.register(webhook)
        except RequestError as error:
            log.warning("job %s: no webhook is registered: %s", job_id, error.detail)

    async def _tell(self, job_id: str, kind: str, body: bytes, seq: int) -> None:
        if job_id in self._silent:
            if kind in events.TERMINAL_TYPES:
                del self._silent[job_id]
            return
        event = inputs.job_event(subjects.event(job_id, kind), body)
        record = await self._record(job_id, event)
        if event is None or record is None or record.request.webhook_url is None:
            self._remember_silent(job_id)
        elif (delivery := job_delivery(event, record, seq)) is not None:
            await self._deliveries.add(delivery)

    async def _record(self, job_id: str, event: events.JobEvent | None) -> JobRecord | None:
        if isinstance(event, events.TerminalEvent):
            return event.record
        return await self._records.get(job_id)

    def _remember_silent(self, job_id: str) -> None:
        if len(self._silent) >= JOBS_REMEMBERED:
            del self._silent[next(iter(self._silent))]
        self._silent[job_id] = None


async def patiently(pull: Callable[[], Awaitable[Msg]]) -> Msg:
    """Pull, whatever it takes: a server that is gone comes back."""
    while True:
        try:
            return await pull()
        except BrokerError as error:
            log.warning("webhooks: nothing can be pulled: %s", error)
            await asyncio.sleep(BROKER_RETRY_SECS)
