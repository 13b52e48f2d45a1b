"""The event log: append with a fence, replay the events of a job, follow all events live."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial

import msgspec
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import Header, StreamState
from nats.js.errors import NotFoundError

from broker.deleting import delete_subject
from broker.error_mapping import mapped_errors
from broker.errors import Conflict
from broker.following import Follower
from broker.reading import usable
from broker.scanning import scan
from schemas import events, inputs, subjects
from schemas.jobs import JobRecord, Segment
from schemas.model import ModelEvent
from schemas.webhooks import discreet

LAST_SEQUENCE_BY_SUBJECT = str(Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value)
LAST_SEQUENCE_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
"""Header for the subjects that the expected sequence is about (nats-server 2.11); nats-py has no name for it."""


class Logged(msgspec.Struct, kw_only=True, frozen=True):
    """An event as it is stored. Its stream sequence is also the id in server-sent events."""

    seq: int
    subject: str
    body: bytes

    @property
    def type(self) -> str:
        """Type of the event, the last token of the subject."""
        return subjects.last_token(self.subject)

    @property
    def topic(self) -> str:
        """Topic of the event (schemas.subjects.topic)."""
        return subjects.topic(self.subject)


class EventLog:
    """The stream WHISPER_EVENTS."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js

    async def append(self, event: events.JobEvent) -> int:
        """Publish an event and return its stream sequence. Raises Unavailable."""
        return await self._append(event, {})

    async def append_next(self, event: events.JobEvent, last: int) -> int:
        """Publish an event as the next one of its job, behind the event with the sequence `last`. Returns its sequence.

        This is the fence: it raises Conflict where somebody else has published an event of the job since then. A repeated
        submission does not count as one. It may be repeated where the answer was lost: an event with the same body is this
        one. Raises Unavailable.
        """
        try:
            return await self._append_behind(event, last)
        except Conflict:
            newer = [logged async for logged in self.replay(subjects.all_events_of(event.job_id), last)]
            body = msgspec.json.encode(event)
            mine = [logged for logged in newer if logged.body == body]
            if not newer or any(logged.type != subjects.QUEUED for logged in newer if logged not in mine):
                raise
            return newer[-1].seq if mine else await self._append_behind(event, newer[-1].seq)

    async def _append_behind(self, event: events.JobEvent, last: int) -> int:
        fence = {
            LAST_SEQUENCE_BY_SUBJECT: str(last),
            LAST_SEQUENCE_SUBJECT: subjects.all_events_of(event.job_id),
        }
        return await self._append(event, fence)

    async def _append(self, event: events.JobEvent, headers: dict[str, str]) -> int:
        subject = subjects.event(event.job_id, events.event_type(event))
        with mapped_errors():
            ack = await self._js.publish(subject, msgspec.json.encode(event), headers=headers)
        return int(ack.seq)

    async def append_invalid(self, event: events.Invalid, event_id: str) -> None:
        """Publish that a submission cannot be used. It may be repeated with the same `event_id`. Raises Unavailable."""
        subject = subjects.event(event.job_id, events.event_type(event))
        await self._append_once(subject, msgspec.json.encode(event), event_id)

    async def first_sequence(self) -> int:
        """Return the sequence of the oldest event that is still stored. Raises Unavailable."""
        return int((await self._state()).first_seq)

    async def last_sequence(self) -> int:
        """Return the sequence of the newest event, 0 where there was none yet. Raises Unavailable."""
        return int((await self._state()).last_seq)

    async def resume_point(self, topic: str, after: int) -> int:
        """Return `after` where it can be the last event that a follower of `topic` has seen, and else 0, the beginning.

        It cannot be one where the log is shorter, or has an event of another topic there: then this is another log, created
        again or restored since the follower has left. Raises Unavailable.
        """
        if not after or after > await self.last_sequence():
            return 0
        with mapped_errors():
            try:
                found = await self._js.get_msg(subjects.EVENTS_STREAM, seq=after, direct=True)
            except NotFoundError:
                # It is pruned, but still a position in this log.
                return after
        return after if subjects.topic(found.subject or "") == topic else 0

    async def _state(self) -> StreamState:
        with mapped_errors():
            return (await self._js.stream_info(subjects.EVENTS_STREAM)).state

    async def erase(self, job_id: str) -> None:
        """Delete all events of a job. Raises Unavailable."""
        await delete_subject(self._js, subjects.EVENTS_STREAM, subjects.all_events_of(job_id))

    async def append_terminal(self, record: JobRecord, at: datetime) -> None:
        """Publish the last event of an ended job, unless it is there: exactly one, however often this runs. Raises Unavailable."""
        record = msgspec.structs.replace(record, request=discreet(record.request))
        try:
            await self._append(events.terminal_event(record, at), {LAST_SEQUENCE_BY_SUBJECT: "0"})
        except Conflict:
            return

    async def append_model_event(self, event: ModelEvent, event_id: str) -> None:
        """Publish an event of a model. It may be repeated with the same `event_id`. Raises Unavailable."""
        subject = subjects.model_event(event.worker_id, event.type)
        await self._append_once(subject, msgspec.json.encode(event), event_id)

    async def _append_once(self, subject: str, body: bytes, event_id: str) -> None:
        """Publish once for each id within the duplicate window."""
        with mapped_errors():
            await self._js.publish(subject, body, headers={str(Header.MSG_ID.value): event_id})

    async def last(self, job_id: str, event_type: str) -> Logged | None:
        """Return the newest event of a type of a job; None where there is none. Raises Unavailable."""
        subject = subjects.event(job_id, event_type)
        with mapped_errors():
            try:
                found = await self._js.get_msg(subjects.EVENTS_STREAM, subject=subject, direct=True)
            except NotFoundError:
                return None
        return Logged(seq=found.seq or 0, subject=subject, body=found.data or b"")

    async def replay(self, pattern: str, after: int = 0) -> AsyncIterator[Logged]:
        """Yield the stored events on matching subjects with a sequence above `after`, in order. Raises Unavailable."""
        async for stored in scan(self._js, subjects.EVENTS_STREAM, pattern, after):
            yield Logged(seq=stored.seq, subject=stored.subject, body=stored.body)

    async def told_so_far(self, job_id: str) -> tuple[int, list[Segment]]:
        """Return the sequence of a job's newest event, 0 where there is none, and its transcript so far. Raises Unavailable."""
        last, found = 0, list[Segment]()
        async for logged in self.replay(subjects.all_events_of(job_id)):
            read = partial(inputs.job_event, logged.subject)
            last, event = logged.seq, usable(read, logged.subject, logged.seq, logged.body)
            if isinstance(event, events.SegmentAdded):
                found.append(event.segment)
        return last, found

    async def segments(self, job_id: str) -> list[Segment]:
        """Return the transcript of a job so far. Raises Unavailable."""
        found = []
        async for logged in self.replay(subjects.event(job_id, "segment")):
            read = partial(inputs.job_event, logged.subject)
            event = usable(read, logged.subject, logged.seq, logged.body)
            if isinstance(event, events.SegmentAdded):
                found.append(event.segment)
        return found

    @asynccontextmanager
    async def following(self, deliver: Callable[[Logged], Awaitable[None]]) -> AsyncIterator[None]:
        """Call `deliver` for each event from now on, once and in order, while the block runs.

        Raises Unavailable at the start. A later loss of the connection leaves no gap.
        """

        async def on_message(message: Msg) -> None:
            seq = message.metadata.sequence.stream
            await deliver(Logged(seq=seq, subject=message.subject, body=message.data))

        async with Follower(self._js, subjects.EVENTS_STREAM, subjects.ALL_EVENTS, on_message).running():
            yield
