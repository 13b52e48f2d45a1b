"""One job on the engine, portion by portion: each segment is published when it is found, and each portion is committed.

A published segment is final, because the event log is the transcript. A worker that takes the job over after a crash begins
behind the last published segment of the first uncommitted portion. Where a portion has several channels, its segments are published
together when all are found, because they must be in order of time.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime

import msgspec

from broker.patience import patiently
from gpu_worker.audio import stretches
from gpu_worker.audio.plan import Piece, Plan, Portion
from gpu_worker.audio.stretches import Stretch
from gpu_worker.engine.failure import EngineFailure
from gpu_worker.engine.process import EngineProcess
from gpu_worker.engine.protocol import Aborted, Finished, ProgressMade, Rejected, SegmentFound, Transcribe
from gpu_worker.job import segments
from gpu_worker.job.claim import Claim
from gpu_worker.job.storage import JobStorage
from gpu_worker.model.model import Stopped
from gpu_worker.pcm import SAMPLE_RATE
from schemas.events import Progress, SegmentAdded
from schemas.job_lifecycle import Committed
from schemas.jobs import Segment
from schemas.languages import AUTO
from schemas.recordings import SPLIT

log = logging.getLogger(__name__)

Publish = Callable[[Segment], Awaitable[None]]


class EngineRefused(Exception):
    """The engine refuses this job's audio; the sentence says why."""


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
        self._stop, self._grace_secs = stop, abort_grace_secs
        self._segments = list(claim.segments)
        self._last_seq = claim.last_seq
        self._percent = record.progress
        self._last: tuple[Portion, Finished | None] | None = None
        self._languages: dict[int | None, str] = {}
        """The language that was found on each channel."""
        if record.language is not None and record.request.options.channels != SPLIT:
            self._languages[None] = record.language
        self.calls: list[Finished] = []
        """The last reply of each call of the engine."""
        self.publish_secs = 0.0
        """Seconds of waiting until segments and commits were stored."""

    async def run(self, engine: EngineProcess) -> None:
        """Transcribe all stretches that are not committed yet, and commit each but the last, whose commit needs no engine.

        Where the engine is lost, this may be called again with another one: it goes on behind the last segment. While
        nats-server is away it waits. Raises Stopped, EngineRefused, EngineFailure; IllegalChange or Conflict where the job
        is not ours any more.
        """
        done_secs = self._segments[-1].end if self._segments else 0.0
        for number, portion in enumerate(self._plan.portions):
            if number < self._record.committed:
                continue
            log.info("job %s: stretch %d of %d", self._record.id, number + 1, len(self._plan.portions))
            finished = await self._transcribe_portion(engine, portion, done_secs)
            if number + 1 < len(self._plan.portions):
                await self._commit(number + 1, portion, finished)
            else:
                self._last = portion, finished

    async def commit_last(self) -> None:
        """Commit the last stretch. Raises IllegalChange, Conflict."""
        if self._last is not None:
            await self._commit(len(self._plan.portions), *self._last)

    async def _transcribe_portion(
        self, engine: EngineProcess, portion: Portion, done_secs: float
    ) -> Finished | None:
        """Transcribe what is not published yet, which is behind `done_secs`. Returns the engine's first reply."""
        if len(portion) == 1:
            [piece] = portion
            rest = stretches.after(piece.stretch, done_secs)
            if not rest:
                return None
            piece = msgspec.structs.replace(piece, stretch=rest)
            return await self._transcribe(engine, piece, 0.0, 1.0, self._publish)
        found: list[Segment] = []
        replies = []

        async def keep(segment: Segment) -> None:
            found.append(segment)

        for number, piece in enumerate(portion):
            share = 1 / len(portion)
            replies.append(await self._transcribe(engine, piece, number * share, share, keep))
        last = self._segments[-1] if self._segments else None
        for segment in segments.in_order_of_time(found, last):
            await self._publish(segment)
        return next((reply for reply in replies if reply.language is not None), replies[0])

    async def _transcribe(
        self, engine: EngineProcess, piece: Piece, done: float, share: float, publish: Publish
    ) -> Finished:
        """Transcribe one piece, which is this share of its portion; `done` is the share that is behind us."""
        async with self._aborting_when_stopped(engine):
            try:
                return await self._listen(engine, piece, done, share, publish)
            except EngineFailure as error:
                # It ignored the abort, and was killed for that.
                if self._stop.is_set():
                    raise Stopped from error
                raise

    async def _listen(
        self, engine: EngineProcess, piece: Piece, done: float, share: float, publish: Publish
    ) -> Finished:
        async for reply in engine.transcribe(self._order(piece)):
            match reply:
                case SegmentFound():
                    if reply.text.strip():
                        await publish(segments.found(reply, piece))
                case ProgressMade(fraction=fraction):
                    await self._publish_progress_within(piece.stretch, done + fraction * share)
                case Finished(engine_secs=secs, idle_secs=idle):
                    self.calls.append(reply)
                    if reply.language is not None:
                        self._languages.setdefault(piece.channel, reply.language)
                    log.debug("engine: %.4f s in whisper_full after %.4f s of idling", secs, idle or 0.0)
                    return reply
                case Aborted():
                    raise Stopped
                case Rejected(reason=reason, fatal=fatal):
                    if fatal:
                        raise await engine.condemn(reason)
                    raise EngineRefused(reason)
                case other:
                    raise EngineRefused(f"unexpected {type(other).__name__}")
        raise EngineRefused("the engine ended without an answer")

    @asynccontextmanager
    async def _aborting_when_stopped(self, engine: EngineProcess) -> AsyncIterator[None]:
        aborting = asyncio.create_task(self._abort_when_stopped(engine), name=f"stop {self._record.id}")
        try:
            yield
        finally:
            # Not run_in_background: an error of the abort is the engine's death, which the reader of its replies reports.
            aborting.cancel()
            await asyncio.wait([aborting])

    async def _abort_when_stopped(self, engine: EngineProcess) -> None:
        await self._stop.wait()
        await engine.abort()
        await asyncio.sleep(self._grace_secs)
        # It ignored the abort. Whoever reads its replies sees its death.
        engine.kill()

    def _order(self, piece: Piece) -> Transcribe:
        options = self._record.request.options
        if options.language == AUTO and (known := self._languages.get(piece.channel)) is not None:
            options = msgspec.structs.replace(options, language=known)
        said = [s.text for s in self._segments if s.channel == piece.channel][-segments.PROMPT_SEGMENTS :]
        return Transcribe(
            call=0,
            pcm_path=str(piece.pcm),
            spans=piece.stretch,
            options=options,
            prompt=segments.prompt(options.prompt, "".join(said)),
        )

    async def _publish(self, segment: Segment) -> None:
        segment = msgspec.structs.replace(segment, index=len(self._segments))
        await self._append(SegmentAdded(job_id=self._record.id, at=datetime.now(UTC), segment=segment))
        self._segments.append(segment)

    async def _publish_progress_within(self, stretch: Stretch, fraction: float) -> None:
        seconds = fraction * stretches.length(stretch) / SAMPLE_RATE
        await self._publish_progress(
            int(100 * stretches.file_seconds(stretch, seconds, is_end=True) / self._plan.audio_secs)
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
