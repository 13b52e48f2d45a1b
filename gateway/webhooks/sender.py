"""Deliveries become POSTs. Each is a message until it has succeeded or is given up, so a crash or a restart loses none."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpcore
import msgspec
from nats.aio.msg import Msg

from broker.connection import mapped_errors
from broker.dead_letters import DeadLetters
from broker.errors import BrokerError
from broker.webhooks import WebhookDeliveries, WebhookUrls
from gateway.job_service import JobService
from gateway.webhooks.events import EventTurner, patiently
from gateway.webhooks.guard import AddressRefused, Guard, GuardedBackend
from gateway.webhooks.schedule import Delivered, GiveUp, TryAgain, Unregister, after_try, wait_secs
from gateway.webhooks.signing import headers
from schemas.job_lifecycle import TERMINAL
from schemas.jobs import WebhookEvent, to_job
from schemas.webhooks import WebhookDelivery, job_notice

log = logging.getLogger(__name__)

TIMEOUT_SECS = 10.0
"""For the whole of a try."""
AT_ONCE, AT_ONCE_PER_HOST = 64, 8
"""POSTs of one gateway. A slow receiver holds up its own."""
BUSY_SECS = 1.0
"""How long a delivery is put off whose host has enough to do."""


class Sender:
    def __init__(
        self,
        turner: EventTurner,
        urls: WebhookUrls,
        deliveries: WebhookDeliveries,
        dead: DeadLetters,
        jobs: JobService,
        guard: Guard,
        secrets: list[bytes],
        backoff_secs: tuple[float, ...],
    ) -> None:
        self._turner, self._urls, self._deliveries, self._dead, self._jobs = (
            turner,
            urls,
            deliveries,
            dead,
            jobs,
        )
        self._guard, self._secrets, self._backoff_secs = guard, secrets, backoff_secs
        self._busy: Counter[str] = Counter()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver while inside. What is under way at the end is delivered again by another gateway."""
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self._run(), name="webhooks")
            try:
                yield
            finally:
                running.cancel()

    async def _run(self) -> None:
        pool = httpcore.AsyncConnectionPool(
            network_backend=GuardedBackend(self._guard), max_connections=AT_ONCE
        )
        async with asyncio.TaskGroup() as tasks, pool:
            tasks.create_task(self._turner.run(), name="webhook events")
            slots = asyncio.Semaphore(AT_ONCE)
            while True:
                await slots.acquire()
                message = await patiently(self._deliveries.next)
                task = tasks.create_task(self._handle(pool, message), name="webhook delivery")
                task.add_done_callback(lambda _task: slots.release())

    async def _handle(self, pool: httpcore.AsyncConnectionPool, message: Msg) -> None:
        try:
            delivery = msgspec.json.decode(message.data, type=WebhookDelivery)
        except msgspec.DecodeError as error:
            await self._settle(message, "an unusable delivery", self._bury(message, message.data, str(error)))
            return
        host = urlsplit(delivery.webhook.url).netloc
        wait = wait_secs(delivery.due, datetime.now(UTC))
        if wait or self._busy[host] >= AT_ONCE_PER_HOST:
            await self._settle(message, "a delivery that is put off", message.nak(delay=wait or BUSY_SECS))
            return
        self._busy[host] += 1
        try:
            await self._try(pool, message, delivery)
        finally:
            self._busy[host] -= 1
            if not self._busy[host]:
                del self._busy[host]

    async def _try(self, pool: httpcore.AsyncConnectionPool, message: Msg, delivery: WebhookDelivery) -> None:
        what = f"webhook {delivery.type} to {delivery.webhook.url}"
        try:
            body = await self._body(delivery)
        except BrokerError as error:
            log.warning("%s: it will be delivered again: %s", what, error)
            return
        if body is None:
            log.info("%s: the job is erased, nothing is sent", what)
            await self._settle(message, what, message.term())
            return
        status, words = await post(pool, delivery, body, self._secrets)
        told = f"{what}: try {delivery.number}: {words}"
        match after_try(delivery.number, status, self._backoff_secs):
            case Delivered():
                log.debug("%s", told)
                await self._settle(message, told, message.ack())
            case TryAgain(delay_secs):
                log.info("%s; again in %g s", told, delay_secs)
                await self._settle(message, told, self._again(message, delivery, delay_secs))
            case GiveUp():
                log.warning("%s; given up", told)
                anew = msgspec.structs.replace(delivery, number=1, due=None, round=delivery.round + 1)
                await self._settle(message, told, self._bury(message, msgspec.json.encode(anew), told))
            case Unregister():
                log.info("%s; unregistered", told)
                await self._settle(message, told, self._unregister(message, delivery))

    async def _body(self, delivery: WebhookDelivery) -> bytes | None:
        """What is POSTed; None for a job that is erased. Raises Unavailable."""
        if delivery.record is None:
            return msgspec.json.encode(delivery.model)
        record, kind = delivery.record, WebhookEvent(delivery.type)
        if await self._jobs.records.get(record.id) is None:
            return None
        job = await self._jobs.job(record) if record.status in TERMINAL else to_job(record, [])
        return msgspec.json.encode(job_notice(kind, job))

    async def _again(self, message: Msg, delivery: WebhookDelivery, delay_secs: float) -> None:
        due = datetime.now(UTC) + timedelta(seconds=delay_secs)
        await self._deliveries.add(msgspec.structs.replace(delivery, number=delivery.number + 1, due=due))
        await message.ack()

    async def _bury(self, message: Msg, body: bytes, reason: str) -> None:
        letter_id = f"webhook {message.metadata.sequence.stream}"
        await self._dead.add(message.subject, body, reason, letter_id)
        await message.term()

    async def _unregister(self, message: Msg, delivery: WebhookDelivery) -> None:
        await message.term()
        await self._urls.remove(delivery.webhook.id)

    async def _settle(self, message: Msg, told: str, settling: Awaitable[None]) -> None:
        """What is not settled comes again after the ack deadline."""
        try:
            with mapped_errors():
                await settling
        except BrokerError as error:
            log.warning("%s; it will be delivered again: %s", told, error)


async def post(
    pool: httpcore.AsyncConnectionPool, delivery: WebhookDelivery, body: bytes, secrets: list[bytes]
) -> tuple[int | None, str]:
    """One try: the status of the answer, None where there was none; and in words."""
    fields = headers(delivery.id, datetime.now(UTC), body, secrets)
    try:
        async with (
            asyncio.timeout(TIMEOUT_SECS),
            pool.stream("POST", delivery.webhook.url, headers=list(fields.items()), content=body) as answer,
        ):
            return answer.status, f"{answer.status}"  # what it says does not matter, however long
    except AddressRefused as error:
        return None, str(error)
    except (
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.TimeoutException,
        httpcore.UnsupportedProtocol,
    ) as error:
        return None, f"{type(error).__name__} {error}".strip()
    except TimeoutError:
        return None, f"no answer within {TIMEOUT_SECS:g} s"
