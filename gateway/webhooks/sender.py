"""Webhooks: events to deliveries, deliveries to POSTs. Both are messages, so a crash or a restart loses none."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx
import msgspec
from nats.aio.msg import Msg

from broker.connection import mapped_errors
from broker.errors import BrokerError
from broker.webhooks import WebhookDeliveries, WebhookUrls
from gateway.webhooks.schedule import Delivered, GiveUp, TryAgain, Unregister, after_try
from schemas import subjects
from schemas.errors import RequestError
from schemas.jobs import JobRequest, parse_request
from schemas.model import ModelEvent
from schemas.webhooks import Webhook, WebhookDelivery, webhook_id

log = logging.getLogger(__name__)

TIMEOUT_SECS = 10.0
AT_ONCE = 32
"""POSTs of one gateway."""
BROKER_RETRY_SECS = 1.0


def webhook_of(request: JobRequest) -> Webhook | None:
    """The webhook that a job brings."""
    if request.webhook_url is None:
        return None
    created_at = request.created_at or datetime.now(UTC)
    return Webhook(id=webhook_id(request.webhook_url), url=request.webhook_url, created_at=created_at)


class Sender:
    def __init__(self, urls: WebhookUrls, deliveries: WebhookDeliveries) -> None:
        self._urls, self._deliveries = urls, deliveries

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Register, and deliver, while inside. What is under way at the end is delivered again by another gateway."""
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self._run(), name="webhooks")
            try:
                yield
            finally:
                running.cancel()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks, httpx.AsyncClient(timeout=TIMEOUT_SECS) as http:
            tasks.create_task(self._turn_events(), name="webhook events")
            await self._post_all(http, tasks)

    async def _turn_events(self) -> None:
        while True:
            message = await patiently(self._deliveries.next_event)
            try:
                await self._turn(message)
                with mapped_errors():
                    await message.ack()
            except BrokerError as error:
                log.warning("webhooks: %s is not through, it will come again: %s", message.subject, error)

    async def _turn(self, message: Msg) -> None:
        """One event: what it brings is registered, what it tells is put into the queue of each URL."""
        kind = subjects.last_token(message.subject)
        if kind == subjects.QUEUED:
            try:
                webhook = webhook_of(parse_request(message.data))
            except RequestError:  # the worker discards it, and says so
                return
            if webhook is not None:
                await self._urls.register(webhook)
            return
        event, seq = msgspec.json.decode(message.data, type=ModelEvent), message.metadata.sequence.stream
        for webhook in await self._urls.registered():
            await self._deliveries.add(
                WebhookDelivery(id=f"msg_{seq}_{webhook.id}", webhook=webhook, event=event)
            )

    async def _post_all(self, http: httpx.AsyncClient, tasks: asyncio.TaskGroup) -> None:
        slots = asyncio.Semaphore(AT_ONCE)
        while True:
            await slots.acquire()
            message = await patiently(self._deliveries.next)
            task = tasks.create_task(self._deliver(http, message), name="webhook delivery")
            task.add_done_callback(lambda _task: slots.release())

    async def _deliver(self, http: httpx.AsyncClient, message: Msg) -> None:
        delivery = msgspec.json.decode(message.data, type=WebhookDelivery)
        number = message.metadata.num_delivered or 1
        status, words = await post(http, delivery)
        told = f"webhook {delivery.event.type} to {delivery.webhook.url}: try {number}: {words}"
        try:
            with mapped_errors():
                match after_try(number, status):
                    case Delivered():
                        await message.ack()
                    case TryAgain(delay_secs):
                        log.info("%s; again in %g s", told, delay_secs)
                        await message.nak(delay=delay_secs)
                    case GiveUp():
                        log.warning("%s; given up", told)
                        await message.term()
                    case Unregister():
                        log.info("%s; unregistered", told)
                        await message.term()
                        await self._urls.remove(delivery.webhook.id)
        except BrokerError as error:
            log.warning("%s; it will be delivered again: %s", told, error)


async def post(http: httpx.AsyncClient, delivery: WebhookDelivery) -> tuple[int | None, str]:
    """One try: the status of the answer, None where there was none; and in words."""
    headers = {
        "Content-Type": "application/json",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(int(datetime.now(UTC).timestamp())),
    }
    body = msgspec.json.encode(delivery.event)
    try:
        async with (
            asyncio.timeout(TIMEOUT_SECS),
            http.stream("POST", delivery.webhook.url, content=body, headers=headers) as answer,
        ):
            return answer.status_code, f"{answer.status_code}"  # what it says does not matter, however long
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        return None, f"{type(error).__name__} {error}".strip()


async def patiently(pull: Callable[[], Awaitable[Msg]]) -> Msg:
    """Pull, whatever it takes: a server that is gone comes back."""
    while True:
        try:
            return await pull()
        except BrokerError as error:
            log.warning("webhooks: nothing can be pulled: %s", error)
            await asyncio.sleep(BROKER_RETRY_SECS)
