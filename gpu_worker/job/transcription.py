"""One job on the engine, portion by portion: each segment is published when it is found, and each portion is committed.

A published segment is final, because the event log is the transcript. A worker that takes the job over after a crash transcribes the
first uncommitted portion once more: it finds the segments again that are published, and publishes those behind them. Where another
engine finds others, it begins behind the last published one instead. Where a portion has several channels, its segments are published
together when all are found, because they must be in order of time.
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

import msgspec

from broker.patience import patiently
from gpu_worker.audio import stretches
from gpu_worker.audio.plan import Plan, Portion
from gpu_worker.audio.stretches import Stretch
from gpu_worker.engine.process import EngineProcess
from gpu_worker.engine.protocol import Finished
from gpu_worker.job.claim import Claim
from gpu_worker.job.listening import GIVE_UP_SECS, Listening
from gpu_worker.job.segments import Differs, Published, in_order_of_time
from gpu_worker.job.storage import JobStorage
from gpu_worker.pcm import SAMPLE_RATE
from schemas.events import Progress, SegmentAdded
from schemas.job_lifecycle import Committed
from schemas.jobs import Segment

log = logging.getLogger(__name__)


class Transcription:
    """One run of a claimed job. It survives the loss of an engine, and goes on with the next one."""

    def __init__(
        self, claim: Claim, plan: Plan, storage: JobStorage, stop: asyncio.Event, abort_grace_secs: float
    ) -> None:
        """`stop` is set when the job must give up. An engine that ignores an abort so long is killed."""
        if claim.record is None:
            raise RuntimeError("the job is not claimed")
        self._record = record = claim.record
        self._plan, self._records, self._log = plan, storage.records, storage.events
        self._segments = list(claim.segments)
        self._last_seq = claim.last_seq
        self._percent = record.progress
        self._last: tuple[Portion, Finished | None] | None = None
        self._listening = Listening(record, stop, abort_grace_secs, self._publish_progress_within)
        self.publish_secs = 0.0
        """Seconds of waiting until segments and commits were stored."""

    @property
    def calls(self) -> list[Finished]:
        """The last reply of each call of the engine."""
        return self._listening.calls

    async def run(self, engine: EngineProcess) -> None:
        """Transcribe all stretches that are not committed yet, and commit each but the last, whose commit needs no engine.

        Where the engine is lost, this may be called again with another one: it goes on behind the last segment. While
        nats-server is away it waits. Raises Stopped, EngineRefused, EngineFailure; IllegalChange or Conflict where the job
        is not ours any more.
        """
        for number, portion in enumerate(self._plan.portions):
            if number < self._record.committed:
                continue
            log.info("job %s: stretch %d of %d", self._record.id, number + 1, len(self._plan.portions))
            finished = await self._transcribe_portion(engine, portion)
            if number + 1 < len(self._plan.portions):
                await self._commit(number + 1, portion, finished)
            else:
                self._last = portion, finished

    async def commit_last(self) -> None:
        """Commit the last stretch. Raises IllegalChange, Conflict."""
        if self._last is not None:
            await self._commit(len(self._plan.portions), *self._last)

    async def _transcribe_portion(self, engine: EngineProcess, portion: Portion) -> Finished | None:
        """Transcribe a portion. Returns the engine's first reply that has a language."""
        begin = min(piece.stretch[0][0] for piece in portion) / SAMPLE_RATE
        before = [segment for segment in self._segments if segment.start < begin]
        published = Published(self._segments, begin)
        try:
            if len(portion) == 1:
                return await self._listening.transcribe(
                    engine, portion[0], before, (0.0, 1.0), partial(self._publish_new, published)
                )
            found, finished = await self._all_channels(engine, portion, before)
            for segment in found:
                await self._publish_new(published, segment)
        except Differs:
            log.info("job %s: another engine has begun this stretch", self._record.id)
            await engine.give_up(GIVE_UP_SECS)
            return await self._rest(engine, portion)
        return finished

    async def _rest(self, engine: EngineProcess, portion: Portion) -> Finished | None:
        """Transcribe what lies behind the last published segment."""
        last = self._segments[-1]
        rest = [
            msgspec.structs.replace(piece, stretch=stretch)
            for piece in portion
            if (stretch := stretches.after(piece.stretch, last.end))
        ]
        if not rest:
            return None
        found, finished = await self._all_channels(engine, rest, self._segments)
        for segment in found:
            await self._publish(segment)
        return finished

    async def _all_channels(
        self, engine: EngineProcess, portion: Portion, before: list[Segment]
    ) -> tuple[list[Segment], Finished]:
        """Return the segments of all channels in order of time, and the first reply that has a language."""
        found = list[Segment]()

        async def keep(segment: Segment) -> None:
            found.append(segment)

        share = 1 / len(portion)
        replies = [
            await self._listening.transcribe(engine, piece, before, (number * share, share), keep)
            for number, piece in enumerate(portion)
        ]
        first = next((reply for reply in replies if reply.language is not None), replies[0])
        return in_order_of_time(found), first

    async def _publish_new(self, published: Published, segment: Segment) -> None:
        """Publish a segment, unless it is published already. Raises Differs."""
        if not published.is_again(segment):
            await self._publish(segment)

    async def _publish(self, segment: Segment) -> None:
        segment = msgspec.structs.replace(segment, index=len(self._segments))
        await self._append(SegmentAdded(job_id=self._record.id, at=datetime.now(UTC), segment=segment))
        self._segments.append(segment)

    async def _publish_progress_within(self, stretch: Stretch, fraction: float) -> None:
        seconds = fraction * stretches.length(stretch) / SAMPLE_RATE
        await self._publish_progress(
            int(100 * stretches.file_seconds(stretch, seconds) / self._plan.audio_secs)
        )

    async def _publish_progress(self, percent: int) -> None:
        """Publish the progress where it has grown. 100 is left to the end of the job."""
        percent = min(percent, 99)
        if percent > self._percent:
            self._percent = percent
            event = Progress(job_id=self._record.id, at=datetime.now(UTC), percent=percent)
            await self._append(event)

    async def _append(self, event: SegmentAdded | Progress) -> None:
        """Append an event behind our last one. The engine waits meanwhile, for as long as nats-server is away."""
        with self._publishing():
            self._last_seq = await patiently(
                f"job {self._record.id}: publishing", lambda: self._log.append_next(event, self._last_seq)
            )

    async def _commit(self, committed: int, portion: Portion, finished: Finished | None) -> None:
        record = self._record
        end = max(piece.stretch[-1][1] for piece in portion)
        await self._publish_progress(int(100 * end / self._plan.samples))
        change = Committed(
            at=datetime.now(UTC),
            epoch=record.epoch,
            committed=committed,
            progress=self._percent,
            language=record.language or (finished.language if finished else None),
            language_probability=record.language_probability
            or (finished.language_probability if finished else None),
        )
        with self._publishing():
            self._record = await patiently(
                f"job {record.id}: committing", lambda: self._records.change(record.id, change)
            )

    @contextmanager
    def _publishing(self) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.publish_secs += time.monotonic() - begun
