"""The server-sent events of one job: what is stored behind the client's position, then live events, up to the end.

Listening begins before the replay, and the stream sequence decides, so that no event is lost or sent twice. Where events which the
client has not seen are pruned already, a `snapshot` stands for them. The record says whether the job has ended, because its last
event may be late, unreadable or erased, and no stream may wait for it for ever.
"""

import asyncio
import logging
from collections.abc import AsyncIterator

from broker.errors import BrokerError
from broker.event_log import EventLog, Logged
from broker.job_records import has_ended
from gateway.operations.jobs import JobOperations
from gateway.streaming import sse
from gateway.streaming.fanout import Fanout, Listener, StreamOver
from schemas import events, inputs, subjects
from schemas.jobs import JobRecord

log = logging.getLogger(__name__)

ENDS_CACHED = 16
"""How many last frames are cached: they are large, and the same for all clients of a job."""
LOOK_SECS = 2.0
"""How long a heartbeat may wait for a look at the record."""


class JobStreams:
    """Makes the event streams of `GET /jobs/<id>/stream`."""

    def __init__(self, jobs: JobOperations, log: EventLog, fanout: Fanout, heartbeat_secs: float) -> None:
        self._jobs, self._log, self._fanout, self._heartbeat_secs = jobs, log, fanout, heartbeat_secs
        self._ends: dict[Logged, bytes] = {}
        self._ending = asyncio.Lock()

    async def resume_point(self, record: JobRecord, after: int) -> int:
        """Return `after`, the sequence that the client has seen last, where it can be one, and else 0. Raises Unavailable."""
        return await self._log.resume_point(subjects.job_topic(record.id), after)

    async def is_over(self, record: JobRecord, after: int) -> bool:
        """Whether the client has seen the end of the job. `after` is a resume point. Raises Unavailable."""
        if not after or not has_ended(record):
            return False
        end = await self._log.last(record.id, record.status)
        if end is not None:
            return after >= end.seq
        async for _ in self._log.replay(subjects.all_events_of(record.id)):
            # There are events, and the end would be pruned last: it is not stored yet.
            return False
        return after >= await self._log.first_sequence() - 1

    async def frames(self, record: JobRecord, after: int) -> AsyncIterator[bytes]:
        """Yield the frames behind the resume point `after`, up to the end of the job.

        The frames stop without an end where the stream cannot go on in this gateway, and the client may resume.
        """
        try:
            async with self._fanout.listening(subjects.job_topic(record.id)) as listener:
                if await self._is_pruned(record.id, after):
                    snapshot, after = await self._snapshot(record.id)
                    yield snapshot
                async for logged in self._stored_then_live(record.id, after, listener):
                    frame = sse.HEARTBEAT if logged is None else await self._frame(logged)
                    if frame is not None:
                        yield frame
                        if logged is not None and sse.is_terminal(logged.type):
                            return
            yield await self._end_without_event(record.id)
        except StreamOver:
            return
        except BrokerError as error:
            log.info("the event stream of job %s is cut, its client may resume: %s", record.id, error)

    async def _is_pruned(self, job_id: str, after: int) -> bool:
        """Whether events behind `after` may be pruned. The first event of a job is always `queued`."""
        if after:
            return after + 1 < await self._log.first_sequence()
        async for first in self._log.replay(subjects.all_events_of(job_id)):
            return first.type != subjects.QUEUED
        return True

    async def _snapshot(self, job_id: str) -> tuple[bytes, int]:
        """Return the frame of the job as it is, and the sequence behind which to go on."""
        seq = await self._log.first_sequence() - 1
        async for logged in self._log.replay(subjects.all_events_of(job_id)):
            # The end is sent as an event of its own.
            if not sse.is_terminal(logged.type):
                seq = logged.seq
        return sse.frame("snapshot", {"job": await self._jobs.view(await self._record(job_id))}, seq), seq

    async def _stored_then_live(
        self, job_id: str, after: int, listener: Listener
    ) -> AsyncIterator[Logged | None]:
        """Yield stored, then live events, and None after each pause as long as a heartbeat.

        It ends by itself where the job has ended and no stored event says so.
        """
        ended = await self._has_ended(job_id)
        while True:
            async for logged in self._log.replay(subjects.all_events_of(job_id), after):
                after = logged.seq
                yield logged
            # The job had ended before the replay, so that nothing follows.
            if ended:
                return
            while not ended:
                live = await listener.next(self._heartbeat_secs)
                if live is None:
                    yield None
                    ended = await self._has_ended(job_id)
                elif live.seq > after:
                    after = live.seq
                    yield live

    async def _has_ended(self, job_id: str) -> bool:
        """Whether the job has ended or is erased. False where nats-server cannot be asked now."""
        try:
            async with asyncio.timeout(LOOK_SECS):
                record = await self._jobs.records.get(job_id)
        except (BrokerError, TimeoutError) as error:
            log.debug("job %s: its record could not be looked at: %s", job_id, error)
            return False
        return record is None or has_ended(record)

    async def _frame(self, logged: Logged) -> bytes | None:
        """Return the frame of an event; None for one that clients do not get."""
        job_id = subjects.job_of(logged.subject)
        try:
            if not sse.is_terminal(logged.type):
                return sse.render(logged.type, logged.body, job_id, logged.seq)
            event = inputs.job_event(logged.subject, logged.body)
            record = event.record if isinstance(event, events.TerminalEvent) else None
        except inputs.Unreadable as error:
            log.warning("event %d on %s cannot be read: %s", logged.seq, logged.subject, error)
            record = await self._jobs.records.get(job_id) if sse.is_terminal(logged.type) else None
        return await self._end(logged, record) if record is not None and has_ended(record) else None

    async def _end(self, logged: Logged, record: JobRecord) -> bytes:
        # The lock makes one of a thousand clients read the transcript, and the others wait for it.
        async with self._ending:
            if logged not in self._ends:
                frame = sse.frame(record.status, {"job": await self._jobs.view(record)}, logged.seq)
                if len(self._ends) >= ENDS_CACHED:
                    self._ends.pop(next(iter(self._ends)))
                self._ends[logged] = frame
            return self._ends[logged]

    async def _end_without_event(self, job_id: str) -> bytes:
        record = await self._record(job_id)
        return sse.frame(record.status, {"job": await self._jobs.view(record)}, None)

    async def _record(self, job_id: str) -> JobRecord:
        """Return the record. Raises StreamOver where the job was erased, which the client learns when it resumes; Unavailable."""
        record = await self._jobs.records.get(job_id)
        if record is None:
            raise StreamOver
        return record
