"""Events become deliveries: which URLs are told of what. One event at a time over all gateways, strictly in order."""

import asyncio
import logging
import time
from datetime import UTC, datetime

from nats.aio.msg import Msg

from broker.connection import mapped_errors
from broker.dead_letters import DeadLetters
from broker.errors import BrokerError, Refused
from broker.job_records import JobRecords
from broker.webhooks import WebhookDeliveries, WebhookUrls
from gateway.webhooks.guard import Guard
from process.retry import retry_forever
from schemas import events, inputs, subjects
from schemas.errors import RequestError
from schemas.jobs import JobRecord
from schemas.submission import parse_request
from schemas.webhooks import is_told_of_the_model, job_delivery, model_delivery, webhook_of

log = logging.getLogger(__name__)

BROKER_RETRY_SECS = 1.0
JOBS_REMEMBERED = 10_000
"""Jobs whose events need no look at the record, to see whether anybody wants them."""
STORED_AT_ONCE = 64
"""Deliveries of one event of the model."""
ALIVE_SECS = 5.0
"""How often the server is told that an event is still being worked on."""


class EventTurner:
    def __init__(
        self,
        urls: WebhookUrls,
        deliveries: WebhookDeliveries,
        records: JobRecords,
        dead: DeadLetters,
        guard: Guard,
        failing_secs: float,
    ) -> None:
        """A URL that has only failed for `failing_secs` is not told of the model."""
        self._urls, self._deliveries, self._records, self._dead = urls, deliveries, records, dead
        self._guard, self._failing_secs = guard, failing_secs
        self._silent: dict[str, None] = {}
        """Jobs that bring no webhook, oldest first."""

    async def run(self) -> None:
        while True:
            message = await retry_forever(
                "webhooks: the next event", self._deliveries.next_event, retry_on=(BrokerError,)
            )
            try:
                await self._settle(message)
                with mapped_errors():
                    await message.ack()
            except BrokerError as error:
                log.warning("webhooks: %s is not through, it will come again: %s", message.subject, error)
                await self._put_back(message)

    async def _put_back(self, message: Msg) -> None:
        """It comes again after a moment; where the server does not hear this either, after the ack deadline."""
        try:
            with mapped_errors():
                await message.nak(delay=BROKER_RETRY_SECS)
        except BrokerError as error:
            log.warning("webhooks: %s could not be put back: %s", message.subject, error)
            await asyncio.sleep(BROKER_RETRY_SECS)

    async def _settle(self, message: Msg) -> None:
        """The net for whatever cannot be used: it is a dead letter, and the next event is taken. Raises Unavailable."""
        try:
            return await self._turn(message)
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

    async def _turn(self, message: Msg) -> None:
        kind, seq = subjects.last_token(message.subject), message.metadata.sequence.stream
        if subjects.topic(message.subject) == subjects.MODEL_EVENTS_PREFIX:
            await self._tell_of_the_model(message, seq)
        elif kind == subjects.QUEUED:
            await self._register(subjects.job_of(message.subject), message.data)
        else:
            await self._tell(subjects.job_of(message.subject), kind, message.data, seq)

    async def _tell_of_the_model(self, message: Msg, seq: int) -> None:
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

    async def _register(self, job_id: str, body: bytes) -> None:
        """Every URL that was ever given is told of the model, whichever door the job came through.

        No name is looked up here: a name server that does not answer would hold up every other event. The address is
        checked when it is connected to.
        """
        try:
            request = parse_request(body)
            webhook = webhook_of(request, request.created_at or datetime.now(UTC))
            if webhook is None:
                self._remember_silent(job_id)
            elif not await self._urls.is_registered(webhook.id):
                self._guard.check_address(webhook.url)
                await self._urls.register(webhook)
        except RequestError as error:
            log.warning("job %s: no webhook is registered: %s", job_id, error.detail)

    async def _tell(self, job_id: str, kind: str, body: bytes, seq: int) -> None:
        if job_id in self._silent:
            if kind in events.TERMINAL_TYPES:
                del self._silent[job_id]
            return
        event = inputs.job_event(subjects.event(job_id, kind), body)
        if event is None:
            return  # a later version's
        record = await self._record(job_id, event)
        if record is None or record.request.webhook_url is None:
            self._remember_silent(job_id)
        elif (delivery := job_delivery(event, record, seq)) is not None:
            await self._deliveries.add(delivery)

    async def _record(self, job_id: str, event: events.JobEvent) -> JobRecord | None:
        if isinstance(event, events.TerminalEvent):
            return event.record
        return await self._records.get(job_id)

    def _remember_silent(self, job_id: str) -> None:
        if len(self._silent) >= JOBS_REMEMBERED:
            del self._silent[next(iter(self._silent))]
        self._silent[job_id] = None
