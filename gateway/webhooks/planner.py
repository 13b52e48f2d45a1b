"""Plans deliveries: which registered URLs get a POST because of which event.

Events are taken one at a time among all gateways, strictly in their order, and acknowledged when their deliveries are stored.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime

import msgspec
from nats.aio.msg import Msg

from broker.dead_letters import DeadLetters
from broker.error_mapping import mapped_errors
from broker.errors import BrokerError, Refused
from broker.job_records import JobRecords
from broker.webhooks import WebhookDeliveries, WebhookUrls
from gateway.outbound.guard import Guard
from process.retry import retry_forever
from schemas import events, inputs, subjects
from schemas.errors import RequestError
from schemas.jobs import JobRecord
from schemas.submission import parse_request
from schemas.webhooks import is_told_of_the_model, is_whole, job_delivery, model_delivery, webhook_of

log = logging.getLogger(__name__)

BROKER_RETRY_SECS = 1.0
JOBS_REMEMBERED = 10_000
"""How many jobs without a webhook are remembered, so that their events need no look at the record."""
STORED_AT_ONCE = 64
"""How many deliveries of one model event are stored at a time."""
ALIVE_SECS = 5.0
"""How often nats-server is told that an event is still being worked on, which moves its ack deadline."""


class DeliveryPlanner:
    """Turns each event into its deliveries."""

    def __init__(
        self,
        urls: WebhookUrls,
        deliveries: WebhookDeliveries,
        records: JobRecords,
        dead: DeadLetters,
        guard: Guard,
        failing_secs: float,
    ) -> None:
        """A URL to which all deliveries of the last `failing_secs` have failed gets no events of the model."""
        self._urls, self._deliveries, self._records, self._dead = urls, deliveries, records, dead
        self._guard, self._failing_secs = guard, failing_secs
        self._silent: dict[str, None] = {}
        """Ids of jobs without a webhook, oldest first."""

    async def run(self) -> None:
        """Plan without end. An event that cannot be planned now is put back."""
        while True:
            message = await retry_forever(
                "webhooks: the next event", self._deliveries.next_event, retry_on=(BrokerError,)
            )
            try:
                await self._plan_or_bury(message)
                with mapped_errors():
                    await message.ack()
            except BrokerError as error:
                log.warning("webhooks: %s is not through, it will come again: %s", message.subject, error)
                await self._put_back(message)

    async def _put_back(self, message: Msg) -> None:
        """Have the event delivered again after a moment. Where nats-server does not hear this either, the ack deadline does it."""
        try:
            with mapped_errors():
                await message.nak(delay=BROKER_RETRY_SECS)
        except BrokerError as error:
            log.warning("webhooks: %s could not be put back: %s", message.subject, error)
            await asyncio.sleep(BROKER_RETRY_SECS)

    async def _plan_or_bury(self, message: Msg) -> None:
        """Plan an event, or make a dead letter of one that cannot be used. Raises Unavailable."""
        try:
            return await self.plan(message)
        except Refused as error:
            reason = str(error)
        except BrokerError:
            raise
        except inputs.Unreadable as error:
            reason = f"it cannot be used: {error}"
        except Exception as error:
            log.exception("webhooks: %s cannot be used", message.subject)
            reason = f"it cannot be used: {type(error).__name__}"
        log.warning("webhooks: nobody is told of %s: %s", message.subject, reason)
        try:
            letter_id = f"webhook event {message.metadata.sequence.stream}"
            await self._dead.add(message.subject, message.data, reason, letter_id)
        except Refused as error:
            log.error("webhooks: %s cannot be kept as a dead letter: %s", message.subject, error)

    async def plan(self, message: Msg) -> None:
        """Store the deliveries that follow from one event. Raises inputs.Unreadable, BrokerError."""
        kind, seq = subjects.last_token(message.subject), message.metadata.sequence.stream
        if subjects.topic(message.subject) == subjects.MODEL_EVENTS_PREFIX:
            await self._plan_model_event(message, seq)
        elif kind == subjects.QUEUED:
            await self._register_url(subjects.job_of(message.subject), message.data)
        else:
            await self._plan_job_event(subjects.job_of(message.subject), kind, message.data, seq)

    async def _plan_model_event(self, message: Msg, seq: int) -> None:
        event, now = inputs.MODEL_EVENT.read(message.data), datetime.now(UTC)
        told = [
            webhook
            for webhook in await self._urls.registered()
            if is_told_of_the_model(webhook, now, self._failing_secs)
        ]
        alive_at = time.monotonic()
        for begin in range(0, len(told), STORED_AT_ONCE):
            batch = told[begin : begin + STORED_AT_ONCE]
            stored = (self._deliveries.add(model_delivery(event, webhook, seq)) for webhook in batch)
            for result in await asyncio.gather(*stored, return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result
            if time.monotonic() - alive_at > ALIVE_SECS:
                with mapped_errors():
                    await message.in_progress()
                alive_at = time.monotonic()

    async def _register_url(self, job_id: str, body: bytes) -> None:
        """Register the URL of a job that came over NATS: every URL that was ever given gets the events of the model.

        No host name is looked up here, because a name server that does not answer would hold up every other event. The
        address is checked when it is connected to.
        """
        try:
            request = parse_request(body)
            webhook = webhook_of(request, request.created_at or datetime.now(UTC))
            if webhook is None:
                self._remember_silent(job_id)
            elif is_whole(webhook) and not await self._urls.is_registered(webhook.id):
                self._guard.check_address(webhook.url)
                await self._urls.register(webhook)
        except RequestError as error:
            log.warning("job %s: no webhook is registered: %s", job_id, error.detail)

    async def _plan_job_event(self, job_id: str, kind: str, body: bytes, seq: int) -> None:
        if job_id in self._silent:
            if kind in events.TERMINAL_TYPES:
                del self._silent[job_id]
            return
        event = inputs.job_event(subjects.event(job_id, kind), body)
        if event is None:
            # A later version publishes it.
            return
        record = await self._record(job_id, event)
        if record is None or record.request.webhook_url is None:
            self._remember_silent(job_id)
        elif (delivery := job_delivery(event, record, seq)) is not None:
            webhook = await self._urls.whole(delivery.webhook)
            if webhook is None:
                log.info("webhook %s: no such URL is registered any more", delivery.webhook.id)
            else:
                await self._deliveries.add(msgspec.structs.replace(delivery, webhook=webhook))

    async def _record(self, job_id: str, event: events.JobEvent) -> JobRecord | None:
        if isinstance(event, events.TerminalEvent):
            return event.record
        return await self._records.get(job_id)

    def _remember_silent(self, job_id: str) -> None:
        if len(self._silent) >= JOBS_REMEMBERED:
            del self._silent[next(iter(self._silent))]
        self._silent[job_id] = None
