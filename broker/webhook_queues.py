"""The deliveries that wait for a URL are a queue of their own, and one gateway at a time works on it.

The stream WHISPER_WEBHOOKS has no consumer: the first message of a subject is read by the stream's leader and deleted once
it is settled. Whose turn it is stands in WHISPER_WEBHOOK_QUEUES, changed by compare-and-set. A queue whose next try is not due
costs nothing: no message is handed out and put back (docs/adr/0015).
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError
from nats.js.kv import KeyValue

from broker.connection import goodbye, mapped_errors
from broker.deleting import delete_message
from broker.errors import Conflict, Unavailable
from broker.scanning import scan
from broker.topology.declared import KV_KEY, KV_STREAM
from schemas import inputs, subjects
from schemas.webhooks import QueueState

LEASE_SECS = 15.0
"""A gateway that has not renewed its claim for so long is dead, and another one goes on. A try takes 10 s at the most."""
RENEW_SECS = 2.0
"""A claim is renewed before a try unless it is younger than this: so the try ends before the claim does."""
MAX_DELAY_SECS = 24 * 3600.0
"""Whatever an entry says: WEBHOOK_BACKOFF allows no more."""
REQUEST_SECS = 10.0
GATEWAYS = "gateways"
"""The queue group that a hint goes to one member of."""


class Waiting(msgspec.Struct, kw_only=True, frozen=True):
    """The first delivery in a queue, as it is stored."""

    seq: int
    subject: str
    body: bytes
    age_secs: float
    """How long it has been stored, by the server's clock."""


class Claim(msgspec.Struct, kw_only=True):
    """A queue that is ours."""

    webhook_id: str
    revision: int
    state: QueueState
    renewed_at: float
    """By the monotonic clock."""


class NotNow(msgspec.Struct, kw_only=True, frozen=True):
    """A queue that cannot be claimed yet."""

    secs: float
    is_due_then: bool
    """True where its next try is due then, whatever else comes; False where another gateway has it until then."""


class ServerClock:
    """nats-server's time, so that two gateways whose clocks differ agree on what is due."""

    def __init__(self) -> None:
        self._told: datetime | None = None
        self._told_at = 0.0

    def set(self, told: datetime) -> None:
        self._told, self._told_at = told, time.monotonic()

    def now(self) -> datetime:
        """Raises RuntimeError before the first answer of the server."""
        if self._told is None:
            raise RuntimeError("the server's time is not known yet")
        return self._told + timedelta(seconds=time.monotonic() - self._told_at)

    def age_secs(self, stored: datetime) -> float:
        """Of what the server has stored. Its time is known a moment late, so what is new would seem to be of the future."""
        return max(0.0, (self.now() - stored).total_seconds())


class WebhookQueues:
    def __init__(self, js: JetStreamContext, bucket: KeyValue, owner: str, lease_secs: float) -> None:
        self._js, self._bucket, self._owner, self.lease_secs = js, bucket, owner, lease_secs
        self.clock = ServerClock()

    @classmethod
    async def open(cls, js: JetStreamContext, owner: str, lease_secs: float = LEASE_SECS) -> "WebhookQueues":
        """`owner` names this gateway, and is different for each process. Raises Unavailable."""
        with mapped_errors():
            queues = cls(js, await js.key_value(subjects.WEBHOOK_QUEUES_BUCKET), owner, lease_secs)
        await queues.last_sequence()
        return queues

    async def last_sequence(self) -> int:
        """Of the stream: where it has not grown nothing new waits. Raises Unavailable."""
        return (await self._info("")).state.last_seq

    async def waiting(self) -> list[str]:
        """Every URL for which something waits. Raises Unavailable."""
        found = await self._info(subjects.ALL_WEBHOOKS)
        return [subjects.last_token(subject) for subject in found.state.subjects]

    @asynccontextmanager
    async def hints(self, deliver: Callable[[str], Awaitable[None]]) -> AsyncIterator[None]:
        """Call `deliver` with the id of each URL for which something is stored. One gateway gets each hint."""

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
        """The oldest delivery for a URL; None also for what can be no id (`strays`). Raises Unavailable."""
        if not subjects.is_job_id(webhook_id):
            return None
        found = await self._get(subjects.WEBHOOKS_STREAM, subjects.webhook(webhook_id), first=True)
        if found is None or found.time is None:
            return None
        return Waiting(
            seq=found.seq or 0,
            subject=found.subject or "",
            body=found.data or b"",
            age_secs=self.clock.age_secs(found.time),
        )

    async def strays(self, token: str) -> list[Waiting]:
        """What is stored on a subject that is no URL's. Its token may be a wildcard: nothing else is given. Raises Unavailable."""
        found = scan(self._js, subjects.WEBHOOKS_STREAM, subjects.ALL_WEBHOOKS)
        return [
            Waiting(seq=stored.seq, subject=stored.subject, body=stored.body, age_secs=0.0)
            async for stored in found
            if stored.subject == subjects.webhook(token)
        ]

    async def remove(self, waiting: Waiting) -> None:
        """It is settled. Raises Unavailable."""
        await delete_message(self._js, subjects.WEBHOOKS_STREAM, waiting.seq)

    async def claim(self, webhook_id: str) -> Claim | NotNow:
        """Raises Unavailable."""
        key = KV_KEY.format(subjects.WEBHOOK_QUEUES_BUCKET, webhook_id)
        found = await self._get(KV_STREAM.format(subjects.WEBHOOK_QUEUES_BUCKET), key)
        state, revision = QueueState(), 0
        if found is not None and found.time is not None:
            state, revision = _read_state(found.data or b""), found.seq or 0
            age = self.clock.age_secs(found.time)
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
        """Raises Conflict where it is another gateway's by now, Unavailable."""
        if time.monotonic() - claim.renewed_at > RENEW_SECS:
            await self._write(claim)

    async def put_off(self, claim: Claim, seq: int, tries: int, delay_secs: float) -> None:
        """Release the claim after a try of delivery `seq` that failed. Raises Conflict, Unavailable."""
        await self._write(claim, owner=None, seq=seq, tries=tries, delay_secs=delay_secs)

    async def release(self, claim: Claim) -> None:
        """Raises Conflict, Unavailable."""
        await self._write(claim, owner=None)

    async def offer(self, webhook_id: str) -> None:
        """Tell a gateway that this queue can be claimed. Raises Unavailable."""
        with mapped_errors():
            await self._js._nc.publish(subjects.webhook_waiting(webhook_id))

    async def _write(self, claim: Claim, **changes: Any) -> None:
        begun = time.monotonic()
        state = msgspec.structs.replace(claim.state, **changes)
        with mapped_errors():
            claim.revision = await self._bucket.update(
                claim.webhook_id, msgspec.json.encode(state), last=claim.revision
            )
        claim.state, claim.renewed_at = state, begun

    async def _info(self, pattern: str) -> "_Info":
        """Decoded here: with ten thousand subjects nats-py's way of it would hold up the loop."""
        request = msgspec.json.encode({"subjects_filter": pattern}) if pattern else b""
        subject = f"$JS.API.STREAM.INFO.{subjects.WEBHOOKS_STREAM}"
        with mapped_errors():
            answer = await self._js._nc.request(subject, request, timeout=REQUEST_SECS)
        info = msgspec.json.decode(answer.data, type=_Info)
        if info.error is not None:
            raise Unavailable(f"{subjects.WEBHOOKS_STREAM}: {info.error}")
        self.clock.set(info.ts)
        return info

    async def _get(self, stream: str, subject: str, *, first: bool = False) -> RawStreamMsg | None:
        """The first or the last message of a subject, from the leader: a replica may be behind what we have just done."""
        with mapped_errors():
            try:
                if first:
                    return await self._js.get_msg(stream, seq=1, subject=subject, next=True)
                return await self._js.get_msg(stream, subject=subject)
            except NotFoundError:
                return None


class _State(msgspec.Struct):
    last_seq: int = 0
    subjects: dict[str, int] = {}


class _Info(msgspec.Struct):
    """What is needed of a STREAM.INFO response."""

    ts: datetime = datetime.min.replace(tzinfo=UTC)
    state: _State = msgspec.field(default_factory=_State)
    error: dict[str, object] | None = None


def _read_state(body: bytes) -> QueueState:
    """What cannot be read is nobody's claim."""
    try:
        return inputs.WEBHOOK_QUEUE.read(body)
    except inputs.Unreadable:
        return QueueState()
