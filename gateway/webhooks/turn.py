"""One turn of a URL: its deliveries are sent in order, until none is left, an attempt fails, or the time of the turn is over."""

import asyncio
import logging
import time
from dataclasses import dataclass

import msgspec

from broker.connection import goodbye
from broker.dead_letters import DeadLetters
from broker.errors import BrokerError, Conflict, Refused
from broker.job_records import has_ended
from broker.webhook_queues import Claim, NotNow, Waiting, WebhookQueues
from broker.webhooks import WebhookUrls
from gateway.operations.jobs import JobOperations
from gateway.webhooks.lanes import SLOW_SECS
from gateway.webhooks.posting import Poster
from gateway.webhooks.schedule import Delivered, Drop, GiveUp, TryAgain, Unregister, after_try
from schemas import inputs, subjects
from schemas.jobs import WebhookEvent, to_job
from schemas.urls import is_http_url, shown
from schemas.webhooks import PROGRESS_SECS, WebhookDelivery, job_notice

log = logging.getLogger(__name__)

TURN_SECS = 0.5
"""No delivery is begun after this time, because other URLs of the lane have their turns first."""
STRAY = "stray"
"""Stands in the subject of a dead letter in place of an id that is invalid."""


class TurnEnd(msgspec.Struct, kw_only=True, frozen=True):
    """How a turn has ended."""

    again_secs: float | None
    """Seconds until the next turn may begin; None where nothing waits."""
    is_due_then: bool = False
    """Whether a turn before that would be useless."""
    well: bool | None = None
    """Whether the last delivery was taken, and fast; None where there was none."""


@dataclass(frozen=True, kw_only=True)
class Means:
    """What all turns of a gateway share."""

    queues: WebhookQueues
    urls: WebhookUrls
    dead: DeadLetters
    jobs: JobOperations
    poster: Poster
    backoff_secs: tuple[float, ...]


async def take_turn(means: Means, webhook_id: str) -> TurnEnd:
    """Claim the queue of a URL, and deliver from it.

    Raises Unavailable; then the claim is kept for the next turn of this gateway, or until it runs out.
    """
    # The id becomes a key, which may have the letters of a job id.
    if not subjects.is_job_id(webhook_id):
        return await _clear_strays(means, webhook_id)
    claim = await means.queues.claim(webhook_id)
    if isinstance(claim, NotNow):
        return TurnEnd(again_secs=claim.secs, is_due_then=claim.is_due_then)
    try:
        return await _Turn(means, claim).run()
    except Conflict:
        log.info("webhook %s: another gateway delivers to it now", webhook_id)
        return TurnEnd(again_secs=means.queues.lease_secs)
    except asyncio.CancelledError:
        async with goodbye(f"hand over webhook {webhook_id}"):
            await means.queues.release(claim)
            await means.queues.offer(webhook_id)
        raise


async def _clear_strays(means: Means, token: str) -> TurnEnd:
    for waiting in await means.queues.strays(token):
        reason = f"{token[:64]!a} is no webhook's id"
        letter = msgspec.structs.replace(waiting, subject=subjects.webhook(STRAY))
        await _bury(means, letter, waiting.body, reason)
    return TurnEnd(again_secs=None)


async def _bury(means: Means, waiting: Waiting, body: bytes, reason: str) -> None:
    try:
        await means.dead.add(waiting.subject, body, reason, f"webhook {waiting.seq}")
    except Refused as error:
        log.error("%s %d is given up and cannot be kept: %s", waiting.subject, waiting.seq, error)
    await means.queues.remove(waiting)


class _Turn:
    """One turn whose queue is claimed."""

    def __init__(self, means: Means, claim: Claim) -> None:
        self._means, self._claim = means, claim
        self._well: bool | None = None
        self._works = False
        """Whether a delivery of this turn has succeeded, and the URL is marked as working."""

    async def run(self) -> TurnEnd:
        """Deliver until the turn ends. Raises Conflict where another gateway has taken the queue, Unavailable."""
        queues, claim, begun = self._means.queues, self._claim, time.monotonic()
        while (waiting := await queues.first(claim.webhook_id)) is not None:
            if time.monotonic() - begun > TURN_SECS:
                await queues.release(claim)
                return TurnEnd(again_secs=0.0, well=self._well)
            if (ended := await self._settle(waiting)) is not None:
                return ended
        await queues.release(claim)
        # A delivery that was stored before the release may have been offered to a gateway that could not claim the queue.
        left = await queues.first(claim.webhook_id) is not None
        return TurnEnd(again_secs=0.0 if left else None, well=self._well)

    async def _settle(self, waiting: Waiting) -> TurnEnd | None:
        """Deliver one message, or make a dead letter of one that cannot be used. Returns None where the next one may follow."""
        try:
            return await self._handle(waiting)
        except Refused as error:
            reason = str(error)
        except BrokerError:
            raise
        except Exception as error:
            log.exception("%s %d cannot be used", waiting.subject, waiting.seq)
            reason = f"it cannot be used: {type(error).__name__}"
        await _bury(self._means, waiting, waiting.body, reason)
        return None

    async def _handle(self, waiting: Waiting) -> TurnEnd | None:
        try:
            delivery = inputs.DELIVERY.read(waiting.body)
        except inputs.Unreadable as error:
            await _bury(self._means, waiting, waiting.body, f"it is no delivery: {error}")
            return None
        if not is_http_url(delivery.webhook.url):
            await _bury(self._means, waiting, waiting.body, "its URL cannot be used")
            return None
        is_progress = delivery.type == WebhookEvent.PROGRESS
        body = None if is_progress and waiting.age_secs > PROGRESS_SECS else await self._body(delivery)
        if body is None:
            log.info("webhook %s to %s is out of date", delivery.type, shown(delivery.webhook.url))
            await self._means.queues.remove(waiting)
            return None
        return await self._attempt(waiting, delivery, body)

    async def _body(self, delivery: WebhookDelivery) -> bytes | None:
        """Return the body of the POST; None for a job that is erased. Raises Unavailable."""
        if delivery.record is None:
            return msgspec.json.encode(delivery.model)
        record, jobs = delivery.record, self._means.jobs
        if await jobs.records.get(record.id) is None:
            return None
        job = await jobs.view(record) if has_ended(record) else to_job(record, [])
        return msgspec.json.encode(job_notice(delivery.type, job))

    async def _attempt(self, waiting: Waiting, delivery: WebhookDelivery, body: bytes) -> TurnEnd | None:
        means, claim = self._means, self._claim
        await means.queues.renew(claim)
        tries = 1 + (claim.state.tries if claim.state.seq == waiting.seq else 0)
        number = delivery.number - 1 + tries
        begun = time.monotonic()
        status, words = await means.poster.post(delivery, body)
        told = f"webhook {delivery.type} to {shown(delivery.webhook.url)}: try {number}: {words}"
        once = delivery.type == WebhookEvent.PROGRESS
        decision = after_try(number, status, means.backoff_secs, once=once)
        self._well = isinstance(decision, Delivered) and time.monotonic() - begun < SLOW_SECS
        match decision:
            case Delivered():
                log.debug("%s", told)
                await self._delivered(waiting)
            case TryAgain(delay_secs):
                log.info("%s; again in %g s", told, delay_secs)
                await means.queues.put_off(claim, waiting.seq, tries, delay_secs)
                return TurnEnd(again_secs=delay_secs, is_due_then=True, well=False)
            case GiveUp():
                log.warning("%s; given up", told)
                anew = msgspec.structs.replace(delivery, number=1, round=delivery.round + 1)
                await _bury(means, waiting, msgspec.json.encode(anew), told)
                await means.urls.mark(claim.webhook_id, failing_since=means.queues.clock.now())
            case Drop():
                log.info("%s; not tried again", told)
                await means.queues.remove(waiting)
            case Unregister():
                log.info("%s; unregistered", told)
                await means.queues.remove(waiting)
                if await means.urls.remove(claim.webhook_id):
                    # Its waiting deliveries and our claim are removed as well.
                    return TurnEnd(again_secs=None, well=self._well)
        return None

    async def _delivered(self, waiting: Waiting) -> None:
        await self._means.queues.remove(waiting)
        if not self._works:
            await self._means.urls.mark(self._claim.webhook_id, failing_since=None)
            self._works = True
