"""The event log: append with a compare-and-set, replay a job's events, follow all jobs live."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import DeliverPolicy, Header
from nats.js.client import JetStreamContext as _Js
from nats.js.errors import NotFoundError

from broker.connection import mapped_errors
from broker.errors import Conflict, Unavailable
from schemas import events, subjects
from schemas.jobs import JobRecord, Segment

REPLAY_BATCH = 256
"""Messages per request: enough to make round trips cheap, little enough to bound memory."""
REPLAY_TIMEOUT_SECS = 10.0
END_OF_BATCH, NOT_FOUND = "204", "404"
LAST_SEQUENCE_BY_SUBJECT = str(Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value)


class Logged(msgspec.Struct, kw_only=True, frozen=True):
    """An event as stored: its stream sequence (also the SSE id), its type, its body as published."""

    seq: int
    job_id: str
    type: str
    body: bytes
    at: datetime | None = None


class EventLog:
    def __init__(self, client: Client, js: JetStreamContext) -> None:
        self._client, self._js = client, js

    async def append(self, event: events.JobEvent, expect_last: int | None = None) -> int:
        """Publish; the sequence it got.

        `expect_last` is the sequence that this job's last event of this type must have, 0 for none: the fence
        that keeps two workers from writing the same segment twice. Raises Conflict, Unavailable.
        """
        subject = subjects.event(event.job_id, events.event_type(event))
        headers = None if expect_last is None else {LAST_SEQUENCE_BY_SUBJECT: str(expect_last)}
        with mapped_errors():
            ack = await self._js.publish(subject, msgspec.json.encode(event), headers=headers)
        return int(ack.seq)

    async def append_terminal(self, record: JobRecord, at: datetime) -> None:
        """Publish the event of a record's end unless it is there already: exactly one, however often this runs."""
        try:
            await self.append(events.terminal_event(record, at), expect_last=0)
        except Conflict:
            return

    async def last(self, job_id: str, event_type: str) -> Logged | None:
        """The job's newest event of a type."""
        with mapped_errors():
            try:
                found = await self._js.get_msg(
                    subjects.EVENTS_STREAM, subject=subjects.event(job_id, event_type), direct=True
                )
            except NotFoundError:
                return None
        return Logged(seq=found.seq or 0, job_id=job_id, type=event_type, body=found.data or b"")

    async def replay(self, job_id: str, after: int = 0, event_type: str = "*") -> AsyncIterator[Logged]:
        """The job's stored events with a sequence above `after`, in order. Raises Unavailable."""
        subject = subjects.event(job_id, event_type)
        while True:
            batch = await self._batch(subject, after + 1)
            for logged in batch:
                yield logged
            if len(batch) < REPLAY_BATCH:
                return
            after = batch[-1].seq

    async def segments(self, job_id: str) -> tuple[list[Segment], int]:
        """The job's transcript so far, and the sequence of its last segment event (0 for none)."""
        found, last = [], 0
        async for logged in self.replay(job_id, event_type="segment"):
            event = events.decode(logged.type, logged.body)
            if isinstance(event, events.SegmentAdded):
                found.append(event.segment)
                last = logged.seq
        return found, last

    async def follow(self, deliver: Callable[[Logged], Awaitable[None]]) -> _Js.PushSubscription:
        """Call `deliver` for each event of any job from now on, in order (an ordered consumer: gaps are refetched)."""

        async def on_message(message: Msg) -> None:
            job_id = subjects.job_id_of_event(message.subject)
            if job_id is not None:
                seq = message.metadata.sequence.stream
                kind = subjects.last_token(message.subject)
                await deliver(Logged(seq=seq, job_id=job_id, type=kind, body=message.data))

        with mapped_errors():
            return await self._js.subscribe(
                subjects.ALL_EVENTS,
                stream=subjects.EVENTS_STREAM,
                ordered_consumer=True,
                deliver_policy=DeliverPolicy.NEW,
                cb=on_message,
            )

    async def _batch(self, subject: str, start: int) -> list[Logged]:
        """One batched direct get (ADR-31 of NATS): no consumer is made, so a thousand readers cost nothing to keep."""
        inbox = self._client.new_inbox()
        request = json.dumps({"seq": start, "next_by_subj": subject, "batch": REPLAY_BATCH}).encode()
        found: list[Logged] = []
        with mapped_errors():
            sub = await self._client.subscribe(inbox)
            try:
                api = f"$JS.API.DIRECT.GET.{subjects.EVENTS_STREAM}"
                await self._client.publish(api, request, reply=inbox)
                async with asyncio.timeout(REPLAY_TIMEOUT_SECS):
                    while True:
                        message = await sub.next_msg(timeout=REPLAY_TIMEOUT_SECS)
                        headers = message.headers or {}
                        status = headers.get("Status")
                        if status in (END_OF_BATCH, NOT_FOUND):
                            return found
                        if status is not None:
                            raise Unavailable(f"replay of {subject}: {status} {headers.get('Description')}")
                        found.append(_logged(headers, message.data))
            finally:
                await sub.unsubscribe()


def _logged(headers: dict[str, str], body: bytes) -> Logged:
    subject = headers["Nats-Subject"]
    return Logged(
        seq=int(headers["Nats-Sequence"]),
        job_id=subjects.job_id_of_event(subject) or "",
        type=subjects.last_token(subject),
        body=body,
        at=msgspec.convert(headers["Nats-Time-Stamp"], datetime),
    )
