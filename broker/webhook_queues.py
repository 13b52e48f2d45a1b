"""The queue of each webhook URL: its deliveries in order, on which one gateway at a time works.

The stream WHISPER_WEBHOOKS has no consumer: the first message of a subject is read from the stream's leader, and deleted when it
is settled. The bucket WHISPER_WEBHOOK_QUEUES says which gateway works on a queue, by compare-and-set. A queue whose next attempt is
not due costs nothing, because no message is delivered and put back (docs/adr/0015).
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from broker.bucket import Bucket
from broker.connection import goodbye
from broker.deleting import delete_message
from broker.error_mapping import mapped_errors
from broker.errors import Conflict
from broker.scanning import scan
from broker.stream_info import StreamInfo, stream_info
from broker.webhooks import open_queue_states
from schemas import subjects
from schemas.webhooks import QueueState

LEASE_SECS = 15.0
"""A claim that is older is free for another gateway. An attempt takes 10 s at the most."""
RENEW_SECS = 2.0
"""A claim that is older is renewed before an attempt, so that the attempt ends before the claim does."""
MAX_DELAY_SECS = 24 * 3600.0
"""Limit of the delay that an entry may ask for: WEBHOOK_BACKOFF allows no more."""
GATEWAYS = "gateways"
"""The queue group of the gateways: each hint goes to one of them."""


class Waiting(msgspec.Struct, kw_only=True, frozen=True):
    """A delivery as it is stored."""

    seq: int
    subject: str
    body: bytes
    age_secs: float
    """Seconds since it was stored, by the server's clock."""


class Claim(msgspec.Struct, kw_only=True):
    """Our claim on a queue."""

    webhook_id: str
    revision: int
    state: QueueState
    renewed_at: float
    """On time.monotonic."""


class NotNow(msgspec.Struct, kw_only=True, frozen=True):
    """A queue that cannot be claimed yet."""

    secs: float
    is_due_then: bool
    """Whether its next attempt is due then, so that nothing can be done before. Otherwise another gateway has it until then."""


class ServerClock:
    """The clock of nats-server, so that two gateways whose clocks differ agree on what is due."""

    def __init__(self) -> None:
        self._told: datetime | None = None
        self._told_at = 0.0

    def set(self, told: datetime) -> None:
        """Set the clock to a time that the server has sent just now."""
        self._told, self._told_at = told, time.monotonic()

    def now(self) -> datetime:
        """Return the server's time. Raises RuntimeError before `set`."""
        if self._told is None:
            raise RuntimeError("the server's time is not known yet")
        return self._told + timedelta(seconds=time.monotonic() - self._told_at)

    def age_secs(self, stored: datetime) -> float:
        """Return the age of a stored message. Never negative, although our clock is a moment behind the server's."""
        return max(0.0, (self.now() - stored).total_seconds())


class WebhookQueues:
    """The queues of all URLs, as one gateway works on them."""

    def __init__(
        self, js: JetStreamContext, bucket: Bucket[QueueState], owner: str, lease_secs: float
    ) -> None:
        self._js, self._bucket, self._owner, self.lease_secs = js, bucket, owner, lease_secs
        self.clock = ServerClock()

    @classmethod
    async def open(cls, js: JetStreamContext, owner: str, lease_secs: float = LEASE_SECS) -> "WebhookQueues":
        """`owner` names this gateway, and is different for each process. Raises Unavailable."""
        queues = cls(js, await open_queue_states(js), owner, lease_secs)
        await queues.last_sequence()
        return queues

    async def last_sequence(self) -> int:
        """Return the last sequence of the stream: while it does not grow, nothing new waits. Raises Unavailable."""
        return (await self._info("")).state.last_seq

    async def waiting(self) -> list[str]:
        """Return the id of every URL that has deliveries waiting. Raises Unavailable."""
        found = await self._info(subjects.ALL_WEBHOOKS)
        return [subjects.last_token(subject) for subject in found.state.subjects]

    @asynccontextmanager
    async def hints(self, deliver: Callable[[str], Awaitable[None]]) -> AsyncIterator[None]:
        """Call `deliver` with the id of a URL each time that a delivery is stored for it. Each hint goes to one gateway."""

        async def on_message(message: Msg) -> None:
            await deliver(subjects.last_token(message.subject))

        with mapped_errors():
            subscription = await self._js._nc.subscribe(
                subjects.ALL_WEBHOOK_WAITING, queue=GATEWAYS, cb=on_message
            )
        try:
            yield
        finally:
            async with goodbye("webhook hints"):
                await subscription.unsubscribe()

    async def first(self, webhook_id: str) -> Waiting | None:
        """Return the oldest delivery of a URL; None where there is none, or where the id is invalid. Raises Unavailable."""
        if not subjects.is_job_id(webhook_id):
            return None
        with mapped_errors():
            try:
                # Not a direct get: a replica may be behind what we have just deleted.
                found = await self._js.get_msg(
                    subjects.WEBHOOKS_STREAM, seq=1, subject=subjects.webhook(webhook_id), next=True
                )
            except NotFoundError:
                return None
        if found.time is None:
            return None
        return Waiting(
            seq=found.seq or 0,
            subject=found.subject or "",
            body=found.data or b"",
            age_secs=self.clock.age_secs(found.time),
        )

    async def strays(self, token: str) -> list[Waiting]:
        """Return what is stored on the subject of an invalid id, and on no other, also where the id is a wildcard.

        Raises Unavailable.
        """
        found = scan(self._js, subjects.WEBHOOKS_STREAM, subjects.ALL_WEBHOOKS)
        return [
            Waiting(seq=stored.seq, subject=stored.subject, body=stored.body, age_secs=0.0)
            async for stored in found
            if stored.subject == subjects.webhook(token)
        ]

    async def remove(self, waiting: Waiting) -> None:
        """Delete a delivery that is settled. Raises Unavailable."""
        await delete_message(self._js, subjects.WEBHOOKS_STREAM, waiting.seq)

    async def claim(self, webhook_id: str) -> Claim | NotNow:
        """Claim the queue of a URL, or say when that may be tried again. Raises Unavailable."""
        entry = await self._bucket.get_from_leader(webhook_id)
        # A state that cannot be read is nobody's claim.
        state, revision = entry.value or QueueState(), entry.revision
        if entry.stored_at is not None:
            age = self.clock.age_secs(entry.stored_at)
            if state.owner not in (None, self._owner) and age < self.lease_secs:
                return NotNow(secs=self.lease_secs - age, is_due_then=False)
            delay = min(state.delay_secs, MAX_DELAY_SECS)
            if state.owner is None and age < delay:
                return NotNow(secs=delay - age, is_due_then=True)
        claim = Claim(webhook_id=webhook_id, revision=revision, state=state, renewed_at=0.0)
        try:
            await self._write(claim, owner=self._owner, delay_secs=0.0)
        except Conflict:
            return NotNow(secs=self.lease_secs, is_due_then=False)
        return claim

    async def renew(self, claim: Claim) -> None:
        """Renew a claim that is not fresh. Raises Conflict where another gateway has the queue by now, Unavailable."""
        if time.monotonic() - claim.renewed_at > RENEW_SECS:
            await self._write(claim)

    async def put_off(self, claim: Claim, seq: int, tries: int, delay_secs: float) -> None:
        """Release the claim after a failed attempt at the delivery `seq`; the next one is due in `delay_secs`.

        Raises Conflict, Unavailable.
        """
        await self._write(claim, owner=None, seq=seq, tries=tries, delay_secs=delay_secs)

    async def release(self, claim: Claim) -> None:
        """Give the claim back. Raises Conflict, Unavailable."""
        await self._write(claim, owner=None)

    async def offer(self, webhook_id: str) -> None:
        """Send one of the gateways a hint that this queue can be claimed. Raises Unavailable."""
        with mapped_errors():
            await self._js._nc.publish(subjects.webhook_waiting(webhook_id))

    async def _write(self, claim: Claim, **changes: Any) -> None:
        begun = time.monotonic()
        state = msgspec.structs.replace(claim.state, **changes)
        claim.revision = await self._bucket.update(claim.webhook_id, state, claim.revision)
        claim.state, claim.renewed_at = state, begun

    async def _info(self, pattern: str) -> StreamInfo:
        info = await stream_info(self._js, subjects.WEBHOOKS_STREAM, pattern)
        self.clock.set(info.ts)
        return info
