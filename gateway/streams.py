"""The server-sent events of one job: what is stored behind the client's place, then what happens, up to its end.

Listening begins before replaying and the stream sequence decides, so no event is lost or told twice. Where events that
the client has not seen are pruned already, a `snapshot` stands for them.
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec

from broker.event_log import EventLog, Logged
from broker.job_records import has_ended
from gateway import sse
from gateway.fanout import Fanout, Listener, StreamOver
from gateway.job_service import JobService
from schemas import events, subjects
from schemas.jobs import JobRecord

ENDS_CACHED = 16
"""Last frames are large and the same for all clients of a job."""


class JobStreams:
    def __init__(self, jobs: JobService, log: EventLog, fanout: Fanout, heartbeat_secs: float) -> None:
        self._jobs, self._log, self._fanout, self._heartbeat_secs = jobs, log, fanout, heartbeat_secs
        self._ends: dict[int, bytes] = {}
        self._ending = asyncio.Lock()

    async def is_over(self, record: JobRecord, after: int) -> bool:
        """The client has seen the end: there is nothing more to come."""
        if not after or not has_ended(record):
            return False
        end = await self._log.last(record.id, record.status)
        return after >= (end.seq if end else await self._log.first_sequence() - 1)

    async def frames(self, record: JobRecord, after: int) -> AsyncIterator[bytes]:
        """`after` is the last sequence that the client has seen, 0 for none."""
        try:
            async with self._fanout.listening(subjects.job_topic(record.id)) as listener:
                if await self._is_pruned(record.id, after):
                    snapshot, after = await self._snapshot(record.id)
                    yield snapshot
                async for logged in self._stored_then_live(record.id, after, listener):
                    if logged is None:
                        yield sse.HEARTBEAT
                        continue
                    if (frame := await self._frame(logged)) is not None:
                        yield frame
                    if sse.is_terminal(logged.type):
                        return
        except StreamOver:
            return
        ended = await self._jobs.record(record.id)
        yield sse.frame(ended.status, {"job": await self._jobs.job(ended)}, None)

    async def _is_pruned(self, job_id: str, after: int) -> bool:
        """Whether events behind `after` may be gone. From the beginning, the first is always `queued`."""
        if after:
            return after + 1 < await self._log.first_sequence()
        async for first in self._log.replay(subjects.all_events_of(job_id)):
            return first.type != subjects.QUEUED
        return True

    async def _snapshot(self, job_id: str) -> tuple[bytes, int]:
        """The job as it is, and the sequence behind which to go on."""
        seq = await self._log.first_sequence() - 1
        async for logged in self._log.replay(subjects.all_events_of(job_id)):
            if not sse.is_terminal(logged.type):  # the end is told as an event of its own
                seq = logged.seq
        job = await self._jobs.job(await self._jobs.record(job_id))
        return sse.frame("snapshot", {"job": job}, seq), seq

    async def _stored_then_live(
        self, job_id: str, after: int, listener: Listener
    ) -> AsyncIterator[Logged | None]:
        """None is a pause as long as a heartbeat. Ends by itself only if the job has ended and its end is pruned."""
        async for logged in self._log.replay(subjects.all_events_of(job_id), after):
            after = logged.seq
            yield logged
        record = await self._jobs.record(job_id)
        if has_ended(record) and not await self._log.last(job_id, record.status):
            return
        while True:
            live = await listener.next(self._heartbeat_secs)
            if live is None or live.seq > after:
                yield live

    async def _frame(self, logged: Logged) -> bytes | None:
        if not sse.is_terminal(logged.type):
            return sse.render(logged.type, logged.body, subjects.job_of(logged.subject), logged.seq)
        async with self._ending:  # a thousand clients of a job wait for one of them to read its transcript
            if logged.seq not in self._ends:
                record = msgspec.json.decode(logged.body, type=events.TerminalEvent).record
                frame = sse.frame(logged.type, {"job": await self._jobs.job(record)}, logged.seq)
                if len(self._ends) >= ENDS_CACHED:
                    self._ends.pop(next(iter(self._ends)))
                self._ends[logged.seq] = frame
            return self._ends[logged.seq]
